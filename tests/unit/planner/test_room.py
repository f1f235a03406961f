# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host has room for what is to be started."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.room import Room, beyond_the_host, lacks_room

GIB = 1 << 30
ROOM = Room(memory_total=16 * GIB, memory_available=12 * GIB, hugepages_free={2 << 20: 2 * GIB}, tasks_free=10_000, files_free=None, uids_free=1000)


def vm(gib: float = 1, vcpus: int = 1, **memory: t.Any) -> Definition:
    return Definition("web", "qemu", "7.2", "/q", {"cpu": {"vcpu_count": vcpus}, "memory": {"size_bytes": int(gib * GIB), "hugepages": False, **memory}})


@pytest.mark.parametrize(
    ("starting", "running", "room", "words"),
    [
        ([vm(11)], [], {}, None),
        ([vm(13)], [], {}, "want 13.0 GiB of memory, and 12.0 GiB of this host's memory are available"),
        ([vm()] * 13, [], {}, "13 VMs to be started want 13.2 GiB"),
        ([vm(6)], [vm(9)], {}, None),
        ([vm(6)], [vm(11)], {}, "of the 1 that run that is more than the 16.0 GiB of this host"),
        ([], [vm(90)], {"memory_available": 0}, None),
        ([vm(2, hugepages=True)], [], {"memory_available": GIB}, None),
        ([vm(2.5, hugepages=True)], [], {}, "huge pages of 2MiB, and 2.0 GiB are free"),
        ([vm(1, hugepages=True, hugepage_size_bytes=GIB)], [], {}, "huge pages of 1GiB, and 0.0 GiB are free"),
        ([vm(0.1, vcpus=250)] * 40, [], {}, "have about 10240 threads"),
        ([vm(0.1, vcpus=250)] * 40, [], {"tasks_free": None}, None),
        ([vm(0.1)] * 10, [], {"files_free": 100}, "open about 640 files, and this host has room for 100 more"),
        ([vm(0.1)] * 10, [], {"uids_free": 9}, "10 VMs want a uid of their own, and 9 are free"),
    ],
)
def test_room(starting: list[Definition], running: list[Definition], room: dict[str, t.Any], words: str | None) -> None:
    found = lacks_room(starting, running, len(starting), dataclasses.replace(ROOM, **room))
    assert [violation.field for violation in found] == (["vms"] if words else [])
    assert words is None or words in found[0].message, found


def test_one_vm_that_is_larger_than_its_host() -> None:
    assert beyond_the_host(vm(16), 16 * GIB) == "" and beyond_the_host(vm(20, hugepages=True), 16 * GIB) == ""
    assert beyond_the_host(vm(900), 16 * GIB) == (
        "config.memory.size_bytes: 900.0 GiB is more than the 16.0 GiB of memory of this host. The VM is started all the same; "
        "the kernel ends it when its guest uses more than there is."
    )
