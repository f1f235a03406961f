# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a request for a disk and the disk as found to a plan. Pure: every refusal is made here, before anything is touched."""

from __future__ import annotations

import dataclasses
import typing as t

from ..errors import FailedPrecondition, InvalidArgument, NotFound, Violation
from ..model.disk import DiskRequest, FileSystem
from ..model.disk_record import DiskRecord
from ..model.units import format_size
from .disk_growth import Growth, cut_off, plan_growth
from .disk_situation import DiskSituation, Origin
from .plan import Change

# What each does is in runner/disk_apply.py, and for the VMs in runner/disk_restart.py; the words are those of results (C(actions)).
ACTIONS = ("make", "allocate", "shutdown", "kill", "grow", "grow_live", "grow_filesystem", "start", "shrink", "remove")


@dataclasses.dataclass(frozen=True)
class DiskPlan:
    """C(record): what the disk is to be afterwards, as far as it is known before; None after a removal. C(pending): VMs that see the new size when they
    start next. C(restarts): VMs that are stopped, where they run, before the disk is changed, and started after it."""

    name: str
    steps: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    record: t.Optional[DiskRecord] = None
    pending: tuple[str, ...] = ()
    would_need: tuple[Violation, ...] = ()
    notices: tuple[str, ...] = ()
    restarts: tuple[str, ...] = ()

    @property
    def disruption(self) -> str:
        """The most that is done to a VM that runs."""
        return "restart" if self.restarts else "none"

    def diff(self) -> dict[str, t.Any]:
        title = f"disk {self.name}"
        return {
            "before": {change.field: change.before for change in self.changes},
            "after": {change.field: change.after for change in self.changes},
            "before_header": title,
            "after_header": title,
        }


def plan_disk(request: DiskRequest, found: DiskSituation, path: str, lacks: t.Sequence[Violation], now: str) -> DiskPlan:
    """C(path): where a new disk would be. C(lacks): what the host has not."""
    if request.state == "absent":
        return _removal(request, found)
    if found.broken:
        raise FailedPrecondition(found.broken)
    if found.record is None:
        return _creation(request, found, path, lacks, now)
    return _change(request, found, found.record, lacks)


# --- removing -------------------------------------------------------------------------------------------------
def _removal(request: DiskRequest, found: DiskSituation) -> DiskPlan:
    if found.record is None and not found.broken:
        return DiskPlan(found.name, ("remove",) if found.leftovers else ())
    if found.users and not request.force:
        names = ", ".join(f"{user.vm}{' (which runs)' if user.runs else ''}" for user in found.users)
        raise FailedPrecondition(
            f"Disk {found.name} is used by VM {names}, so it is not removed. Take it out of their storage first, or set force: true, "
            "which takes it away from them.",
            details={"users": [user.vm for user in found.users]},
        )
    if found.broken and not request.force:
        raise FailedPrecondition(f"{found.broken} With force: true it is removed as it is.")
    notices = tuple(f"VM {user.vm} used disk {found.name}, and does not start without it." for user in found.users)
    return DiskPlan(found.name, ("remove",), (Change("state", "present", "absent"),), notices=notices)


# --- creating -------------------------------------------------------------------------------------------------
def _creation(request: DiskRequest, found: DiskSituation, path: str, lacks: t.Sequence[Violation], now: str) -> DiskPlan:
    origin = found.origin
    size = request.size_bytes or (origin.size_bytes if origin else None)
    if size is None:
        missing = " and the source is not on this host" if request.source else ""
        if not (request.source and lacks):
            raise NotFound(f"There is no disk {found.name}{missing}, and this task gives nothing to make it from: give size, or source.")
        size = 0
    _refuse_origin(request, origin, size)
    filesystem = request.filesystem
    record = DiskRecord(
        name=found.name,
        path=path,
        format=request.format or "raw",
        size_bytes=size,
        preallocated=bool(request.preallocate),
        filesystem=_kept(filesystem) if filesystem and not request.source else None,
        source={"kind": request.source.kind, "name": request.source.name, "digest": origin.digest if origin else None} if request.source else None,
        content=request.content,
        method="filled" if request.content else "blank",
        volume=_volume(request),
        created_at=now,
    )
    steps = ["make"]
    if filesystem and filesystem.grow and origin and size > origin.size_bytes:
        steps.append("grow_filesystem")
    changes = [Change("state", "absent", "present"), Change("size", None, size), Change("format", None, record.format)]
    changes += [Change("filesystem", None, record.filesystem)] if record.filesystem else []
    changes += [Change("source", None, record.source)] if record.source else []
    return DiskPlan(found.name, tuple(steps), tuple(changes), record, would_need=tuple(lacks))


def _refuse_origin(request: DiskRequest, origin: t.Optional[Origin], size: int) -> None:
    if origin is None or request.source is None:
        return
    if size < origin.size_bytes:
        raise InvalidArgument.of(
            [
                Violation(
                    "size", f"is {format_size(size)}, less than its source, which has {format_size(origin.size_bytes)}. Give at least that, or leave it out."
                )
            ]
        )
    busy = [user.vm for user in origin.users if user.runs and not user.read_only]
    if busy:
        raise FailedPrecondition(f"VM {busy[0]} runs and writes to {request.source.name}, so a clone of it would be torn. Shut the VM down first.")


