# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out the plans of a C(vmcp_vms), and waits for the conditions of all VMs at once. What fails is told; the rest is finished."""

from __future__ import annotations

import typing as t

from ..call import Call
from ..errors import VmcpError
from ..host import files
from ..host.console_search import Searcher
from ..host.fleet_files import FleetFiles
from ..host.store import Store
from .apply import carry_out
from .each import each
from .progress import Progress
from .vm_wait import wait_of
from .vms_plan import Planned
from .waits import Wait, wait_all
from .work import AT_A_TIME, Context, Work

if t.TYPE_CHECKING:
    from .vms_report import Report


def act(call: Call, store: Store, planned: Planned, report: Report, *, at_a_time: t.Optional[int], start_batch: t.Optional[int]) -> None:
    """C(at_a_time), C(start_batch): None for what suits the host."""
    works = [Work(one.plan, one.found, store.layout.vm(name), one.entry.priority if one.entry else 0) for name, one in planned.ones.items()]
    progress = Progress(store.layout, len(works), call.warn)
    context = Context(
        store,
        planned.planning.defaults,
        planned.planning.root,
        call.options["lock_timeout"],
        planned.planning.foreseen,
        call.warn,
        progress=lambda doing, done: progress.say(doing, len(done), _failed(works)),
        stop=call.options.get("on_error") == "stop",
        start_batch=start_batch,
        at_a_time=at_a_time or AT_A_TIME,
    )
    try:
        progress.say("begin", 0, vms=len(report.names))
        # Waiting for guests rests on no claim, and may take long.
        with FleetFiles(store.layout).still(call.options.get("claim"), call.options["lock_timeout"]):
            _forget_former(store, planned, works)
            carry_out(context, works)
        waited = _wait(call, store, planned, works, context, progress)
        report.done(planned, works, waited, halted=context.halted)
        progress.say("end", len(works), _failed(works), failed_vms=[work.name for work in works if work.error is not None])
    finally:
        progress.close()


def _failed(works: t.Sequence[Work]) -> int:
    return sum(1 for work in works if work.error is not None)


def _forget_former(store: Store, planned: Planned, works: t.Sequence[Work]) -> None:
    for work in works:
        if planned.ones[work.name].request.option("state") == "shutdown":
            # Whoever wants it down takes back what is left of a restart that was cut off: a later 'present' would finish it.
            files.remove(work.vm.restarting)
        if work.plan.steps:
            store.save_satisfied(work.name, None)


# --- waiting ------------------------------------------------------------------------------------------------
Waited = dict[str, list[dict[str, t.Any]]]


def _wait(call: Call, store: Store, planned: Planned, works: t.Sequence[Work], context: Context, progress: Progress) -> Waited:
    """The conditions of all VMs, all from the same moment on."""
    with Searcher() as searcher:
        waits = _waits(call, store, planned, works, searcher)
        total = len(waits)

        def look(some: t.Sequence[Wait], waited_s: float) -> list[bool]:
            return each(some, lambda wait: _look(wait, waited_s), context.at_a_time)

        if waits:
            wait_all(list(waits.values()), look, lambda left: progress.say("wait", total - left, _failed(works), often=left > 0))
    for work in works:
        if work.name in waits and waits[work.name].failed is not None:
            work.error = waits[work.name].failed
    return {name: wait.result() for name, wait in waits.items() if wait.failed is None}


def _waits(call: Call, store: Store, planned: Planned, works: t.Sequence[Work], searcher: Searcher) -> dict[str, Wait]:
    waits: dict[str, Wait] = {}
    for work in works:
        one = planned.ones[work.name]
        if work.error is None and not work.left and one.request.wait_for and work.plan.state_after in ("running", "paused"):
            try:
                timeout_s = one.request.options.get("wait_timeout", call.options["wait_timeout"])
                waits[work.name] = wait_of(store, work.vm, one.request, timeout_s, searcher, fresh="start" in work.done)
            except VmcpError as exc:
                work.error = exc
    return waits


def _look(wait: Wait, waited_s: float) -> bool:
    try:
        return wait.look(waited_s)
    except VmcpError as exc:
        wait.failed = exc
        return True
