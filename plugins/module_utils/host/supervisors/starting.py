# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watches starts until they are through: the same for both supervisors, and in one loop for all VMs, however many.

The launch file records the process (C(processes.recorded)) and becomes it. Where nothing more is to be told to the VMM, what is left is to see
its socket appear, which costs this process a system call and a shell a program: so C(watched) asks the launch file to leave that to us.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import time
import typing as t

from ...errors import VmcpError
from .. import events, processes
from ..files import os_errors, remove, write_plain
from ..jail_mounts import may_open_all
from ..trees import ensure_dir, remove_tree
from . import ending

if t.TYPE_CHECKING:
    from ..layout import VmLayout

# A microVM is up within milliseconds. A look at many takes time itself, which the VMMs that start on the same processors then lack.
POLL_LEAST_S = 0.001
POLL_MOST_S = 0.02
LOOKS_TAKE_AT_MOST = 1 / 5


@dataclasses.dataclass
class Start:
    """One VM on its way. C(known_events): how long its events were before."""

    vm: VmLayout
    known_events: int
    seen: t.Optional[processes.Recorded] = None


def found(vm: VmLayout) -> Start:
    """A start on which somebody is at work already."""
    return Start(vm, os.stat(vm.events).st_size if os.path.lexists(vm.events) else 0)


def prepare(vm: VmLayout, *, look: bool = False) -> Start:
    """What the launch file would have to run programs for: its directories, and traces of an earlier start. Nothing is running or at work on it.
    C(look): at its files too, which the launch file then need not."""
    ensure_dir(vm.run, 0o711, sync=False)
    with os_errors(f"prepare the start of VM {vm.name}"):
        if processes.recorded(vm) is not None:
            # An end that nobody was left to record.
            ending.clear_up_after(vm)
        remove(vm.problem)
        if os.path.lexists(vm.sockets) and (os.path.islink(vm.sockets) or not os.path.isdir(vm.sockets) or os.listdir(vm.sockets)):
            # Of a start that was cut off: what is seen there is to be of this one.
            remove_tree(vm.sockets)
        owner = os.stat(vm.data).st_uid if os.path.isdir(vm.data) else os.geteuid()
        ensure_dir(vm.sockets, 0o700, uid=owner, gid=owner if owner else -1, sync=False)
        # For the launch file: when it was asked for, and that nothing has to be given to the VM's uid.
        write_plain(vm.watched, f"{events.now()}\n{'open' if look and may_open_all(vm) else ''}\n")
    return found(vm)


def watch(starts: t.Sequence[Start], deadline: float, over: t.Callable[[t.Sequence[VmLayout]], t.Collection[str]]) -> dict[str, str]:
    """Until each is up or has failed; name to why for those that have. C(over): of these VMs, which have no process, the names of those on whose
    start nobody is at work any more. One that is not up at the deadline is ended."""
    failures: dict[str, str] = {}
    waiting = list(starts)
    began = time.monotonic()
    looked = began
    while waiting := [start for start in waiting if not _is_up(start)]:
        # Asked before another look: what is over now had its process, if any, before.
        quiet = over([start.vm for start in waiting if not _has_process(start.vm)])
        for start in [start for start in waiting if start.vm.name in quiet and not _is_up(start) and not _has_process(start.vm)]:
            waiting.remove(start)
            happened = _happened(start)
            if not _has_done_its_work(start.vm, happened):
                # It may have come and gone between two looks.
                was_there = start.seen is not None or any(event["event"] == "start" for event in happened)
                failures[start.vm.name] = ending.start_failure(start.vm, "The VMM ended before it was ready." if was_there else "The VMM was not started.")
        now = time.monotonic()
        if now >= deadline:
            for start in waiting:
                failures[start.vm.name] = _too_late(start, now - began)
            break
        time.sleep(max((now - looked) / LOOKS_TAKE_AT_MOST, min(POLL_MOST_S, max(POLL_LEAST_S, (now - began) / 20))))
        looked = time.monotonic()
    for start in starts:
        with os_errors(f"remove {start.vm.watched}"):
            remove(start.vm.watched)
    return failures


def _has_process(vm: VmLayout) -> bool:
    """A process that has ended counts until its end is recorded."""
    return processes.recorded(vm) is not None


def _is_up(start: Start) -> bool:
    vm = start.vm
    record = processes.recorded(vm)
    if record is None or not processes.is_live(record):
        return False
    start.seen = record
    if record.rest == "self":
        return os.path.lexists(vm.up)
    if record.rest != "-" and not os.path.lexists(f"{vm.run}/{record.rest}"):
        return False
    if not os.path.lexists(vm.up):
        say_up(vm)
    return True


def say_up(vm: VmLayout) -> None:
    """The start is through: an event, and the mark without which policy restarts nothing."""
    events.append(vm, "boot")
    with os_errors(f"write {vm.up}"):
        _narrow_sockets(vm)
        write_plain(vm.up, "")


def _narrow_sockets(vm: VmLayout) -> None:
    """To 0600, as C(boot_vmm) does, and for its reasons. The VM's uid may put anything there, so that what is looked at is what is changed; and a guest that
    is through already may have taken them along."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(vm.sockets):
            place = os.open(f"{vm.sockets}/{name}", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                mode = os.fstat(place).st_mode
                if stat.S_ISSOCK(mode) and mode & 0o177:
                    os.chmod(f"/proc/self/fd/{place}", 0o600)
            finally:
                os.close(place)


def _happened(start: Start) -> list[dict[str, t.Any]]:
    """The events of this start."""
    with os_errors(f"read {start.vm.events}"):
        return events.read(start.vm, start.known_events)


def _has_done_its_work(vm: VmLayout, happened: t.Sequence[dict[str, t.Any]]) -> bool:
    """Came up and ended in good order before anybody looked: a guest whose work is a line of output."""
    if any(event["event"] == "boot" for event in happened):
        return True
    last = events.last_exit(happened)
    return last is not None and last.reason in ("guest", "request", "host", "restart") and not os.path.lexists(vm.problem)


def _too_late(start: Start, waited_s: float) -> str:
    vm = start.vm
    if start.seen is None:
        return ending.start_failure(vm, f"The VMM was not started within {waited_s:.0f} s.")
    missing = "did not come up" if start.seen.rest == "self" else f"has not made its socket {start.seen.rest}"
    try:
        ending.kill(vm, time.monotonic() + ending.KILL_TIMEOUT_S, lambda dummy: False)
    except VmcpError as exc:
        return f"The VMM {missing} within {waited_s:.0f} s, and could not be ended: {exc.msg}"
    return ending.start_failure(vm, f"The VMM {missing} within {waited_s:.0f} s.")