def _kept(filesystem: FileSystem) -> dict[str, t.Any]:
    return {"type": filesystem.type, "label": filesystem.label, "uuid": filesystem.uuid}


def _volume(request: DiskRequest) -> t.Optional[dict[str, str]]:
    if request.format != "lvm" or not request.volume_group or not request.thin_pool:
        return None
    return {"volume_group": request.volume_group, "thin_pool": request.thin_pool, "name": f"vmcp-{request.name}"}


# --- changing -------------------------------------------------------------------------------------------------
def _change(request: DiskRequest, found: DiskSituation, record: DiskRecord, lacks: t.Sequence[Violation]) -> DiskPlan:
    _refuse_other_disk(request, record)
    steps: list[str] = []
    changes: list[Change] = []
    growth = Growth(())
    after = record
    size = request.size_bytes
    if size is not None and size > record.size_bytes:
        growth = plan_growth(request, found, record)
        after = dataclasses.replace(after, size_bytes=size)
        changes.append(Change("size", record.size_bytes, size))
    elif size is not None and size < record.size_bytes:
        _refuse_shrinking(request, found, record, size)
        steps.append("shrink")
        after = dataclasses.replace(after, size_bytes=size)
        changes.append(Change("size", record.size_bytes, size))
    if request.preallocate and not record.preallocated:
        steps.append("allocate")
        after = dataclasses.replace(after, preallocated=True)
        changes.append(Change("preallocate", False, True))
    left_down = cut_off(request, found)
    steps = [*growth.steps, *steps]
    if left_down and "start" not in steps:
        steps.append("start")
    changes += [Change(f"VM {name}", "running", "restarted", "restart") for name in growth.restarts]
    changes += [Change(f"VM {name}", "shutdown", "running") for name in left_down]
    lacks = tuple(lacks) if steps else ()
    return DiskPlan(found.name, tuple(steps), tuple(changes), after, growth.pending, lacks, restarts=(*growth.restarts, *left_down))


def _refuse_other_disk(request: DiskRequest, record: DiskRecord) -> None:
    """What would need the disk made anew. Nothing but a task that removes it touches what is on it."""
    wrong = []
    remedy = "Remove the disk first (state: absent), or leave this out."
    if request.format is not None and request.format != record.format:
        wrong.append(Violation("format", f"is {request.format}, and disk {record.name} is {record.format}. {remedy}"))
    if request.preallocate is False and record.preallocated:
        wrong.append(Violation("preallocate", f"is false, and disk {record.name} is preallocated. {remedy}"))
    volume = record.volume or {}
    for key in ("volume_group", "thin_pool"):
        asked = getattr(request, key)
        if asked is not None and asked != volume.get(key):
            wrong.append(Violation(key, f"is {asked}, and disk {record.name} is in {volume.get(key)}. {remedy}"))
    made = record.filesystem or {}
    if request.filesystem is not None and not record.source:
        for key in ("type", "label", "uuid"):
            asked = getattr(request.filesystem, key)
            if asked is not None and asked != made.get(key):
                wrong.append(Violation(f"filesystem.{key}", f"is {asked}, and disk {record.name} was made with {made.get(key) or 'none'}. {remedy}"))
    if request.content is not None and request.content != record.content:
        wrong.append(Violation("content", f"is {request.content}, and disk {record.name} was filled from {record.content or 'nothing'}. {remedy}"))
    origin = record.source or {}
    if request.source is not None and (request.source.kind, request.source.name) != (origin.get("kind"), origin.get("name")):
        was = f"{origin.get('kind')} {origin.get('name')}" if origin else "nothing"
        wrong.append(Violation("source", f"is {request.source.kind} {request.source.name}, and disk {record.name} was cloned from {was}. {remedy}"))
    if wrong:
        first = wrong[0]
        raise FailedPrecondition(f"{first.field} {first.message}", violations=wrong)


def _refuse_shrinking(request: DiskRequest, found: DiskSituation, record: DiskRecord, size: int) -> None:
    shown = f"{format_size(size)}, less than the {format_size(record.size_bytes)} that disk {found.name} has"
    if not request.force:
        raise FailedPrecondition(
            f"size is {shown}. What is beyond would be lost: set force: true to shrink it all the same, as far as what is on it allows.",
            violations=[Violation("size", f"is {shown}")],
        )
    running = [user.vm for user in found.users if user.runs]
    if running:
        raise FailedPrecondition(f"VM {running[0]} runs with disk {found.name}, so it is not shrunk. Shut the VM down first.")
    if found.least_bytes is None:
        raise FailedPrecondition(
            f"Disk {found.name} holds {found.holds or 'what is not known'}, which cannot be shrunk. Make a smaller disk and copy the files."
        )
    if size < found.least_bytes:
        raise FailedPrecondition(
            f"size is {format_size(size)}, and the {found.holds} on disk {found.name} takes at least {format_size(found.least_bytes)}. Give that or more.",
            violations=[Violation("size", f"is below what is on the disk ({found.least_bytes} bytes)")],
        )
