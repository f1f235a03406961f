# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pauses, resumes and stops VMs: all that are stopped are waited for under one deadline by one poller. What starts them is in C(starts)."""

from __future__ import annotations

import signal
import time
import typing as t

from ..backends.registry import driver
from ..errors import DeadlineExceeded, Unavailable, VmcpError
from ..host import files, processes
from ..model.definition import Definition
from .live import ask_state, observe_socket, peer_uid, supervisor_of
from .work import Context, Work, attempt, running_as, who_may_run_it

if t.TYPE_CHECKING:
    from ..backends.port import Driver

# What a VMM gets to answer.
CALL_S = 10.0
POLL_S = 0.005
# What a VMM gets to go away after SIGKILL: the kernel has to free the guest's memory.
KILL_S = 30.0
# For a VMM that closed its socket on us while it ends.
GONE_S = 1.0


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
