# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a disk grows with the VMs that run with it: told, restarted, or left to see it when they start next. Pure."""

from __future__ import annotations

import dataclasses
import typing as t

from ..errors import FailedPrecondition, Violation
from ..model.words import at_most

if t.TYPE_CHECKING:
    from ..model.disk import DiskRequest
    from ..model.disk_record import DiskRecord
    from .disk_situation import DiskSituation


@dataclasses.dataclass(frozen=True)
class Growth:
    """C(pending): VMs that see the new size when they start next. C(restarts): VMs that are stopped before the disk grows, and started after it."""

    steps: tuple[str, ...]
    pending: tuple[str, ...] = ()
    restarts: tuple[str, ...] = ()


def plan_growth(request: DiskRequest, found: DiskSituation, record: DiskRecord) -> Growth:
    running = [user for user in found.users if user.runs]
    if running and request.apply == "next_boot":
        _refuse_open_qcow2(found, record)
        return Growth(("grow",), tuple(user.vm for user in running))
    late = tuple(user.vm for user in running if not user.live)
    if late and not at_most("restart", request.allow_disruption):
        later = "" if record.format == "qcow2" else ", or apply: next_boot to grow the disk now and let the VM see it when it starts next"
        raise FailedPrecondition(
            f"VM {late[0]} runs, and its VMM cannot be told of a new size of disk {found.name}: that needs a restart. Set allow_disruption: restart to let "
            f"that happen now{later}.",
            violations=[Violation("size", f"needs allow_disruption: restart while VM {name} runs") for name in late],
            details={"disruption": "restart"},
        )
    if len(late) < len(running):
        grows: tuple[str, ...] = ("grow_live",)
    elif request.filesystem and request.filesystem.grow:
        grows = ("grow", "grow_filesystem")
    else:
        grows = ("grow",)
    if not late:
        return Growth(grows)
    stop = "kill" if request.shutdown_timeout == 0 else "shutdown"
    return Growth((stop, *grows, "start"), restarts=late)


def cut_off(request: DiskRequest, found: DiskSituation) -> tuple[str, ...]:
    """VMs that an earlier run has stopped for their disk, and not started again: this one does, where it may restart VMs at all."""
    if request.apply == "next_boot" or not at_most("restart", request.allow_disruption):
        return ()
    return tuple(user.vm for user in found.users if user.interrupted)


def _refuse_open_qcow2(found: DiskSituation, record: DiskRecord) -> None:
    running = [user.vm for user in found.users if user.runs]
    if record.format == "qcow2":
        raise FailedPrecondition(
            f"VM {running[0]} runs and holds the qcow2 file of disk {found.name} open, so nobody else can grow it. Shut it down first, or leave apply out"
            " and set allow_disruption: restart."
        )
