# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How VMs of ours are now: by their files, their processes, and one question to each VMM. Standard library only; on the no-change path."""

from __future__ import annotations

import os
import time
import typing as t

from ..backends.registry import driver
from ..errors import FailedPrecondition, VmcpError
from ..host import events, files, processes
from ..host.layout import Layout, VmLayout
from ..host.port import Process, Supervisor
from ..host.store import Store
from ..host.supervisors import registry as supervisors
from ..model.definition import Definition
from ..planner.situation import Situation
from .each import ahead

# How long a VMM may take to say how it is. It answers in about a millisecond; a longer silence is worth reporting.
OBSERVE_S = 2.0
# From the end of a process to its record: the supervisor wakes up and writes a line.
RECORD_S = 15.0
POLL_S = 0.005


def situation(store: Store, name: str, *, observe: bool = True) -> Situation:
    """The VM as it is now. A definition that cannot be read (also that of the running process), or a VMM that does not answer, is part of the answer, not
    an error."""
    return look_at(store, name, observe=observe)()


def situations(store: Store, names: t.Sequence[str]) -> list[Situation]:
    """Of many: their VMMs answer at the same time."""
    return ahead(names, lambda name: look_at(store, name))


def look_at(store: Store, name: str, *, observe: bool = True) -> t.Callable[[], Situation]:
    """As C(situation), in two steps: what is returned waits for the VMM's answer."""
    vm = store.layout.vm(name)
    broken = None
    definition = None
    try:
        definition = store.load(name)
    except VmcpError as exc:
        broken = exc.msg
    if definition is None and broken is None:
        return lambda: Situation(name, leftovers=store.has_remains(name), only_data=store.has_only_data(name))
    process, history = process_or_history(vm)
    booted, booted_unread = _booted(store, name, definition) if process else (None, None)
    answer = _asked(booted or definition, vm, process) if process and observe else lambda: (None, None)

    def seen() -> Situation:
        vmm_state, unresponsive = answer()
        last_exit = events.last_exit(history)
        return Situation(
            name=name,
            definition=definition,
            booted=booted,
            booted_unread=booted_unread,
            process=process,
            vmm_state=vmm_state,
            unresponsive=unresponsive,
            last_exit=last_exit,
            ever_booted=bool(process) or last_exit is not None,
            autostart=supervisor_of(definition, store.layout).autostart(vm) if definition else None,
            interrupted=not process and _was_restarting(vm),
            broken=broken,
            protected_unread=bool(broken) and store.says_protected(name),
        )

    return seen


def _asked(runs_as: t.Optional[Definition], vm: VmLayout, process: Process) -> t.Callable[[], tuple[t.Optional[str], t.Optional[str]]]:
    """The VMM's word on its state, or what happened to the question; it is sent now, and the answer waited for when that is called."""
    if runs_as is None:
        return lambda: (None, f"Nothing that can be read says which VMM process {process.pid} is, so it cannot be asked.")
    try:
        observed = driver(runs_as.backend).ask(observe_socket(runs_as, vm), time.monotonic() + OBSERVE_S, peer_uid(runs_as))
    except VmcpError as exc:
        why = exc.msg
        return lambda: (None, why)

    def answer() -> tuple[t.Optional[str], t.Optional[str]]:
        try:
            return observed().state, None
        except VmcpError as exc:
            return None, exc.msg

    return answer


def _booted(store: Store, name: str, stored: t.Optional[Definition]) -> tuple[t.Optional[Definition], t.Optional[str]]:
    """What the running process was started with (C(stored), where nothing else is kept), or why that cannot be read."""
    try:
        return store.booted(name) or stored, None
    except VmcpError as exc:
        why = exc.msg.split(". ")[0]
        return None, f"With what VM {name} was started cannot be read, so what waits for a restart is not known: {why}. Set state: restarted to make it known."


def running_as(store: Store, name: str, stored: t.Optional[Definition]) -> t.Optional[Definition]:
    """With what the live process was started: its backend may differ from the definition's. C(stored) stands in for it where there is nothing else, or
    nothing that can be read."""
    return _booted(store, name, stored)[0] or stored


