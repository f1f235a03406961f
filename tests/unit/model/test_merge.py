# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import copy
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.model.config import VmConfig
from ansible_collections.unkey.vmcp.plugins.module_utils.model.merge import changed_fields, fill_defaults, merge_config
from ansible_collections.unkey.vmcp.plugins.module_utils.model.validate import validate_given
from ansible_collections.unkey.vmcp.tests.cases import load_cases


def _given(tree: t.Any, stored: dict[str, t.Any]) -> dict[str, t.Any]:
    config, violations, given = validate_given(tree, stored=stored)
    assert config is not None, violations
    return given


def _contains(tree: t.Any, part: t.Any) -> bool:
    """Whether every key of C(part) is in C(tree) with that value; lists entry by entry."""
    if isinstance(part, dict):
        return isinstance(tree, dict) and all(key in tree and _contains(tree[key], value) for key, value in part.items())
    if isinstance(part, list):
        return isinstance(tree, list) and len(tree) == len(part) and all(_contains(a, b) for a, b in zip(tree, part, strict=True))
    return bool(tree == part)


@pytest.mark.parametrize("case", load_cases(__file__, "merging"))
def test_merging(case: dict[str, t.Any]) -> None:
    stored: dict[str, t.Any] = {}
    for earlier in case["stored"]:
        stored = fill_defaults(merge_config(stored, _given(earlier, stored)))
    before = copy.deepcopy(stored)
    merged = fill_defaults(merge_config(stored, _given(case["given"], stored)))
    assert stored == before, "what was stored was changed in place"
    assert _contains(merged, case["merged"]), merged
    assert changed_fields(stored, merged) == case["changed"]
    assert merge_config(merged, _given(case["given"], stored)) == merged, "the same given again changes nothing"
    assert VmConfig.model_validate(merged).model_dump() == merged


def test_the_defaults_of_creation_are_the_models() -> None:
    assert fill_defaults({}) == VmConfig().model_dump()


def test_defaults_are_nobodys_to_change() -> None:
    fill_defaults({})["storage"].append({"path": "/a"})
    assert fill_defaults({})["storage"] == []


def test_a_full_tree_stays_as_it_is() -> None:
    tree = {"cpu": {"topology": {"packages": 1}}, "storage": [{"id": "a", "path": "/a"}], "vsock": {}, "backend_options": {"qemu": {}}}
    full = fill_defaults(tree)
    assert fill_defaults(full) == full == VmConfig.model_validate(tree).model_dump()


def test_keys_of_another_version_are_kept_and_their_changes_told() -> None:
    stored = {"cpu": {"vcpu_count": 2, "later": 1}, "future": {"a": 1}}
    merged = fill_defaults(merge_config(stored, {"cpu": {"vcpu_count": 3}}))
    assert (merged["cpu"]["later"], merged["future"]) == (1, {"a": 1})
    assert changed_fields(stored, {**merged, "future": 2}) == ["config.cpu.vcpu_count", "config.future"]
