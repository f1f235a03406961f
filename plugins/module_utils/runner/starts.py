# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts VMs: all in one request, and all waited for under one deadline by one poller. What ends them is in C(power)."""

from __future__ import annotations

import time
import typing as t
from functools import partial

from ..errors import DeadlineExceeded, FailedPrecondition, Internal, VmcpError
from ..host import events, files
from ..model.definition import Definition
from .answers import Answers
from .clones import before_start
from .each import ahead
from .launching import launch_of, write_launch
from .live import begin_ask_state, end_of, process_or_history
from .work import Context, Work, attempt, by_supervisor

if t.TYPE_CHECKING:
    from ..host.port import Supervisor
    from .seen_networks import Networks

# A VMM takes milliseconds to start; QEMU under TCG with much to emulate a few seconds. Past this it hangs.
START_S = 60.0
# Many that start at once share the processors.
START_EACH_S = 0.25
# What a VMM gets to answer.
CALL_S = 10.0
# Among others that are asked too, one that does not answer at once is asked again.
CALL_AMONG_MANY_S = 0.2
POLL_S = 0.005


def start(context: Context, works: t.Sequence[Work]) -> None:
    as_networks_are = _renewing(context)

    def write(work: Work) -> None:
        before_start(context, work)
        if not work.launch_is_written:
            # An earlier run may have been cut off between the launch file and the definition.
            definition = as_networks_are(work.wanted())
            write_launch(work.vm, launch_of(work.vm, definition, context.store.secrets(work.name)), definition)
            if definition != work.wanted():
                context.store.save(definition)
                work.definition = definition

    limit_s = START_S + START_EACH_S * (len(works) - 1)
    for supervisor, listed in by_supervisor(context, _on_networks(context, attempt(context, works, write))):
        deadline = time.monotonic() + limit_s
        try:
            _request_start(supervisor, listed, deadline)
        except VmcpError as exc:
            for work in listed:
                work.error = work.error or exc
            continue
        _until_booted([work for work in listed if work.error is None], deadline, limit_s)
    attempt(context, works, lambda work: files.remove(work.vm.restarting))


def _renewing(context: Context) -> t.Callable[[Definition], Definition]:
    """A network may have got another gateway or interface since a VM was defined: what its guest is told at this start is what there is now. Each network
    is read once, however many VMs are started."""
    known: list[Networks] = []

    def renew(definition: Definition) -> Definition:
        if not definition.on_networks:
            return definition
        from ..planner.nics import renewed
        from .seen_networks import Networks

        if not known:
            known.append(Networks(context.store.layout))
        return renewed(definition, known[0].of(definition))

    return renew


def _on_networks(context: Context, works: t.Sequence[Work]) -> list[Work]:
    """Those that may start: each is on its networks."""
    concerned = [work for work in works if work.on_networks]
    if concerned:
        from .networking import settle

        settle(context, concerned)
    return [work for work in works if work.error is None]


def _request_start(supervisor: Supervisor, works: t.Sequence[Work], deadline: float) -> None:
    failed = supervisor.start([work.vm for work in works], deadline)
    for work in works:
        if failed.get(work.name):
            work.error = _start_error(work.wanted(), work, failed[work.name])


def _start_error(definition: Definition, work: Work, failed: str) -> VmcpError:
    end = end_of(definition, work.vm)
    return FailedPrecondition(f"VM {definition.name} did not start: {failed.rstrip('.')}. {end.msg}", details=end.details)


def _until_booted(works: t.Sequence[Work], deadline: float, limit_s: float) -> None:
    """The supervisor says that the process runs; only the VMM can say that the VM does."""
    answers = {work.name: Answers() for work in works}
    waiting = list(works)
    while waiting and time.monotonic() < deadline:
        at_most_s = CALL_S if len(waiting) == 1 else CALL_AMONG_MANY_S
        ask = partial(_ask_whether_up, max(0.05, min(at_most_s, deadline - time.monotonic())), answers)
        waiting = [work for work in ahead(waiting, ask) if work is not None]
        if waiting:
            time.sleep(POLL_S)
    for work in waiting:
        work.error = DeadlineExceeded(
            f"The VMM of {work.name} runs, but reported no running VM within {limit_s:.0f} s{answers[work.name].last}. See {work.vm.vmm_log}.",
            details=end_of(work.wanted(), work.vm).details,
        )


def _ask_whether_up(timeout_s: float, answers: t.Mapping[str, Answers], work: Work) -> t.Callable[[], t.Optional[Work]]:
    """What is returned waits for the VMM's answer; its result is None when there is nothing more to wait for."""
    heard = answers[work.name]

    def again() -> t.Optional[Work]:
        return None if _is_through(work, heard) else work

    try:
        answer = begin_ask_state(work.wanted(), work.vm, timeout_s)
    except VmcpError as exc:
        heard.heard(exc)
        return again

    def answered() -> t.Optional[Work]:
        try:
            state = answer()
        except VmcpError as exc:
            heard.heard(exc)
            return again()
        if state in ("running", "paused"):
            return None
        heard.heard(state)
        return again()

    return answered


def _is_through(work: Work, answers: Answers) -> bool:
    """Of one that has not said that it runs: it has run, or failed (then the work has its error)."""
    definition = work.wanted()
    process, history = process_or_history(work.vm)
    if process is not None:
        if answers.settled:
            work.error = Internal(
                f"The VMM of {work.name} was started, and has {answers.settled}. Its binary is {definition.binary}. See {work.vm.vmm_log}.",
                details=end_of(definition, work.vm).details,
            )
        return work.error is not None
    # It may have run and ended already, as a guest does whose work is a line of output.
    last_exit = events.last_exit(history)
    if last_exit is None or last_exit.reason != "guest":
        work.error = _start_error(definition, work, "its VMM ended at once")
    return True
