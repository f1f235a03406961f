# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much a host has. Standard library only; changes nothing."""

from __future__ import annotations

import contextlib
import os
import resource
import typing as t

from .files import read_kernel


def capacity(state_dir: str) -> dict[str, t.Any]:
    """CPUs that we may use, memory, huge pages by size, NUMA nodes, and the file system of C(state_dir) (or of what there is of its path)."""
    memory = _meminfo()
    there = state_dir
    while not os.path.isdir(there) and there != "/":
        there = os.path.dirname(there)
    disk = os.statvfs(there)
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": memory.get("MemTotal", 0),
        "memory_available_bytes": memory.get("MemAvailable", 0),
        "hugepages": _hugepages(),
        "numa_nodes": max(1, sum(1 for name in _entries("/sys/devices/system/node") if name.startswith("node") and name[4:].isdigit())),
        "disk": {"path": there, "size_bytes": disk.f_frsize * disk.f_blocks, "available_bytes": disk.f_frsize * disk.f_bavail},
    }


def memory_total() -> int:
    """Bytes."""
    return _meminfo().get("MemTotal", 0)


def tasks_free(uid: int) -> t.Optional[int]:
    """How many processes and threads more there may be, by the kernel's limits and the user's own. None: the kernel does not say."""
    limits = [int(text) for name in ("threads-max", "pid_max") if (text := _first_line(f"/proc/sys/kernel/{name}") or "").isdigit()]
    words = _read("/proc/loadavg").split()
    if not limits or len(words) < 4:
        return None
    if uid != 0:
        soft = resource.getrlimit(resource.RLIMIT_NPROC)[0]
        limits += [] if soft == resource.RLIM_INFINITY else [soft]
    return max(0, min(limits) - int(words[3].rpartition("/")[2]))


def files_free() -> t.Optional[int]:
    """How many files more may be open on the host. None: the kernel does not say."""
    words = _read("/proc/sys/fs/file-nr").split()
    return max(0, int(words[2]) - int(words[0])) if len(words) == 3 and all(word.isdigit() for word in words) else None


def _meminfo() -> dict[str, int]:
    found = {}
    for line in _read("/proc/meminfo").splitlines():
        key, dummy, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB":
            found[key] = int(words[0]) * 1024
    return found


def _hugepages() -> list[dict[str, int]]:
    base = "/sys/kernel/mm/hugepages"
    found = []
    for name in sorted(_entries(base)):
        size = name.removeprefix("hugepages-").removesuffix("kB")
        if size.isdigit():
            total, free = (int(_first_line(f"{base}/{name}/{key}") or 0) for key in ("nr_hugepages", "free_hugepages"))
            found.append({"size_bytes": int(size) * 1024, "total": total, "free": free})
    return found


def _read(path: str) -> str:
    with contextlib.suppress(OSError):
        return read_kernel(path)
    return ""


def _first_line(path: str) -> str | None:
    lines = _read(path).splitlines()
    return lines[0].strip() if lines else None


def _entries(path: str) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir(path)
    return []