def process_or_history(vm: VmLayout) -> tuple[t.Optional[Process], list[dict[str, t.Any]]]:
    """The live process, or without one the events. The end of a process that has only just gone is waited for while there is somebody to record it:
    until then it would look like one that was lost."""
    deadline = time.monotonic() + RECORD_S
    while True:
        process = processes.current(vm)
        if process is not None:
            return process, []
        history = events.read(vm)
        if not _is_being_recorded(vm, history) or time.monotonic() >= deadline:
            return None, history
        time.sleep(POLL_S)


def _is_being_recorded(vm: VmLayout, history: t.Sequence[dict[str, t.Any]]) -> bool:
    last = events.last_exit(history)
    if last is None or last.reason != "lost":
        return False
    record = processes.recorded(vm)
    if record is None or record.host_boot_id != processes.host_boot_id():
        return False
    # systemd leaves no such file, and always records.
    supervisor = processes.parse_record(vm.supervisor)
    return supervisor is None or processes.is_live(supervisor)


def _was_restarting(vm: VmLayout) -> bool:
    """A restart of ours that was cut off after the process had ended: its mark is still there."""
    return os.path.lexists(vm.restarting)


def ask_state(definition: Definition, vm: VmLayout, timeout_s: float = OBSERVE_S) -> str:
    """The VMM's own word, by one raw request."""
    return begin_ask_state(definition, vm, timeout_s)()


def begin_ask_state(definition: Definition, vm: VmLayout, timeout_s: float) -> t.Callable[[], str]:
    """As C(ask_state), in two steps: what is returned waits for the answer."""
    observed = driver(definition.backend).ask(observe_socket(definition, vm), time.monotonic() + timeout_s, peer_uid(definition))
    return lambda: observed().state


def observe_socket(definition: Definition, vm: VmLayout) -> str:
    return vm.monitor_socket if driver(definition.backend).has_monitor else vm.api_socket


def peer_uid(definition: Definition) -> t.Optional[int]:
    """The uid that must be behind the VMM's sockets; None when the VMM runs as whoever we are."""
    return definition.generated.get("uid") or None


def supervisor_of(definition: Definition, layout: Layout) -> Supervisor:
    return supervisors.supervisor(definition.supervisor, layout)


def start_with_host(layout: Layout, vm: VmLayout, definition: Definition, former: t.Optional[Definition]) -> None:
    """Tells the supervisor, which is installed, whether the VM starts with the host; one that has handed the VM over is to start it no more."""
    supervisor_of(definition, layout).set_autostart(vm, definition.autostart)
    if former is not None and former.supervisor != definition.supervisor:
        supervisor_of(former, layout).set_autostart(vm, False)


def require(store: Store, name: str, doing: str) -> Definition:
    """The definition, or not_found with the nearest name and the directory searched."""
    definition = store.load(name)
    if definition is None:
        raise store.not_found(name, doing)
    return definition


def vsock_cid(definition: Definition) -> int:
    wanted = (definition.config.get("vsock") or {}).get("cid")
    return int(wanted or definition.generated["cid"])


def vsock_path(definition: Definition, vm: VmLayout) -> str:
    return str((definition.config.get("vsock") or {}).get("path") or vm.vsock_socket)


def end_of(definition: Definition, vm: VmLayout) -> VmcpError:
    """The error for a VMM that is not there though it was started: how it ended, and the last lines of its log and console."""
    exit_ = events.last_exit(process_or_history(vm)[1])
    log = files.last_lines(vm.vmm_log, 20)
    console = files.last_lines(definition.config.get("console", {}).get("path") or vm.console_log, 20)
    if exit_ is None:
        how = "never started"
    elif exit_.signal:
        how = f"was ended by {exit_.signal}"
    elif exit_.code is not None:
        how = f"ended with exit code {exit_.code}"
    else:
        how = "is gone without a record of its end"
    # Two lines: the last one is often no more than that the program ends.
    said = " | ".join(line.strip() for line in log[-2:]).rstrip(".")
    return FailedPrecondition(
        f"The VMM of {definition.name} ({definition.backend} {definition.backend_version}) {how}{f': {said}.' if said else '.'} "
        f"Its log is {vm.vmm_log}; the last lines of log and console are in 'log' and 'console'.",
        details={
            "exit": {"code": exit_.code, "signal": exit_.signal, "reason": exit_.reason} if exit_ else None,
            "log": log,
            "console": console,
            "binary": definition.binary,
        },
    )
