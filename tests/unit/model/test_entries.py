# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries of vmcp_vms: merging over defaults, names, groups, and where a violation is said to stand."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import Violation
from ansible_collections.unkey.vmcp.plugins.module_utils.model import requests as requests_module
from ansible_collections.unkey.vmcp.plugins.module_utils.model.entries import COUNT_MAX, Entries, read_entries
from ansible_collections.unkey.vmcp.plugins.module_utils.model.entry_merge import blame, merge_entry
from ansible_collections.unkey.vmcp.plugins.module_utils.model.patterns import NamePattern
from ansible_collections.unkey.vmcp.plugins.module_utils.model.requests import Requests

KERNEL = {"boot": {"kernel_path": "/k"}}


@pytest.mark.parametrize(
    ("defaults", "entry", "merged"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"labels": {"x": "1", "y": "2"}}, {"labels": {"y": "3"}}, {"labels": {"x": "1", "y": "3"}}),
        ({"disks": ["/a", "/b"]}, {"disks": ["/c"]}, {"disks": ["/c"]}),
        ({"disks": ["/a"]}, {"disks": []}, {"disks": []}),
        ({"labels": {"x": "1"}}, {"labels": None}, {}),
        ({"labels": {"x": "1", "y": "2"}}, {"labels": {"x": None}}, {"labels": {"y": "2"}}),
        ({"config": KERNEL}, {"config": {"boot": {"kernel_path": None, "kernel_args": "q"}}}, {"config": {"boot": {"kernel_args": "q"}}}),
        # A null without a default asks for the default of creation; it stays.
        ({}, {"config": {"rng": None}}, {"config": {"rng": None}}),
        # A short option and its place in the tree are one value.
        ({"memory": "1G"}, {"config": {"memory": {"size_bytes": 1}}}, {"config": {"memory": {"size_bytes": 1}}}),
        (
            {"config": {"memory": {"size_bytes": 1, "shared": True}, **KERNEL}},
            {"memory": "2G"},
            {"config": {"memory": {"shared": True}, **KERNEL}, "memory": "2G"},
        ),
        ({"kernel": "/k"}, {"kernel": None}, {}),
        # The document of the existing API, on either side.
        ({"config": {"config": KERNEL}}, {"config": {"rng": {}}}, {"config": {**KERNEL, "rng": {}}}),
        ({"config": {"rng": {}}}, {"config": {"config": KERNEL}}, {"config": {**KERNEL, "rng": {}}}),
        ({"config": "wrong"}, {"config": {"rng": {}}}, {"config": {"rng": {}}}),
    ],
)
def test_merging(defaults: dict[str, t.Any], entry: dict[str, t.Any], merged: dict[str, t.Any]) -> None:
    before = repr((defaults, entry))
    assert merge_entry(defaults, entry) == merged
    assert repr((defaults, entry)) == before


def read(vms: t.Any, defaults: t.Any = None, secrets: t.Any = None) -> Entries:
    found = read_entries(vms, defaults, secrets)
    assert found.violations == []
    return found


def test_lists_and_dictionaries_say_the_same() -> None:
    as_list = read([{"name": "a", "memory": "1G"}, "b", {"name": 7}], {"state": "running"}).listed
    as_dict = read({"a": {"memory": "1G"}, "b": None, 7: {}}, {"state": "running"}).listed
    assert [entry.options for entry in as_list] == [entry.options for entry in as_dict]
    assert as_list[0].options == {"name": "a", "memory": "1G", "state": "running"}
    assert ([e.path for e in as_list], [e.path for e in as_dict]) == (["vms[0]", "vms[1]", "vms[2]"], ["vms.a", "vms.b", "vms.7"])
    assert read([{"name": "a"}]).listed[0].options["state"] == "present"


def test_a_group_is_its_members() -> None:
    found = read([{"name": "fn-{index:04d}", "count": "3", "priority": "5"}, {"name": "fn-{index}", "count": 0}])
    assert [entry.name for entry in found.listed] == ["fn-0000", "fn-0001", "fn-0002"]
    assert {(entry.group, entry.priority, entry.path) for entry in found.listed} == {("fn-{index:04d}", 5, "vms[0]")}
    assert len({entry.likeness for entry in found.listed}) == 1
    assert found.groups == {"fn-{index:04d}": 3, "fn-{index}": 0}
    assert not {"count", "priority"} & found.listed[0].options.keys()


def test_priority_of_the_defaults() -> None:
    found = read(["a", {"name": "b", "priority": 1}], {"priority": 3})
    assert [entry.priority for entry in found.listed] == [3, 1]


