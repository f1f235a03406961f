# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out plans: of one VM, or of a thousand at a time. It decides nothing: what to do is in the steps, how each backend does it is in the driver.

A run can be cut off between any two writes. Each step can therefore be repeated: a definition is written last, after what follows from
it; a start writes the launch file anew; a stop leaves its mark until the process has ended.

Each kind of step is done for all VMs that are to take it before the next kind is begun. VMs that are only stopped or removed come before those that are
started, so that these find their room; a VM that is restarted is stopped in its own batch, so that no more are down than are started together.
"""

from __future__ import annotations

import contextlib
import typing as t

from ..errors import VmcpError
from ..host import processes
from .clones import resize
from .defining import define
from .power import pause, resume, stop_asking, stop_by_force
from .starts import start
from .work import Context, Work

if t.TYPE_CHECKING:
    Kind = t.Callable[[Context, t.Sequence[Work]], None]


def carry_out(context: Context, works: t.Sequence[Work]) -> None:
    """All steps of all. A VM that fails has its error (C(Work.error)) and is left as it is; the others go on, unless C(Context.stop)."""
    _carry_out(context, works)
    for work in works:
        if work.error is not None:
            # An end that comes later was not asked for: policy is to treat it as what it is. What the VM failed of is what is told.
            with contextlib.suppress(VmcpError):
                processes.unmark_stopping(work.vm)


def _carry_out(context: Context, works: t.Sequence[Work]) -> None:
    _take(context, works, ("define", "update"), define)
    starting = sorted((work for work in works if work.takes("start")), key=lambda work: (-work.priority, work.name))
    others = [work for work in works if not work.takes("start")]
    stop(context, others)
    if any(work.takes("remove") or work.takes("forget") for work in others):
        # Imported here: a task that removes nothing does not pay for it.
        from .removing import remove

        _take(context, others, ("remove", "forget"), remove)
    size = context.start_batch or max(1, len(starting))
    for first in range(0, len(starting), size):
        batch = starting[first : first + size]
        stop(context, batch)
        start_stopped(context, batch)
    _take(context, others, ("resize",), resize)
    _take(context, others, ("pause",), pause)
    _take(context, others, ("resume",), resume)


def start_stopped(context: Context, works: t.Sequence[Work]) -> None:
    """Those whose turn it is. A VM that is to be paused then is."""
    _take(context, works, ("start",), start)
    _take(context, works, ("pause",), pause)


def stop(context: Context, works: t.Sequence[Work]) -> None:
    """Those whose turn it is: by asking their guests, or by force."""
    _take(context, works, ("shutdown",), stop_asking)
    _take(context, works, ("kill",), stop_by_force)


def _take(context: Context, works: t.Sequence[Work], actions: tuple[str, ...], kind: Kind) -> None:
    """One kind of step, for those whose turn it is. With C(Context.stop) nothing is begun once something has failed anywhere."""
    ready = [work for work in works if work.error is None and work.left and work.left[0].action in actions]
    if not ready or context.halted:
        return
    for work in ready:
        work.done.append(work.left[0].action)
    kind(context, ready)
    for work in ready:
        if work.error is None:
            work.left.pop(0)
    context.halted = context.stop and any(work.error is not None for work in ready)
    context.progress(actions[0], ready)
