# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans for disks: what is done, and what is refused before anything is."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition, InvalidArgument, Violation, VmcpError
from ansible_collections.unkey.vmcp.plugins.module_utils.model.disk import DiskRequest, FileSystem, Source
from ansible_collections.unkey.vmcp.plugins.module_utils.model.disk_record import DiskRecord
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.disk_situation import DiskSituation, DiskUser, Origin
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.disks import DiskPlan, plan_disk

GIB = 1 << 30
RECORD = DiskRecord("d", "/d/disk.raw", "raw", 2 * GIB, filesystem={"type": "ext4", "label": None, "uuid": "u"})
RUNNING = DiskUser("web", "d", runs=True, live=True)
DEAF = DiskUser("old", "d", runs=True)


def plan(found: DiskSituation, lacks: t.Sequence[Violation] = (), **asked: t.Any) -> DiskPlan:
    return plan_disk(DiskRequest("d", **asked), found, "/d/disk.raw", lacks, "now")


def there(*users: DiskUser, **more: t.Any) -> DiskSituation:
    return DiskSituation("d", RECORD, users=users, **more)


def test_nothing_to_do_is_nothing() -> None:
    for asked in ({}, {"size_bytes": 2 * GIB}, {"filesystem": FileSystem("ext4")}, {"format": "raw"}):
        assert plan(there(RUNNING), **asked).steps == ()
    assert plan(DiskSituation("d"), state="absent").steps == ()


def test_making_says_what_will_be() -> None:
    made = plan(DiskSituation("d"), size_bytes=GIB, filesystem=FileSystem("ext4", "x"))
    assert made.steps == ("make",) and made.diff()["after"]["filesystem"] == {"type": "ext4", "label": "x", "uuid": None}
    clone = plan(DiskSituation("d", origin=Origin("/i", "raw", GIB, "sha256:1")), source=Source("image", "debian"), size_bytes=2 * GIB)
    assert clone.record is not None and clone.record.source == {"kind": "image", "name": "debian", "digest": "sha256:1"}
    lack = Violation("source.image", "is not here")
    assert plan(DiskSituation("d"), [lack], source=Source("image", "debian")).would_need == (lack,)


def test_growing_is_live_where_every_vmm_can_be_told() -> None:
    assert plan(there(), size_bytes=3 * GIB).steps == ("grow",)
    assert plan(there(RUNNING), size_bytes=3 * GIB).steps == ("grow_live",)
    assert plan(there(), size_bytes=3 * GIB, filesystem=FileSystem("ext4", grow=True)).steps == ("grow", "grow_filesystem")
    late = plan(there(RUNNING, DEAF), size_bytes=3 * GIB, apply="next_boot")
    assert late.steps == ("grow",) and late.pending == ("web", "old")


def test_a_vmm_that_cannot_be_told_is_restarted_where_that_is_allowed() -> None:
    with pytest.raises(FailedPrecondition) as refused:
        plan(there(RUNNING, DEAF), size_bytes=3 * GIB)
    assert "Set allow_disruption: restart" in refused.value.msg and "apply: next_boot" in refused.value.msg
    assert [one.as_dict() for one in refused.value.violations] == [{"field": "size", "message": "needs allow_disruption: restart while VM old runs"}]
    assert refused.value.details == {"disruption": "restart"}
    for allowed in ("restart", "recreate", "replace_data"):
        alone = plan(there(DEAF), size_bytes=3 * GIB, allow_disruption=allowed)
        assert alone.steps == ("shutdown", "grow", "start") and alone.restarts == ("old",) and alone.disruption == "restart" and not alone.pending
    assert alone.diff()["before"]["VM old"] == "running" and alone.diff()["after"]["VM old"] == "restarted"
    at_once = plan(there(DEAF), size_bytes=3 * GIB, allow_disruption="restart", shutdown_timeout=0, filesystem=FileSystem("ext4", grow=True))
    assert at_once.steps == ("kill", "grow", "grow_filesystem", "start"), "nobody has it open in between"
    both = plan(there(RUNNING, DEAF), size_bytes=3 * GIB, allow_disruption="restart")
    assert both.steps == ("shutdown", "grow_live", "start") and both.restarts == ("old",), "one that can be told is told"
    for users in ((RUNNING,), (), (DiskUser("down", "d"),)):
        assert plan(there(*users), size_bytes=3 * GIB, allow_disruption="restart").disruption == "none", "nothing that runs needs it"
    assert plan(there(DEAF), allow_disruption="restart").steps == (), "it has grown already"
    later = plan(there(DEAF), size_bytes=3 * GIB, allow_disruption="restart", apply="next_boot")
    assert later.steps == ("grow",) and later.pending == ("old",) and later.disruption == "none"


def test_a_restart_that_was_cut_off_is_finished() -> None:
    left_down = DiskUser("old", "d", interrupted=True)
    assert plan(there(left_down), size_bytes=3 * GIB, allow_disruption="restart").steps == ("grow", "start")
    grown = plan(there(left_down), size_bytes=2 * GIB, allow_disruption="restart")
    assert grown.steps == ("start",) and grown.restarts == ("old",)
    assert plan(there(left_down), size_bytes=3 * GIB).steps == ("grow",), "who does not allow a restart starts nobody"


@pytest.mark.parametrize(
    ("found", "asked", "text"),
    [
        (there(DEAF), {"size_bytes": 3 * GIB}, "VM old runs, and its VMM cannot be told"),
        (there(), {"size_bytes": GIB}, "set force: true"),
        (there(RUNNING), {"size_bytes": GIB, "force": True}, "VM web runs with disk d"),
        (there(holds="btrfs file system"), {"size_bytes": GIB, "force": True}, "holds btrfs file system, which cannot be shrunk"),
        (there(holds="ext4 file system", least_bytes=GIB + 1), {"size_bytes": GIB, "force": True}, "takes at least"),
        (there(DiskUser("web", "d")), {"state": "absent"}, "used by VM web"),
        (DiskSituation("d", broken="disk.json is torn."), {}, "disk.json is torn"),
        (DiskSituation("d", broken="disk.json is torn."), {"state": "absent"}, "With force: true"),
        (there(), {"format": "qcow2"}, "disk d is raw"),
        (there(), {"filesystem": FileSystem("xfs")}, "was made with ext4"),
        (there(), {"source": Source("disk", "other")}, "was cloned from nothing"),
    ],
)
def test_what_is_refused_says_why_and_what_to_do(found: DiskSituation, asked: dict[str, t.Any], text: str) -> None:
    with pytest.raises(FailedPrecondition) as refused:
        plan(found, **asked)
    assert text in refused.value.msg


def test_a_clone_is_never_torn_nor_cut_off() -> None:
    source = Source("disk", "other")
    with pytest.raises(FailedPrecondition, match="a clone of it would be torn"):
        plan(DiskSituation("d", origin=Origin("/o", "raw", GIB, users=(RUNNING,))), source=source)
    with pytest.raises(InvalidArgument, match="less than its source"):
        plan(DiskSituation("d", origin=Origin("/o", "raw", GIB)), source=source, size_bytes=GIB // 2)
    reader = DiskUser("web", "d", read_only=True, runs=True)
    assert plan(DiskSituation("d", origin=Origin("/o", "raw", GIB, users=(reader,))), source=source).steps == ("make",)


def test_force_removes_what_is_used_and_names_who_loses_it() -> None:
    removal = plan(there(RUNNING), state="absent", force=True)
    assert removal.steps == ("remove",) and "VM web used disk d" in removal.notices[0]
    with pytest.raises(VmcpError):
        plan(there(RUNNING), state="absent")
