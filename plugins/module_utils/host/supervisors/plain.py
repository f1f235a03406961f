# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plain supervisor: one small C(/bin/sh) for each running VM (C(launch_supervise)), for hosts without systemd, other users than root, and other
directories; and one more, for all VMs of a directory, that bounds their logs."""

from __future__ import annotations

import fcntl
import os
import signal
import time
import typing as t
from functools import partial

from .. import processes, trimming
from ..files import os_errors, write_if_different
from ..host_json import read_host_json
from ..jail_mounts import Jails, with_jails
from ..locks import ensure_lock_dir
from ..trees import ensure_dir
from . import ending, starting

if t.TYPE_CHECKING:
    from ..layout import Layout, VmLayout

# How often the logs are looked at; they exceed their bound by what a guest prints in this time.
TRIM_INTERVAL_S = 15
# From its start to its first line: a shell that has to get a processor.
TRIMMER_SAYS_WHO_S = 2.0
# The descriptor on which the shell files expect their lock.
_LOCK_FD = 9
_IN_PRIVATE = ("unshare", "--mount", "--propagation", "slave", "--")


class PlainSupervisor:
    """See C(port.Supervisor)."""

    name = "plain"

    def __init__(self, layout: Layout, *, trim_interval_s: int = TRIM_INTERVAL_S, console_max_bytes: t.Optional[int] = None) -> None:
        self._layout = layout
        # Not the name of what systemd runs once a time: a host may have VMs of both.
        self._trimmer = f"{layout.state_dir}/trim-logs.plain"
        self._trim_interval_s = trim_interval_s
        self._console_max_bytes = console_max_bytes

    def ensure_installed(self) -> bool:
        ensure_dir(self._layout.state_dir, 0o711)
        most = self._console_max_bytes or read_host_json().console_max_bytes
        return write_if_different(self._trimmer, trimming.loop(self._layout.vms, self._layout.run_dir, self._layout.trimmer_lock, most, self._trim_interval_s))

    def start(self, vms: t.Sequence[VmLayout], deadline: float) -> dict[str, str]:
        self.ensure_installed()
        spawned: dict[str, int] = {}
        failures: dict[str, str] = {}
        try:
            set_off = partial(self._set_off, vms, deadline, spawned, failures)
            starts = set_off(None) if os.geteuid() else with_jails(set_off)
            self._see_to_trimming()
            failures |= starting.watch(starts, deadline, lambda quiet: self._quiet(quiet, spawned))
        finally:
            for pid in spawned.values():
                _has_ended(pid)
        if failures:
            self._end_trimming(())
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
        self._end_trimming([vm.name for vm in vms])

    def remove(self, vms: t.Sequence[VmLayout], deadline: float) -> dict[str, str]:
        here = [vm for vm in vms if os.path.isdir(vm.run)]
        return ending.see_removed(here, [vm for vm in here if _is_free(vm.supervisor_lock)], deadline)

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

    def _see_to_trimming(self) -> None:
        ensure_lock_dir(self._layout.lock_dir)
        with os_errors(f"start {self._trimmer}"):
            lock = _lock_file(self._layout.trimmer_lock)
            if lock is None:
                return
            try:
                # What stands there is of one that has ended; the new one says itself who it is.
                os.ftruncate(lock, 0)
                nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
                try:
                    _detached(["/bin/sh", self._trimmer], nowhere, lock)
                finally:
                    os.close(nowhere)
            finally:
                os.close(lock)

    def _end_trimming(self, removed: t.Collection[str]) -> None:
        """It would end by itself, some time after the last VM: with the last one removed, nothing of ours is to be left."""
        with os_errors(f"list {self._layout.run_dir}"):
            for name in os.listdir(self._layout.run_dir) if os.path.isdir(self._layout.run_dir) else ():
                # What is not a VM's has a name that no VM can have.
                if name not in removed and not name.startswith(".") and processes.current(self._layout.vm(name)) is not None:
                    return
        limit = time.monotonic() + TRIMMER_SAYS_WHO_S
        while (trimmer := processes.parse_record(self._layout.trimmer_lock)) is None and not _is_free(self._layout.trimmer_lock):
            if time.monotonic() >= limit:
                # It ends by itself all the same.
                return
            time.sleep(ending.POLL_S)
        if trimmer is not None:
            processes.end_session(trimmer)

    def _is_abandoned(self, vm: VmLayout) -> bool:
        return _is_free(vm.supervisor_lock)

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
                return _detached([*words, *(["adopt"] if adopt else [])], log, lock)
            if adopt:
                return _detached([*_IN_PRIVATE, *words, "adopt"], log, lock)
            return jails.start(vm, lambda: _detached([*words, "mounted"], log, lock), lambda: _detached([*_IN_PRIVATE, *words], log, lock))
        finally:
            os.close(log)


def _detached(command: t.Sequence[str], output: int, lock: int) -> int:
    """Starts a shell file of ours in a session of its own; its pid. Python has SIGPIPE ignored, which would be inherited."""
    return os.posix_spawnp(
        command[0],
        list(command),
        ending.CLEAN_ENVIRONMENT,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
            (os.POSIX_SPAWN_DUP2, lock, _LOCK_FD),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
    )


def _has_ended(pid: int) -> bool:
    """Whether a child of ours is through; it is waited for only once."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _lock_file(path: str, flags: int = os.O_CREAT) -> t.Optional[int]:
    """A descriptor that has the lock; None when somebody else has it."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _lock(vm: VmLayout) -> t.Optional[int]:
    ensure_dir(vm.run, 0o711, sync=False)
    with os_errors(f"lock {vm.supervisor_lock}"):
        return _lock_file(vm.supervisor_lock)


def _is_free(path: str) -> bool:
    """Whether nobody has this lock: of a VM, whether nobody starts, watches or clears up after it. Makes nothing."""
    with os_errors(f"look at {path}"):
        try:
            lock = _lock_file(path, 0)
        except FileNotFoundError:
            return True
    if lock is None:
        return False
    os.close(lock)
    return True


def _kill_supervisor(vm: VmLayout) -> None:
    supervisor = processes.parse_record(vm.supervisor)
    if supervisor is not None:
        processes.end(supervisor, signal.SIGKILL)


def _wait_for_lock(vm: VmLayout, deadline: float) -> bool:
    """Whoever has it is ended as soon as it is known: one that starts its VM anew by policy says only then who it is."""
    while not _is_free(vm.supervisor_lock):
        if time.monotonic() >= deadline:
            return False
        time.sleep(ending.POLL_S)
        _kill_supervisor(vm)
    return True
