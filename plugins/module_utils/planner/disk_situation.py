# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk as found, before anything is decided: its record, the VMs that name it, and what it is to be cloned from."""

from __future__ import annotations

import dataclasses
import typing as t

if t.TYPE_CHECKING:
    from ..model.disk_record import DiskRecord


@dataclasses.dataclass(frozen=True)
class DiskUser:
    """One VM that names a disk. C(runs): its process lives, and has the disk. C(live): its VMM can be told of a new size. C(interrupted): it was
    stopped for this disk, and what was to start it again was cut off."""

    vm: str
    entry: str
    read_only: bool = False
    runs: bool = False
    live: bool = False
    interrupted: bool = False


@dataclasses.dataclass(frozen=True)
class Origin:
    """What a disk is to be cloned from, as found. C(path) is absolute. C(users): VMs that write to it."""

    path: str
    format: str
    size_bytes: int
    digest: t.Optional[str] = None
    users: tuple[DiskUser, ...] = ()


@dataclasses.dataclass(frozen=True)
class DiskSituation:
    """C(record) None: there is no such disk. C(broken): why its record cannot be read. C(leftovers): a disk half made, or half removed.
    C(least_bytes): the smallest size to which it can be shrunk with what is on it, None when it cannot be; C(holds): what that is."""

    name: str
    record: t.Optional[DiskRecord] = None
    broken: t.Optional[str] = None
    leftovers: bool = False
    users: tuple[DiskUser, ...] = ()
    origin: t.Optional[Origin] = None
    least_bytes: t.Optional[int] = None
    holds: str = ""
