# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a VM's process is ended and its failures are told: the same for both supervisors."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
import typing as t

from ...errors import DeadlineExceeded, FailedPrecondition
from .. import events, processes
from ..files import last_lines, os_errors, read_text, remove
from ..taps import remove_taps

if t.TYPE_CHECKING:
    from ..layout import VmLayout

POLL_S = 0.003
# How often it is asked whether an end is abandoned: less and less often, since asking may cost more than what is waited for.
ABANDONED_POLL_S = 0.2
ABANDONED_POLL_MOST_S = 2.0
# Killing takes the kernel no time, except for a process that waits for a dead disk; clearing up takes some processes of the shell.
KILL_TIMEOUT_S = 15.0
CLEAN_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


def kill(vm: VmLayout, deadline: float, abandoned: t.Callable[[VmLayout], bool], patience_s: float = 0.0) -> None:
    """SIGKILL, marked as asked for. C(abandoned), C(patience_s): see C(wait_ended). DeadlineExceeded when the process is not gone in time."""
    processes.mark_stopping(vm, "request")
    processes.send(vm, signal.SIGKILL)
    if not wait_ended(vm, max(deadline, time.monotonic() + KILL_TIMEOUT_S), abandoned, patience_s):
        raise DeadlineExceeded(_not_ended(vm))


def terminate(vm: VmLayout, deadline: float, abandoned: t.Callable[[VmLayout], bool], patience_s: float = 0.0) -> None:
    """SIGTERM, marked as asked for; at the deadline SIGKILL."""
    processes.mark_stopping(vm, "request")
    processes.send(vm, signal.SIGTERM)
    if not wait_ended(vm, deadline, abandoned, patience_s):
        kill(vm, deadline, abandoned, patience_s)


def wait_ended(vm: VmLayout, deadline: float, abandoned: t.Callable[[VmLayout], bool], patience_s: float = 0.0) -> bool:
    """Until the recorded process is gone and its record cleared away, which is the last thing that C(ended) does. A restart by policy
    in the meantime counts. When nobody is left to do that (C(abandoned) says so), it is done here. C(patience_s): how long after the process's end
    C(abandoned) is first asked; of many VMs that are waited for one after the other, most are cleared up after by then."""
    record = processes.recorded(vm)
    if record is None:
        return True
    if not processes.wait_gone(record, deadline):
        return False
    look_again, pause_s = time.monotonic() + patience_s, ABANDONED_POLL_S
    while (now := processes.recorded(vm)) is not None and now.boot_id == record.boot_id:
        if time.monotonic() >= look_again:
            look_again, pause_s = time.monotonic() + pause_s, min(2 * pause_s, ABANDONED_POLL_MOST_S)
            if abandoned(vm):
                clear_up_after(vm)
                continue
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True


def clear_up_after(vm: VmLayout) -> None:
    """Records and clears up what a killed supervisor, or a host that went down, left behind. Does nothing while the VMM runs."""
    if not os.path.lexists(vm.launch):
        with os_errors(f"remove {vm.pid}"):
            remove(vm.pid)
        return
    run_verb(vm, "ended", "abandoned")
    run_verb(vm, "clear")
    with os_errors(f"remove {vm.supervisor}"):
        remove(vm.supervisor)


def see_removed(vms: t.Sequence[VmLayout], unwatched: t.Sequence[VmLayout], deadline: float) -> dict[str, str]:
    """The second part of C(port.Supervisor.remove). C(unwatched): those of C(vms) that nobody starts, watches or clears up after any more."""
    gone = [vm for vm in unwatched if (record := processes.recorded(vm)) is None or processes.wait_gone(record, deadline)]
    _give_back(gone)
    names = {vm.name for vm in gone}
    return {vm.name: _not_ended(vm) for vm in vms if vm.name not in names}


def _not_ended(vm: VmLayout) -> str:
    return (
        f"VM {vm.name!r} was killed, but its process or its clearing up did not end in time. "
        f"See {vm.vmm_log}; a process that waits for an unreachable disk ends when the disk is back."
    )


def _give_back(vms: t.Sequence[VmLayout]) -> None:
    """What VMs that are to be removed still have of the host's (taps, access to files); their processes have ended, and nobody is to read how."""
    left = set(end_taps(vms))
    for vm in vms:
        if (vm.name in left or os.path.lexists(vm.limits) or os.path.lexists(vm.granted)) and os.path.lexists(vm.launch):
            run_verb(vm, "clear")


def end_taps(vms: t.Sequence[VmLayout]) -> list[str]:
    """Removes the taps of VMs that are not to run any more: of all in one go. The names of VMs that still have one. The records stay, for whoever has to
    do it again."""
    owners = {tap: vm.name for vm in vms for tap in _recorded_taps(vm)}
    return [owners[tap] for tap in remove_taps(owners)]


def _recorded_taps(vm: VmLayout) -> list[str]:
    if not os.path.lexists(vm.taps):
        return []
    _require_ours(vm.taps)
    return read_text(vm.taps).split()


def _require_ours(path: str) -> None:
    with os_errors(f"look at {path}"):
        status = os.lstat(path)
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022 or not stat.S_ISREG(status.st_mode):
        raise FailedPrecondition(f"{path} is not ours alone to write, so it is not run. Run the task as the user it belongs to, or remove it.")


def run_verb(vm: VmLayout, *verb: str, timeout_s: float = 30.0) -> str:
    """Runs a verb of the launch file to its end; its output. DeadlineExceeded when it does not come to one, FailedPrecondition for a file that
    another user could have written: a directory given by C(state_dir) may be anybody's."""
    _require_ours(vm.launch)
    try:
        done = subprocess.run(
            ["/bin/sh", vm.launch, *verb],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=CLEAN_ENVIRONMENT,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise DeadlineExceeded(f"{vm.launch} {' '.join(verb)} did not end within {timeout_s:.0f} s. See {vm.vmm_log}.") from exc
    return done.stdout.decode("utf-8", "replace")


def start_failure(vm: VmLayout, otherwise: str) -> str:
    """Why a start failed, in one paragraph: the step, how the process ended, the last lines of its logs."""
    try:
        problem = read_text(vm.problem).strip()
    except FileNotFoundError:
        problem = otherwise
    ending = events.last_exit(events.read(vm))
    how = ""
    if ending is not None and ending.reason != "lost":
        how = f" It ended by {ending.signal}." if ending.signal else f" It ended with code {ending.code}."
    # In a directory of root's a link is of our making: it names the file that the user chose for the console.
    console = os.readlink(vm.console_log) if os.path.islink(vm.console_log) else vm.console_log
    lines = last_lines(vm.vmm_log, 6) + last_lines(console, 6)
    said = " Its last lines: " + " | ".join(lines) if lines else ""
    return f"{problem}{how}{said}"
