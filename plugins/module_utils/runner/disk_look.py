# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk as it is: what the planner of disks knows, and what results show. Reads only, standard library only."""

from __future__ import annotations

import os
import typing as t

from ..errors import Violation, VmcpError
from ..host import filesystems, tools
from ..host.cloning import refuse_other_files, virtual_size
from ..host.disks import DiskStore
from ..host.files import os_errors
from ..host.store import Store
from ..model.disk import DiskRequest
from ..model.disk_record import DiskRecord
from ..planner.disk_situation import DiskSituation, DiskUser, Origin
from .disk_images import image_origin
from .disk_users import users_of


def situation(store: Store, request: DiskRequest) -> tuple[DiskSituation, list[Violation]]:
    """The disk as found, and what the host lacks for the request."""
    disks = DiskStore(store.layout)
    record = broken = None
    try:
        record = disks.load(request.name)
    except VmcpError as exc:
        broken = exc.msg
    users = users_of(store, request.name, record.path if record else None, format_=record.layering if record else "raw")
    if request.state == "absent":
        return DiskSituation(request.name, record, broken, disks.has_remains(request.name), users), []
    if record is not None:
        least, holds = _least(request, record)
        return DiskSituation(request.name, record, broken, users=users, least_bytes=least, holds=holds), _lacks(request, record)
    origin, lacks = origin_of(store, request)
    return DiskSituation(request.name, None, broken, users=users, origin=origin), [*lacks, *_lacks(request, None)]


def _lacks(request: DiskRequest, record: t.Optional[DiskRecord]) -> list[Violation]:
    """Tools that the host has not; only those that what is asked for takes."""
    found: list[Violation] = []
    filesystem = request.filesystem
    if filesystem and filesystem.grow and not filesystems.can_follow(filesystem.type):
        found.append(filesystems.cannot_follow("filesystem.grow", filesystem.type))
    if filesystem and filesystem.grow and (record.format if record else request.format) == "qcow2":
        found.append(Violation("filesystem.grow", "cannot be done within a qcow2 file. Let the guest grow its file system."))
    if record is None:
        if filesystem and not request.source:
            found += tools.lacks("filesystem", filesystems.tools_for(filesystem, request.content is not None))
        if request.format == "qcow2" or (request.source and request.source.format == "qcow2"):
            found += tools.lacks("format", ["qemu-img"])
        if request.format == "lvm":
            found += tools.lacks("format", ["lvcreate", "lvs"])
        if request.content is not None and not os.path.isdir(request.content):
            found.append(Violation("content", f"{request.content} is no directory on this host. Put it there first, or correct the path."))
    elif request.size_bytes not in (None, record.size_bytes) and record.format == "qcow2":
        found += tools.lacks("size", ["qemu-img"])
    return found


def _least(request: DiskRequest, record: DiskRecord) -> tuple[t.Optional[int], str]:
    """Only looked for when the disk is to shrink."""
    if request.size_bytes is None or request.size_bytes >= record.size_bytes or not request.force:
        return None, ""
    if record.format == "qcow2":
        return None, "a qcow2 file, whose content only a guest knows"
    if tools.find("blkid") is None:
        return None, "what only blkid could tell, which this host lacks (package util-linux)"
    there = filesystems.probe(record.path)
    kind = there.get("type")
    if kind is None:
        return (None, f"a partition table ({there['table']})") if "table" in there else (512, "empty space")
    return filesystems.least_bytes(record.path, kind), f"{kind} file system"


def origin_of(store: Store, request: DiskRequest) -> tuple[t.Optional[Origin], list[Violation]]:
    """The source as found, or why it cannot be one."""
    source = request.source
    if source is None:
        return None, []
    try:
        if source.kind == "disk":
            record = DiskStore(store.layout).require(source.name)
            users = users_of(store, record.name, record.path, format_=record.layering)
            return Origin(record.path, record.file_format, record.size_bytes, users=users), []
        if source.kind == "image":
            return image_origin(store, source.name), []
        format_ = str(source.format)
        return Origin(source.name, format_, file_size(source.name, format_, refuse_other_files if format_ == "qcow2" else None)), []
    except VmcpError as exc:
        return None, [Violation(f"source.{source.kind}", exc.msg)]
    except FileNotFoundError:
        return None, [Violation(f"source.{source.kind}", f"{source.name} does not exist on this host. Put it there first, or correct the path.")]


def file_size(path: str, format_: str, judge: t.Optional[t.Callable[[int, str], None]] = None) -> int:
    """Virtual size. C(judge): has a look at the open file first."""
    with os_errors(f"read {path}"):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if judge is not None:
                judge(fd, path)
            return virtual_size(fd, format_)
        finally:
            os.close(fd)


def describe_disk(record: DiskRecord, users: t.Sequence[DiskUser], *, look: bool = True) -> dict[str, t.Any]:
    """The result's C(disk). C(look): with what only the file can tell."""
    body: dict[str, t.Any] = {
        "name": record.name,
        "path": record.path,
        "format": record.format,
        "size_bytes": record.size_bytes,
        "preallocated": record.preallocated,
        "filesystem": record.filesystem,
        "source": record.source,
        "content": record.content,
        "method": record.method,
        "saved_bytes": record.saved_bytes,
        "backing_chain": [{"path": record.path, "format": record.file_format}],
        "users": [{"vm": user.vm, "id": user.entry, "read_only": user.read_only, "running": user.runs} for user in users],
        "created_at": record.created_at,
    }
    if record.backing:
        body["backing_chain"].append({"path": record.backing, "format": record.backing_format})
    if look:
        body["actual_bytes"] = _actual(record)
    return body


def _actual(record: DiskRecord) -> t.Optional[int]:
    """What the file takes on the host; None for what is no file, or is not there."""
    try:
        status = os.lstat(record.path)
    except OSError:
        return None
    return status.st_blocks * 512 if record.volume is None else None