@pytest.mark.parametrize(
    ("vms", "field", "words"),
    [
        ("web", "vms", "must be a list of entries, or a dictionary"),
        (None, "vms", "must be a list"),
        ([["a"]], "vms[0]", "must be a dictionary"),
        ([{}], "vms[0].name", "is required"),
        ([{"name": "A b"}], "vms[0].name", "must be 1 to 63 characters"),
        ({"A": {}}, "vms.A", "must be 1 to 63 characters"),
        ({"a": {"name": "b"}}, "vms.a.name", "differs from a"),
        (["a", {"name": "a"}], "vms[1]", "declares the VM a, which vms[0] declares already"),
        ([{"name": "a-{index}", "count": 2}, "a-1"], "vms[1]", "which vms[0] declares already"),
        ([{"name": "a", "count": 2}], "vms[0].count", "needs a name with {index}"),
        ([{"name": "a-{index}"}], "vms[0].count", "is required with the name a-{index}"),
        ([{"name": "a-{index}", "count": True}], "vms[0].count", "whole number"),
        ([{"name": "a-{index}", "count": COUNT_MAX + 1}], "vms[0].count", "whole number, 0 to"),
        ([{"name": "a-{index}-{index}", "count": 1}], "vms[0].name", "a name with one {index}"),
        ([{"name": "a-{index:>4}", "count": 1}], "vms[0].name", "a name with one {index}"),
        ([{"name": "a-{number}", "count": 1}], "vms[0].name", "a name with one {index}"),
        ([{"name": "{index}-" + "a" * 62, "count": 1}], "vms[0].name", "makes names like"),
        ([{"name": "a", "priority": "high"}], "vms[0].priority", "whole number"),
        ([{"name": "a", "state_dir": "/x"}], "vms[0].state_dir", "once for the whole task"),
        ([{"name": "a", "endpoint": "unix:///x"}], "vms[0].endpoint", "unkey.vmcp.vmcp_vm"),
        ([{"name": "a", "metadata": {}}], "vms[0].metadata", "secrets.NAME.metadata"),
    ],
)
def test_what_is_wrong_with_an_entry(vms: t.Any, field: str, words: str) -> None:
    (violation,) = read_entries(vms, None, None).violations
    assert violation.field == field and words in violation.message, violation


@pytest.mark.parametrize(
    ("defaults", "secrets", "field"),
    [
        ([], None, "defaults"),
        ({"name": "x"}, None, "defaults.name"),
        ({"metadata": {}}, None, "defaults.metadata"),
        ({"priority": 1.5}, None, "defaults.priority"),
        (None, ["x"], "secrets"),
        (None, {"b": {}}, "secrets.b"),
        (None, {"a": {"token": "do-not-show"}}, "secrets.a"),
        (None, {"a": "do-not-show"}, "secrets.a"),
    ],
)
def test_what_is_wrong_beside_the_entries(defaults: t.Any, secrets: t.Any, field: str) -> None:
    (violation,) = read_entries(["a"], defaults, secrets).violations
    assert violation.field == field and "do-not-show" not in violation.message


def test_secrets_go_to_a_vm_or_to_its_group() -> None:
    secrets = {"g-{index}": {"metadata": {"k": 1}}, "g-1": {"metadata": {"k": 2}}, "a": {"metadata": None}}
    found = read([{"name": "g-{index}", "count": 3}, "a"], None, secrets)
    assert [entry.options.get("metadata") for entry in found.listed] == [{"k": 1}, {"k": 2}, {"k": 1}, None]
    assert [entry.secrets for entry in found.listed] == ["g-{index}", "g-1", "g-{index}", None]
    likenesses = [entry.likeness for entry in found.listed]
    assert likenesses[0] == likenesses[2] != likenesses[1]


def test_a_violation_is_said_where_the_value_stands() -> None:
    defaults = {"config": {"memory": {"size_bytes": "1Q"}}, "labels": 3}

    def said(field: str, written: dict[str, t.Any], secrets: str | None = None) -> str:
        return blame(Violation(field, "wrong"), "vms[0]", written, defaults, secrets).field

    assert said("config.memory.size_bytes", {"name": "a"}) == "defaults.config.memory.size_bytes"
    assert said("config.memory.size_bytes", {"config": {"memory": {"size_bytes": "2Q"}}}) == "vms[0].config.memory.size_bytes"
    assert said("config.storage[1].path", {"config": {"storage": [{}, {}]}}) == "vms[0].config.storage[1].path"
    assert said("labels", {}) == "defaults.labels"
    assert said("backend", {}) == "vms[0].backend", "nobody wrote it"
    assert said("", {}) == "vms[0]"
    assert said("metadata", {}, "a") == "secrets.a.metadata"


def test_what_is_alike_is_validated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    real = requests_module.validate_request

    def counted(options: t.Mapping[str, t.Any], **more: t.Any) -> t.Any:
        calls.append(options["name"])
        return real(options, **more)

    monkeypatch.setattr(requests_module, "validate_request", counted)
    found = read([{"name": "g-{index}", "count": 500}, {"name": "a", "memory": "1G"}], {"memory": "128M"})
    requests = Requests({"memory": "128M"}, lambda options: [])
    made = [requests.read(entry, {})[0] for entry in found.listed]
    assert calls == ["g-0", "a"]
    assert [request.name for request in made if request] == [entry.name for entry in found.listed]
    assert made[0] is not None and made[0].group == "g-{index}" and made[0].config == {"memory": {"size_bytes": 128 << 20}}
    assert made[-1] is not None and made[-1].group is None and made[-1].config == {"memory": {"size_bytes": 1 << 30}}


@pytest.mark.parametrize(("text", "name", "index"), [("a-{index:03d}", "a-007", 7), ("{index}x", "12x", 12), ("a{index:d}", "a0", 0)])
def test_a_pattern_knows_its_names(text: str, name: str, index: int) -> None:
    pattern = NamePattern.read(text)
    assert pattern.name(index) == name and pattern.index(name) == index


@pytest.mark.parametrize("name", ["a-07", "a-7", "a-0007", "b-007", "a-", "a-00x", "a-\u0667\u0667\u0667", "a"])
def test_a_pattern_takes_no_other_name_for_its_own(name: str) -> None:
    assert NamePattern.read("a-{index:03d}").index(name) is None
