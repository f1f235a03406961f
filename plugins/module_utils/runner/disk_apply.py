# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out the steps of a plan for a disk, except those on VMs (C(disk_restart)). It decides nothing.

Each step can be repeated by a run that follows one that was cut off."""

from __future__ import annotations

import os
import time
import typing as t

from ..backends.registry import driver
from ..errors import FailedPrecondition, Internal, VmcpError
from ..host import disk_making, filesystems
from ..host.disks import DiskStore
from ..host.store import Store
from ..model.disk import DiskRequest
from ..model.disk_record import DiskRecord
from ..model.resolving import resolved
from ..planner.disk_situation import DiskSituation, DiskUser, Origin
from ..planner.disks import DiskPlan
from . import disk_images
from .live import peer_uid, running_as

if t.TYPE_CHECKING:
    from ..call import Call

TELL_S = 30.0


def take(store: Store, disks: DiskStore, request: DiskRequest, found: DiskSituation, plan: DiskPlan, step: str, call: Call) -> None:
    if step == "remove":
        disks.remove(request.name)
        disk_images.release(store, f"disk:{request.name}")
        return
    record = _wanted(plan)
    follows = "grow_filesystem" in plan.steps
    if step == "make":
        _make(store, disks, request, record, found.origin, follows=follows)
        return
    if step == "allocate":
        disk_making.allocate(record)
    elif step == "grow_filesystem":
        if found.record is None:
            return  # a part of its making
        _grow_filesystem(request, record.path, record.name)
    elif step == "grow_live":
        call.require_libraries()
        _grow_live(store, _found(found), record, [user for user in found.users if user.live])
    elif step == "grow":
        disk_making.resize(_found(found), record.size_bytes)
        if follows:
            return  # it is not done before the file system has followed, and done again if that is cut off
    elif step == "shrink":
        _shrink(_found(found), record)
    disks.save(record)


def _wanted(plan: DiskPlan) -> DiskRecord:
    if plan.record is None:
        raise Internal(f"The plan for disk {plan.name} has steps on a disk and no disk.")
    return plan.record


def _found(found: DiskSituation) -> DiskRecord:
    if found.record is None:
        raise Internal(f"The plan for disk {found.name} changes a disk that is not there.")
    return found.record


def _make(store: Store, disks: DiskStore, request: DiskRequest, record: DiskRecord, origin: t.Optional[Origin], *, follows: bool) -> None:
    disk = store.layout.disk(request.name)
    if record.volume and not disks.has_remains(request.name):
        disks.volume_is_free(record.volume)
    disks.begin(disk, record.volume)
    if request.source and request.source.kind == "image":
        # Held before anything is made from it: an image is not removed from under its clones.
        disk_images.hold(store, request.source.name, f"disk:{request.name}")
    try:
        made = disk_making.make(record, disk.making, origin, None if request.source else request.filesystem)
        if follows:
            _grow_filesystem(request, record.path if record.volume else f"{disk.making}/{os.path.basename(record.path)}", record.name)
        disks.finish(disk, made)
    except VmcpError:
        # A full host gets its space back at once; a run that is killed here is cleared up after by the next one.
        disks.clear(disk)
        disk_images.release(store, f"disk:{request.name}")
        raise
    if made.source and made.source["kind"] == "image" and made.backing is None:
        disk_images.release(store, f"disk:{request.name}")


def _grow_filesystem(request: DiskRequest, path: str, name: str) -> None:
    """Looked at first: what is on it may be what a clone brought, or a guest has made."""
    there = filesystems.probe(path)
    if request.filesystem is None or there.get("type") != request.filesystem.type:
        kind = request.filesystem.type if request.filesystem else "a file system"
        holds = there.get("type") or there.get("table") or "nothing"
        raise FailedPrecondition(
            f"Disk {name} has no {kind} on the whole of it that could grow with it, but {holds}. "
            "Leave filesystem.grow out, and let the guest grow what is on the disk."
        )
    filesystems.resize(path, there)


def _shrink(found: DiskRecord, record: DiskRecord) -> None:
    """The file system before the disk."""
    there = filesystems.probe(found.path)
    if there.get("type"):
        filesystems.resize(found.path, there, record.size_bytes)
    disk_making.resize(found, record.size_bytes)


def _grow_live(store: Store, found: DiskRecord, record: DiskRecord, users: t.Sequence[DiskUser]) -> None:
    """All VMMs that have the disk are told. A VMM that extends the file itself is let: nobody else may touch a qcow2 file that it has open."""
    from ..model.validate import read_config

    running = [user for user in users if user.runs]
    tell = []
    for user in running:
        definition = running_as(store, user.vm, store.load(user.vm))
        if definition is None:
            raise FailedPrecondition(f"Nothing is known of the process of VM {user.vm}, so it cannot be told of the new size. Shut it down first.")
        tell.append((driver(definition.backend), definition, user))
    if not all(backend.extends_disks for backend, _definition, _user in tell) or found.volume:
        disk_making.resize(found, record.size_bytes)
    for backend, definition, user in tell:
        vm = store.layout.vm(user.vm)
        config = read_config(resolved(definition, vm.data))
        backend.resize_disk(vm.api_socket, config, user.entry, record.size_bytes, time.monotonic() + TELL_S, peer_uid(definition))
