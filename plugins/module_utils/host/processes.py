# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes of VMs: which one is ours, how it is doing, how to end it. Standard library only; on the no-change path.

A pid alone says nothing: it may be another process's by now. The pid file carries the start time (field 22 of C(/proc/PID/stat)) and the
host's boot id, and a process is the VM's only when all of them agree.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import select
import signal
import time
import typing as t

from .files import os_errors, read_kernel, read_text, remove, write_atomic
from .port import Process

if t.TYPE_CHECKING:
    from .layout import VmLayout

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_GONE = ("Z", "X", "x")


@dataclasses.dataclass(frozen=True)
class Recorded:
    """The pid file's line. C(rest): who sees to the rest of the start: C(self), the launch file; else whoever asked for it and watches, until the
    socket of this name (below the VM's run-time directory; C(-): none) is made."""

    pid: int
    start_time: int  # clock ticks after the host's boot
    boot_id: str
    host_boot_id: str
    rest: str = "self"


@functools.lru_cache(maxsize=1)
def host_boot_id() -> str:
    """The kernel's id of this boot, which this process does not outlive."""
    return read_kernel("/proc/sys/kernel/random/boot_id").strip()


def recorded(vm: VmLayout) -> Recorded | None:
    """What the pid file says, true or not; None when there is none or it is torn."""
    return parse_record(vm.pid)


def parse_record(path: str) -> Recorded | None:
    """A file of the pid file's form."""
    try:
        words = read_text(path, max_bytes=4096).split()
    except FileNotFoundError:
        return None
    try:
        return Recorded(int(words[0]), int(words[1]), words[2], words[3], *words[4:5])
    except (IndexError, ValueError):
        return None


def current(vm: VmLayout) -> Process | None:
    """The VM's live process; None when there is none. A pid that was reused, a zombie, and a record of an earlier boot of the host are none."""
    record = recorded(vm)
    if record is None or not is_live(record):
        return None
    return Process(pid=record.pid, boot_id=record.boot_id, started_at=_epoch_of(record.start_time))


def is_live(record: Recorded) -> bool:
    """Whether the recorded process is there and is the recorded one."""
    stat = _stat(record.pid)
    return stat is not None and stat[1] == record.start_time and stat[0] not in _GONE and record.host_boot_id == host_boot_id()


def _stat(pid: int) -> tuple[str, int] | None:
    """State and start time of a process. Its name may contain anything, also ')' and newlines: what follows the last ')' counts."""
    try:
        fields = read_kernel(f"/proc/{pid}/stat").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[19])


def start_time(pid: int) -> int | None:
    """Field 22 of C(/proc/PID/stat), in clock ticks; None when there is no such process."""
    stat = _stat(pid)
    return None if stat is None else stat[1]


def _epoch_of(ticks: int) -> float:
    up_s = float(read_kernel("/proc/uptime").split()[0])
    return time.time() - up_s + ticks / _TICKS_PER_S


def uptime_s(process: Process) -> float:
    return max(0.0, time.time() - process.started_at)


def memory_bytes(pid: int) -> int | None:
    """The process's share of the host's memory: PSS where we may read it (root, or our own process), else RSS. None when it is gone."""
    for path, key in ((f"/proc/{pid}/smaps_rollup", "Pss:"), (f"/proc/{pid}/status", "VmRSS:")):
        try:
            for line in read_kernel(path).splitlines():
                if line.startswith(key):
                    return int(line.split()[1]) * 1024
        except OSError:
            # Not permitted, no such file on this kernel, or the process ended while being read (ESRCH).
            continue
    return None


def send(vm: VmLayout, number: signal.Signals) -> bool:
    """Sends a signal to the VM's process, and to no other: the pid is pinned by a descriptor before it is verified. False when none runs."""
    record = recorded(vm)
    return record is not None and end(record, number)


def end(record: Recorded, number: signal.Signals) -> bool:
    """As C(send), for a process recorded elsewhere: a supervisor."""
    with _pinned(record) as descriptor:
        if descriptor is None:
            return False
        with contextlib.suppress(ProcessLookupError), os_errors(f"signal process {record.pid}"):
            signal.pidfd_send_signal(descriptor, number)
            return True
    return False


def end_session(leader: Recorded) -> None:
    """SIGKILL for a recorded process that leads a group of its own, and for all in the group. The leader is pinned, so the group's number is its own."""
    with _pinned(leader) as descriptor:
        if descriptor is not None:
            with contextlib.suppress(ProcessLookupError), os_errors(f"signal the processes of {leader.pid}"):
                os.killpg(leader.pid, signal.SIGKILL)


def wait_gone(record: Recorded, deadline: float) -> bool:
    """Waits until the recorded process has ended. False at the deadline (C(time.monotonic()) value)."""
    with _pinned(record) as descriptor:
        if descriptor is None:
            return True
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000)) or not is_live(record)


@contextlib.contextmanager
def _pinned(record: Recorded) -> t.Iterator[int | None]:
    try:
        descriptor = os.pidfd_open(record.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield descriptor if is_live(record) else None
    finally:
        os.close(descriptor)


def mark_stopping(vm: VmLayout, reason: str) -> None:
    """Says that somebody asked the VM to stop, and why (C(request), C(host), C(restart)), before it is done: an end that was asked for is never restarted
    by policy. The mark names us: a crash after the task that made it was killed is a crash. The first reason stays while its task lives. Nothing is
    written when no process is recorded."""
    if recorded(vm) is not None and not _is_being_stopped(vm):
        write_atomic(vm.stopping, " ".join([reason, *_us()]) + "\n", sync=False)


def unmark_stopping(vm: VmLayout) -> None:
    """Takes back a mark of ours: the task that made it has failed, and its process may run other tasks yet (Mitogen)."""
    try:
        words = _first_line(vm.stopping)
    except FileNotFoundError:
        return
    if words[1:] == _us():
        with os_errors(f"remove {vm.stopping}"):
            remove(vm.stopping)


def mark_removing(vm: VmLayout) -> None:
    """As C(mark_stopping), by a task that is about to remove the VM. While that lives, what a unit runs after the VM leaves it all to the task (see
    C(launch_body)); a launch file of an earlier version reads only that the end was asked for."""
    if recorded(vm) is not None:
        write_atomic(vm.stopping, " ".join(["request", *_us()]) + "\nremoving\n", sync=False)


def _is_being_stopped(vm: VmLayout) -> bool:
    """Whether there is a mark whose task lives, or one of the host's, which names none."""
    try:
        words = _first_line(vm.stopping)
    except FileNotFoundError:
        return False
    if len(words) != 3:
        return bool(words)
    return words[1].isdigit() and str(start_time(int(words[1]))) == words[2]


def _us() -> list[str]:
    """This task, in the words of a mark."""
    return [str(os.getpid()), str(start_time(os.getpid()))]


def _first_line(mark: str) -> list[str]:
    return read_text(mark, max_bytes=256).partition("\n")[0].split()
