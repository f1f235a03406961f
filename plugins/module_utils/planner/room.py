# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host has room for the VMs that a task is to start, before the first of them is started. Pure, standard library only."""

from __future__ import annotations

import dataclasses
import typing as t

from ..errors import Violation
from ..model.definition import Definition
from ..model.units import MIB, format_size

# A VMM beside its guest's memory: published 5 MiB for Firecracker, more for QEMU. The check is of orders of magnitude.
OVERHEAD_BYTES = 16 * MIB
# Threads of a VMM beside its vCPUs, and its supervisor's shell.
THREADS_BESIDE = 6
# Disks, sockets, taps, KVM's own, and the supervisor's.
FILES_OF_A_VM = 64
# Of the host's limits, for everything that is not a VM.
_SHARE_OF_TASKS = 0.9


@dataclasses.dataclass(frozen=True)
class Room:
    """The host as the kernel tells it. C(hugepages_free): page size to bytes. None: not known, or not bounded (C(uids_free): VMs have none of their own)."""

    memory_total: int
    memory_available: int
    hugepages_free: t.Mapping[int, int]
    tasks_free: t.Optional[int]
    files_free: t.Optional[int]
    uids_free: t.Optional[int]


def lacks_room(starting: t.Sequence[Definition], running: t.Sequence[Definition], new: int, room: Room) -> list[Violation]:
    """C(starting): VMs that a task starts and that do not run; C(running): VMs of the host that run and go on; C(new): how many want a uid."""
    found = [*_memory(starting, running, room), *_hugepages(starting, room)]
    threads = sum(_vcpus(definition) + THREADS_BESIDE for definition in starting)
    if room.tasks_free is not None and threads > room.tasks_free * _SHARE_OF_TASKS:
        found.append(
            Violation(
                "vms",
                f"{len(starting)} VMs to be started have about {threads} threads, and this host has room for {room.tasks_free} more processes and threads. "
                "Raise kernel.pid_max and kernel.threads-max (or the user's limit), or start fewer.",
            )
        )
    files = FILES_OF_A_VM * len(starting)
    if room.files_free is not None and files > room.files_free:
        found.append(
            Violation(
                "vms",
                f"{len(starting)} VMs to be started open about {files} files, and this host has room for {room.files_free} more. "
                "Raise fs.file-max, or start fewer.",
            )
        )
    if room.uids_free is not None and new > room.uids_free:
        found.append(
            Violation("vms", f"{new} VMs want a uid of their own, and {room.uids_free} are free. Widen uid_range in /etc/vmcp/host.json, or remove VMs.")
        )
    return found


def beyond_the_host(definition: Definition, memory_total: int) -> str:
    """What to tell of one VM that is to be started and wants more memory than this host has in all; nothing of others. It is not refused: swap, or a guest that
    leaves most of it alone, may make it good."""
    wanted = _memory_bytes(definition) - OVERHEAD_BYTES
    if wanted <= memory_total:
        return ""
    return (
        f"config.memory.size_bytes: {_shown(wanted)} is more than the {_shown(memory_total)} of memory of this host. The VM is started all the same; "
        "the kernel ends it when its guest uses more than there is."
    )


def _memory(starting: t.Sequence[Definition], running: t.Sequence[Definition], room: Room) -> list[Violation]:
    wanted = sum(_memory_bytes(definition) for definition in starting)
    if not wanted:
        return []
    had = sum(_memory_bytes(definition) for definition in running)
    if wanted > room.memory_available:
        short = f"{_shown(room.memory_available)} of this host's memory are available"
    elif wanted + had > room.memory_total:
        # What those that run have not touched yet still counts as available.
        short = f"with {_shown(had)} of the {len(running)} that run that is more than the {_shown(room.memory_total)} of this host"
    else:
        return []
    return [
        Violation(
            "vms",
            f"{len(starting)} VMs to be started want {_shown(wanted)} of memory, and {short}. "
            "Start fewer, make them smaller, or set overcommit: true to rely on guests not using all they have.",
        )
    ]


def _hugepages(starting: t.Sequence[Definition], room: Room) -> list[Violation]:
    wanted: dict[int, int] = {}
    for definition in starting:
        memory = definition.config.get("memory") or {}
        if memory.get("hugepages"):
            size = int(memory.get("hugepage_size_bytes") or 2 * MIB)
            wanted[size] = wanted.get(size, 0) + int(memory.get("size_bytes") or 0)
    return [
        Violation(
            "vms",
            f"the VMs to be started want {_shown(needed)} in huge pages of {format_size(size)}, and {_shown(free)} are free. "
            "Raise vm.nr_hugepages, or start fewer.",
        )
        for size, needed in sorted(wanted.items())
        if needed > (free := room.hugepages_free.get(size, 0))
    ]


def _memory_bytes(definition: Definition) -> int:
    """Of ordinary pages: huge ones are set aside already."""
    memory = definition.config.get("memory") or {}
    return OVERHEAD_BYTES + (0 if memory.get("hugepages") else int(memory.get("size_bytes") or 0))


def _vcpus(definition: Definition) -> int:
    return int((definition.config.get("cpu") or {}).get("vcpu_count") or 1)


def _shown(size_bytes: int) -> str:
    """For people: what is to be compared is of orders of magnitude."""
    return f"{size_bytes / (1 << 30):.1f} GiB"
