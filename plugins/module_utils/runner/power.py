# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts, pauses, resumes and stops VMs: all in one request where there is one for it, and all waited for under one deadline by one poller."""

from __future__ import annotations

import signal
import time
import typing as t

from ..backends.registry import driver
from ..errors import DeadlineExceeded, FailedPrecondition, Internal, Unavailable, VmcpError
from ..host import events, files, processes
from ..model.definition import Definition
from .answers import Answers
from .clones import before_start
from .launching import launch_of, write_launch
from .live import ask_state, end_of, observe_socket, peer_uid, process_or_history, supervisor_of
from .work import Context, Work, attempt, by_supervisor, running_as, who_may_run_it

if t.TYPE_CHECKING:
    from ..backends.port import Driver
    from ..host.port import Supervisor
    from .seen_networks import Networks

# A VMM takes milliseconds to start; QEMU under TCG with much to emulate a few seconds. Past this it hangs.
START_S = 60.0
# Many that start at once share the processors.
START_EACH_S = 0.25
CALL_S = 10.0
# Among others that are asked too, one that does not answer at once is asked again.
CALL_AMONG_MANY_S = 0.2
POLL_S = 0.005
# What a VMM gets to go away after SIGKILL: the kernel has to free the guest's memory.
KILL_S = 30.0
# For a VMM that closed its socket on us while it ends.
GONE_S = 1.0


# --- starting -----------------------------------------------------------------------------------------------
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
        waiting = [work for work in waiting if not _is_up(work, max(0.05, min(at_most_s, deadline - time.monotonic())), answers[work.name])]
        if waiting:
            time.sleep(POLL_S)
    for work in waiting:
        work.error = DeadlineExceeded(
            f"The VMM of {work.name} runs, but reported no running VM within {limit_s:.0f} s{answers[work.name].last}. See {work.vm.vmm_log}.",
            details=end_of(work.wanted(), work.vm).details,
        )


def _is_up(work: Work, timeout_s: float, answers: Answers) -> bool:
    """Whether there is nothing more to wait for: it runs, has run, or failed (then the work has its error)."""
    definition = work.wanted()
    try:
        state = ask_state(definition, work.vm, timeout_s)
        if state in ("running", "paused"):
            return True
        answers.heard(state)
    except VmcpError as exc:
        answers.heard(exc)
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


# --- pausing ------------------------------------------------------------------------------------------------
def pause(context: Context, works: t.Sequence[Work]) -> None:
    _request(context, works, lambda backend: backend.pause, "paused")


def resume(context: Context, works: t.Sequence[Work]) -> None:
    _request(context, works, lambda backend: backend.resume, "running")


def _request(context: Context, works: t.Sequence[Work], call: t.Callable[[Driver], t.Callable[[str, float, t.Optional[int]], None]], wanted: str) -> None:
    def one(work: Work) -> None:
        definition = running_as(context, work)
        call(driver(definition.backend))(work.vm.api_socket, time.monotonic() + CALL_S, peer_uid(definition))
        _until_state(definition, work, wanted)

    attempt(context, works, one)


def _until_state(definition: Definition, work: Work, wanted: str) -> None:
    """A reply is not yet the truth: the VMM is asked until it says so itself."""
    deadline = time.monotonic() + CALL_S
    while (now := ask_state(definition, work.vm)) != wanted:
        if time.monotonic() > deadline:
            raise DeadlineExceeded(
                f"The VMM of {definition.name} took the request, and says after {CALL_S:.0f} s that its VM is {now}, not {wanted}. See {work.vm.vmm_log}."
            )
        time.sleep(POLL_S)


# --- stopping -----------------------------------------------------------------------------------------------
def stop_asking(context: Context, works: t.Sequence[Work]) -> None:
    """All guests are asked, then all are waited for, each as long as its grace lasts; what remains is ended by force."""
    deadlines: dict[str, float] = {}

    def ask(work: Work) -> None:
        definition = running_as(context, work)
        _mark(work)
        deadlines[work.name] = time.monotonic() + float(work.left[0].args["grace_s"])
        if not _asked(context, definition, work):
            deadlines[work.name] = 0.0

    asked = attempt(context, works, ask)
    # One after the other: those behind the first go down in the meantime.
    ended = {work.name for work in asked if deadlines[work.name] and _ended(context, work, deadlines[work.name])}
    _kill(context, [work for work in asked if work.error is None and work.name not in ended])


def _ended(context: Context, work: Work, deadline: float) -> bool:
    try:
        return supervisor_of(running_as(context, work), context.store.layout).wait_ended(work.vm, deadline)
    except VmcpError as exc:
        work.error = exc
        return False


def stop_by_force(context: Context, works: t.Sequence[Work]) -> None:
    """A VM that is removed next is ended by its removal: nobody is to read how it ended."""
    _kill(context, attempt(context, [work for work in works if not _is_removed_next(work)], _mark))


def _is_removed_next(work: Work) -> bool:
    return any(step.action == "remove" for step in work.left[1:2])


def _kill(context: Context, works: t.Sequence[Work]) -> None:
    """All get the signal before the first is waited for."""
    if len(works) > 1:
        attempt(context, works, lambda work: processes.send(work.vm, signal.SIGKILL))

    def one(work: Work) -> None:
        for supervisor in who_may_run_it(context, work):
            supervisor.kill(work.vm, time.monotonic() + KILL_S)

    attempt(context, works, one)


def _mark(work: Work) -> None:
    restarts = any(step.action == "start" for step in work.left)
    if restarts:
        files.write_atomic(work.vm.restarting, work.restarted_for, sync=False)
    processes.mark_stopping(work.vm, "restart" if restarts else "request")


def _asked(context: Context, definition: Definition, work: Work) -> bool:
    """Whether the guest was asked to shut down. A paused guest hears nothing: it is resumed first."""
    backend = driver(definition.backend)
    deadline = time.monotonic() + CALL_S
    try:
        if backend.observe(observe_socket(definition, work.vm), deadline, peer_uid(definition)).state == "paused":
            backend.resume(work.vm.api_socket, deadline, peer_uid(definition))
        return backend.request_shutdown(work.vm.api_socket, deadline, peer_uid(definition))
    except Unavailable:
        # Firecracker may be gone before it has answered: then there is nothing left to ask, and nothing to force.
        return supervisor_of(definition, context.store.layout).wait_ended(work.vm, time.monotonic() + GONE_S)
    except VmcpError:
        # It does not answer, or refuses: force is what remains.
        return False
