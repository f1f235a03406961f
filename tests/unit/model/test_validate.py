# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import random
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import InvalidArgument
from ansible_collections.unkey.vmcp.plugins.module_utils.model.shape import SHAPE
from ansible_collections.unkey.vmcp.plugins.module_utils.model.validate import read_config, validate, validate_given
from ansible_collections.unkey.vmcp.tests.cases import FIXTURES, assert_violations, load_cases
from ansible_collections.unkey.vmcp.tests.trees import random_tree

EXAMPLES = sorted((FIXTURES / "example-configs").glob("*.json"))


@pytest.mark.parametrize("case", load_cases(__file__, "violations"))
def test_all_violations_at_once_each_with_its_path(case: dict[str, t.Any]) -> None:
    config, violations = validate(case["config"])
    assert_violations(violations, case["violations"])
    assert (config is None) == bool(case["violations"])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_users_configurations_are_accepted_inner_and_outer(path: t.Any) -> None:
    outer = json.loads(path.read_text())
    config, violations = validate(outer)
    assert violations == []
    assert config == validate(outer["config"])[0]


def test_there_are_six_examples() -> None:
    assert len(EXAMPLES) == 6


def test_the_path_in_messages_can_be_another() -> None:
    _config, violations = validate({"cpu": {"vcpu_count": 0}, "storage": [{}]}, "vms[3].config")
    assert [violation.field for violation in violations] == ["vms[3].config.cpu.vcpu_count", "vms[3].config.storage[0]"]


def test_what_was_given_keeps_nulls_and_leaves_out_defaults() -> None:
    tree = {"cpu": {"vcpu_count": "2", "nested": None}, "storage": [{"path": "/a", "format": None}], "vsock": None, "network": None, "rng": {}}
    _config, _violations, given = validate_given(tree)
    assert given == {"cpu": {"vcpu_count": 2, "nested": None}, "storage": [{"path": "/a", "format": None}], "vsock": None, "network": None, "rng": {}}


def test_bytes_take_suffixes_wherever_they_stand() -> None:
    limit = {"bandwidth": {"size": "10M", "refill_ms": 100, "burst": "1k"}, "ops": {"size": 7, "refill_ms": 1}}
    config = read_config({"storage": [{"path": "/a", "rate_limit": limit}], "network": [{"tap_device": "t", "rate_limit_rx": limit}]})
    for found in (config.storage[0].rate_limit, config.network[0].rate_limit_rx):
        assert found is not None and found.bandwidth is not None and found.ops is not None
        assert (found.bandwidth.size, found.bandwidth.burst, found.ops.size) == (10 << 20, 1024, 7)
    counted = {"ops": {"size": "7K", "refill_ms": 1}, "bandwidth": {"size": "7Q", "refill_ms": 1}}
    violations = {v.field: v.message for v in validate({"storage": [{"path": "/a", "rate_limit": counted}]})[1]}
    assert "is not a size" in violations["config.storage[0].rate_limit.bandwidth.size"]
    assert "must be a whole number" in violations["config.storage[0].rate_limit.ops.size"], "operations are counted one by one"


def test_read_config_raises_with_all_violations() -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_config({"cpu": {"vcpu_count": 0}, "x": 1})
    assert caught.value.msg == "config.x: is no key of the configuration. Known here: " + ", ".join(SHAPE) + ". (1 more in 'violations')"
    assert len(caught.value.violations) == 2


def test_any_tree_gives_a_configuration_or_violations_and_never_a_traceback() -> None:
    chance = random.Random(20261120)
    outcomes = set()
    for _round in range(1500):
        tree = random_tree(chance, SHAPE)
        config, violations = validate(tree)
        outcomes.add(config is None)
        assert (config is None) == bool(violations), tree
        for violation in violations:
            assert violation.field.startswith("config") and violation.field.isprintable()
            assert violation.message.isprintable() and len(violation.message) < 500
            assert violation.message.endswith((".", "?")), violation.message
    assert outcomes == {True, False}


def test_a_document_of_any_depth_is_no_danger() -> None:
    deep: t.Any = {}
    for _level in range(5000):
        deep = {"a": deep}
    _config, violations = validate({"backend_options": {"firecracker": deep}})
    assert_violations(violations, {"config.backend_options.firecracker": "levels deep"})
