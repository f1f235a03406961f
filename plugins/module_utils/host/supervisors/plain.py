# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plain supervisor: one small C(/bin/sh) for each running VM (C(launch_supervise)), for hosts without systemd, other users than root, and other
directories; and one more, for all VMs of a directory, that bounds their logs."""

from __future__ import annotations

import os
import signal
import time
import typing as t
from functools import partial

from .. import processes
from ..files import os_errors
from ..host_json import read_host_json
from ..jail_mounts import Jails, with_jails
from ..trees import ensure_dir
from . import ending, starting
from .shells import detached, is_free, lock_file
from .trimmer import Trimmer

if t.TYPE_CHECKING:
    from ..layout import Layout, VmLayout

# How often the logs are looked at; they exceed their bound by what a guest prints in this time.
TRIM_INTERVAL_S = 15
_IN_PRIVATE = ("unshare", "--mount", "--propagation", "slave", "--")


class PlainSupervisor:
    """See C(port.Supervisor)."""

    name = "plain"

    def __init__(self, layout: Layout, *, trim_interval_s: int = TRIM_INTERVAL_S, console_max_bytes: t.Optional[int] = None) -> None:
        self._layout = layout
        self._trimmer = Trimmer(layout, trim_interval_s)
        self._console_max_bytes = console_max_bytes

    def ensure_installed(self) -> bool:
        ensure_dir(self._layout.state_dir, 0o711)
        return self._trimmer.ensure_installed(self._console_max_bytes or read_host_json().console_max_bytes)

    def start(self, vms: t.Sequence[VmLayout], deadline: float) -> dict[str, str]:
        self.ensure_installed()
        spawned: dict[str, int] = {}
        failures: dict[str, str] = {}
        try:
            set_off = partial(self._set_off, vms, deadline, spawned, failures)
            starts = set_off(None) if os.geteuid() else with_jails(set_off)
            self._trimmer.ensure_running()
            failures |= starting.watch(starts, deadline, lambda quiet: self._quiet(quiet, spawned))
        finally:
            for pid in spawned.values():
                _has_ended(pid)
        if failures:
            self._trimmer.end(())
        return failures

    def kill(self, vm: VmLayout, deadline: float) -> None:
        ending.kill(vm, deadline, self._is_abandoned)
        self._wait_supervisor_gone(vm, deadline)

    def terminate(self, vm: VmLayout, deadline: float) -> None:
        ending.terminate(vm, deadline, self._is_abandoned)
        self._wait_supervisor_gone(vm, deadline)

    def wait_ended(self, vm: VmLayout, deadline: float) -> bool:
        ended = ending.wait_ended(vm, deadline, self._is_abandoned)
        if ended:
            self._wait_supervisor_gone(vm, deadline)
        return ended

    def set_autostart(self, vm: VmLayout, on: bool) -> None:
        """Nothing to set: nobody starts VMs with the host but systemd."""

    def autostart(self, vm: VmLayout) -> bool:
        return False

    def end(self, vms: t.Sequence[VmLayout], deadline: float) -> None:
        """The supervisors first: without them nothing is started any more once their locks are free, also what was on its way."""
        here = [vm for vm in vms if os.path.isdir(vm.run)]
        for vm in here:
            _kill_supervisor(vm)
        for vm in here:
            if _wait_for_lock(vm, deadline):
                processes.send(vm, signal.SIGKILL)
        self._trimmer.end([vm.name for vm in vms])

    def remove(self, vms: t.Sequence[VmLayout], deadline: float) -> dict[str, str]:
        here = [vm for vm in vms if os.path.isdir(vm.run)]
        return ending.see_removed(here, [vm for vm in here if is_free(vm.supervisor_lock)], deadline)

    # --- inside -------------------------------------------------------------------------------------------
    def _set_off(
        self, vms: t.Sequence[VmLayout], deadline: float, spawned: dict[str, int], failures: dict[str, str], jails: t.Optional[Jails]
    ) -> list[starting.Start]:
        """A supervisor for each VM that has none. One that is there may have been started a moment ago by a task that was killed, may be about to
        restart the VM by policy, or to end after it: it is waited for, until the VM runs or it is gone."""
        starts = []
        waiting = list(vms)
        while waiting:
            others = []
            for vm in waiting:
                lock = _lock(vm)
                if lock is not None:
                    try:
                        runs = processes.current(vm) is not None
                        starts.append(starting.found(vm) if runs else starting.prepare(vm))
                        spawned[vm.name] = _spawn(vm, lock, jails, adopt=runs)
                    finally:
                        os.close(lock)
                elif processes.current(vm) is not None:
                    starts.append(starting.found(vm))
                else:
                    others.append(vm)
            waiting = others
            if waiting and time.monotonic() >= deadline:
                failures |= {vm.name: ending.start_failure(vm, "Another start of this VM is on its way and does not come to an end.") for vm in waiting}
                break
            if waiting:
                time.sleep(ending.POLL_S)
        return starts

    def _quiet(self, vms: t.Sequence[VmLayout], spawned: t.Mapping[str, int]) -> set[str]:
        return {vm.name for vm in vms if (_has_ended(spawned[vm.name]) if vm.name in spawned else self._is_abandoned(vm))}

    def _is_abandoned(self, vm: VmLayout) -> bool:
        return is_free(vm.supervisor_lock)

    def _wait_supervisor_gone(self, vm: VmLayout, deadline: float) -> None:
        """It ends right after its VM; a start that came before that would take it for one that watches. It stays when policy restarts the VM."""
        limit = max(deadline, time.monotonic() + 5)
        while not self._is_abandoned(vm) and processes.current(vm) is None and time.monotonic() < limit:
            time.sleep(ending.POLL_S)


def _spawn(vm: VmLayout, lock: int, jails: t.Optional[Jails], *, adopt: bool) -> int:
    """The supervisor's pid. It has the lock, and a session of its own: whatever becomes of the task, it stays. C(jails): None where we are not root."""
    with os_errors(f"start the supervisor of VM {vm.name}"):
        log = os.open(vm.vmm_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            words = ["/bin/sh", vm.launch, "supervise", "locked"]
            if jails is None or os.stat(vm.data).st_uid == 0:
                return detached([*words, *(["adopt"] if adopt else [])], log, lock)
            if adopt:
                return detached([*_IN_PRIVATE, *words, "adopt"], log, lock)
            return jails.start(vm, lambda: detached([*words, "mounted"], log, lock), lambda: detached([*_IN_PRIVATE, *words], log, lock))
        finally:
            os.close(log)


def _has_ended(pid: int) -> bool:
    """Whether a child of ours is through; it is waited for only once."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _lock(vm: VmLayout) -> t.Optional[int]:
    ensure_dir(vm.run, 0o711, sync=False)
    with os_errors(f"lock {vm.supervisor_lock}"):
        return lock_file(vm.supervisor_lock)


def _kill_supervisor(vm: VmLayout) -> None:
    supervisor = processes.parse_record(vm.supervisor)
    if supervisor is not None:
        processes.end(supervisor, signal.SIGKILL)


def _wait_for_lock(vm: VmLayout, deadline: float) -> bool:
    """Whoever has it is ended as soon as it is known: one that starts its VM anew by policy says only then who it is."""
    while not is_free(vm.supervisor_lock):
        if time.monotonic() >= deadline:
            return False
        time.sleep(ending.POLL_S)
        _kill_supervisor(vm)
    return True
