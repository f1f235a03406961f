# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VMs go without being named, and when none may."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.plugins.module_utils.model.pruning import PruneRule, read_prune
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.prune import Surplus, surplus

FLEET = {"fleet": "fn"}


def vm(name: str, **beside: t.Any) -> Definition:
    return Definition(**{"name": name, "backend": "qemu", "backend_version": "7.2", "binary": "/q", "config": {}, "labels": FLEET, **beside})


def there(*vms: Definition) -> dict[str, Definition]:
    return {one.name: one for one in vms}


def rule(value: t.Any, *, declares_nothing: bool = False) -> PruneRule:
    found, violations = read_prune(value, declares_nothing=declares_nothing)
    assert found is not None and violations == []
    return found


@pytest.mark.parametrize(
    ("value", "declares_nothing", "fields"),
    [
        ({"labels": FLEET}, True, ["vms"]),
        ({"labels": {}}, False, ["prune.labels"]),
        ({}, False, ["prune.labels"]),
        ({}, True, ["prune.labels", "vms"]),
        ("all", False, ["prune"]),
        ({"labels": ["fleet"]}, False, ["prune.labels"]),
        ({"labels": {"fleet": None}}, False, ["prune.labels.fleet"]),
        ({"labels": FLEET, "max": "110%"}, False, ["prune.max"]),
        ({"labels": FLEET, "max": -1}, False, ["prune.max"]),
        ({"labels": FLEET, "max": True}, False, ["prune.max"]),
        ({"labels": FLEET, "mx": 1}, False, ["prune.mx"]),
        ({"labels": FLEET, "allow_empty": "perhaps"}, False, ["prune.allow_empty"]),
    ],
)
def test_what_could_hurt_by_accident_is_a_violation(value: t.Any, declares_nothing: bool, fields: list[str]) -> None:
    found, violations = read_prune(value, declares_nothing=declares_nothing)
    assert found is None and [violation.field for violation in violations] == fields


def test_what_is_meant_is_allowed() -> None:
    assert read_prune(None, declares_nothing=True) == (None, [])
    assert rule({"allow_empty": "true"}, declares_nothing=True) == PruneRule({})
    assert rule({"labels": {"a": 1, "b": True}, "max": "10 %"}) == PruneRule({"a": "1", "b": "true"}, 10, True)


def test_only_undeclared_vms_with_all_labels_go() -> None:
    vms = there(vm("a"), vm("b"), vm("c", labels={"fleet": "other"}), vm("d", labels={}), vm("e", labels={**FLEET, "x": "y"}), vm("f", protected=True))
    assert surplus(rule({"labels": FLEET}), {}, {"a"}, vms) == Surplus(("b", "e"), (), ("f",))
    assert surplus(rule({"labels": {**FLEET, "x": "y"}}), {}, {"a"}, vms).names == ("e",)
    assert surplus(rule({"allow_empty": True}), {}, {"a"}, vms).names == ("b", "c", "d", "e")
    assert surplus(None, {}, {"a"}, vms) == Surplus()


@pytest.mark.parametrize(("most", "allowed"), [(2, True), (1, False), ("50%", True), ("49%", False), ("0%", False), (0, False), (None, True)])
def test_never_more_than_max(most: t.Any, allowed: bool) -> None:
    vms = there(*(vm(name) for name in "abcd"))
    asked = rule({"labels": FLEET, "max": most})
    if allowed:
        assert surplus(asked, {}, {"a", "b"}, vms).pruned == ("c", "d")
        return
    with pytest.raises(FailedPrecondition, match=r"would remove 2 of 4 VMs with its labels \(c, d\), and prune\.max .* Nothing was done") as caught:
        surplus(asked, {}, {"a", "b"}, vms)
    assert caught.value.details == {"prune": ["c", "d"]}


def test_a_share_is_rounded_down_and_protected_vms_do_not_count_as_removed() -> None:
    vms = there(*(vm(name) for name in "abc"), vm("d", protected=True))
    assert surplus(rule({"labels": FLEET, "max": "25%"}), {}, {"a", "b"}, vms) == Surplus(("c",), (), ("d",))
    with pytest.raises(FailedPrecondition, match=r"prune\.max 24% allows 0"):
        surplus(rule({"labels": FLEET, "max": "24%"}), {}, {"a", "b"}, vms)


def test_a_group_loses_its_highest_members_alone() -> None:
    group = "fn-{index:02d}"
    vms = there(
        *(vm(f"fn-{index:02d}", group=group, labels={}) for index in range(4)),
        vm("fn-09", labels={}),
        vm("fn-08", group="fn-{index}", labels={}),
        vm("fn-07", group=group, labels={}, protected=True),
        vm("other", group=group, labels={}),
    )
    assert surplus(None, {group: 2}, {"fn-00", "fn-01"}, vms) == Surplus((), ("fn-02", "fn-03"), ("fn-07",))
    assert surplus(None, {group: 2}, {"fn-00", "fn-01", "fn-03"}, vms).shrunk == ("fn-02",), "declared by an entry of its own"
    assert surplus(None, {"fn-{index:03d}": 0}, set(), vms) == Surplus()


def test_shrinking_is_asked_for_and_not_bounded_by_prunes_max() -> None:
    group = "fn-{index}"
    vms = there(*(vm(f"fn-{index}", group=group) for index in range(5)))
    assert surplus(rule({"labels": FLEET, "max": 0}), {group: 1}, {"fn-0"}, vms) == Surplus((), ("fn-1", "fn-2", "fn-3", "fn-4"), ())
