# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plain supervisor: one small C(/bin/sh) for each running VM, for hosts without systemd, other users than root, and other directories."""

from __future__ import annotations

import os
import subprocess
import time
import typing as t

from ...errors import Internal
from .. import processes
from ..files import ensure_dir, os_errors, read_text, remove, write_if_different
from . import ending

if t.TYPE_CHECKING:
    from ..layout import Layout, VmLayout

# How often the logs are looked at; they exceed their bound by what a guest prints in this time.
TRIM_INTERVAL_S = 15

# 'wait' does not tell an exit code above 128 from a signal. Signals that end a process are 1-16 and 31; Firecracker's own codes (148-157) are not
# among them, so they stay codes.
SCRIPT = r"""#!/bin/sh
# Supervisor of one VM, written by unkey.vmcp; changes are overwritten. Arguments: launch file, run-time directory, seconds between trims.
set -uf
umask 077
launch=$1 run=$2 interval=$3
# One at a time, also when a task was killed and run again; no child keeps the lock.
report() { printf '%s\n' "$1" > "$run/started.$$" && mv -f -- "$run/started.$$" "$run/started"; }

exec 9>> "$run/supervisor.lock"
flock --nonblock 9 || { report other; exit 0; }
ending='' nap='' vm='' adopted=''

process_stat() { # sets stat to what follows the name; without a child, whose end would wake the nap
    stat=''
    { while read -r line; do stat=$stat$line; done < "/proc/$1/stat"; } 2>/dev/null
    stat=${stat##*) }
}

gone() {
    process_stat "$vm"
    case $stat in ''|Z*|X*|x*) return 0 ;; esac
    return 1
}

# By force: a child that is not yet 'sleep' still has our traps, and would forget a TERM when it becomes it.
wake() { [ -z "$nap" ] || kill -KILL "$nap" 2>/dev/null; }

watch() {
    slept=0 long=$interval
    # A process that is not our child ends without waking us.
    [ -z "$adopted" ] || long=1
    trap wake CHLD
    while :; do
        sleep "$long" 9>&- & nap=$!
        gone || wait "$nap"
        kill -KILL "$nap" 2>/dev/null; nap=''
        gone && break
        if [ -n "$ending" ]; then ending=''; /bin/sh "$launch" stop 9>&-; fi
        slept=$(( slept + long ))
        if [ "$slept" -ge "$interval" ]; then slept=0; /bin/sh "$launch" trim 9>&-; fi
    done
    trap - CHLD
}

# The VMM of a supervisor that was killed: watched on, its exit code will be lost.
adopt() {
    [ -f "$run/pid" ] && read -r other started _ booted < "$run/pid" && [ "$booted" = "$host_boot_id" ] && [ "$other" != "$vm" ] || return 1
    process_stat "$other"
    case $stat in ''|Z*|X*|x*) return 1 ;; esac
    set -- $stat
    [ "${20}" = "$started" ] || return 1
    vm=$other adopted=yes
}

how_it_ended() {
    export EXIT_CODE=unknown EXIT_STATUS=''
    [ -z "$adopted" ] || return 0
    wait "$vm"
    EXIT_STATUS=$? EXIT_CODE=exited
    number=$(( EXIT_STATUS - 128 ))
    if [ "$number" -eq 31 ] || { [ "$number" -ge 1 ] && [ "$number" -le 16 ]; }; then
        EXIT_CODE=killed EXIT_STATUS=$(kill -l "$number")
    fi
}

trap 'ending=yes; wake' TERM
process_stat $$
set -- $stat
read -r host_boot_id < /proc/sys/kernel/random/boot_id
printf '%s %s - %s\n' "$$" "${20}" "$host_boot_id" > "$run/supervisor"
adopt
while :; do
    result=ok
    if [ -z "$adopted" ]; then
        /bin/sh "$launch" run < /dev/null 9>&- & vm=$!
        if MAINPID=$vm /bin/sh "$launch" boot 9>&-; then
            report ok
        else
            # Refused because it runs already: then that is the one to watch.
            adopt || { result=failed; kill -KILL "$vm" 2>/dev/null; }
        fi
    fi
    [ -z "$adopted" ] || report ok
    watch
    how_it_ended
    adopted=''
    /bin/sh "$launch" ended plain 9>&-
    again=$?
    [ "$result" = ok ] || report failed
    [ "$again" -eq 3 ] || break
done
rm -f -- "$run/supervisor"
"""


class PlainSupervisor:
    """See C(port.Supervisor)."""

    name = "plain"

    def __init__(self, layout: Layout, *, trim_interval_s: int = TRIM_INTERVAL_S) -> None:
        self._layout = layout
        self._script = f"{layout.state_dir}/supervisor"
        self._trim_interval_s = trim_interval_s

    def ensure_installed(self) -> bool:
        ensure_dir(self._layout.state_dir, 0o711)
        return write_if_different(self._script, SCRIPT)

    def start(self, vms: t.Sequence[VmLayout], deadline: float) -> dict[str, str]:
        self.ensure_installed()
        waiting, spawned = list(vms), set[str]()
        failures: dict[str, str] = {}
        while waiting := [vm for vm in waiting if not self._is_through(vm, spawned, failures)]:
            if time.monotonic() >= deadline:
                for vm in waiting:
                    failures[vm.name] = ending.start_failure(vm, "The VMM did not come up before the deadline of the task.")
                break
            time.sleep(ending.POLL_S)
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

    def forget(self, vm: VmLayout) -> None:
        """Its own traces are in the VM's run-time directory, which goes with the VM; what the launch file left on the host is cleared up."""
        ending.clear_up_after(vm)

    # --- inside -------------------------------------------------------------------------------------------
    def _spawn(self, vm: VmLayout) -> None:
        ensure_dir(vm.run, 0o711)
        ensure_dir(vm.dir, 0o711)
        with os_errors(f"start the supervisor of VM {vm.name}"):
            for stale in (f"{vm.run}/started", f"{vm.run}/problem"):
                remove(stale)
            log = os.open(vm.vmm_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                # setsid --fork: a session of its own, and no child of the task's, which would wait for it or take it along.
                command = ["setsid", "--fork", "/bin/sh", self._script, vm.launch, vm.run, str(self._trim_interval_s)]
                done = subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=ending.CLEAN_ENVIRONMENT, close_fds=True, check=False, timeout=10
                )
            finally:
                os.close(log)
        if done.returncode != 0:
            raise Internal(f"The supervisor of VM {vm.name!r} could not be started: setsid ended with code {done.returncode}. See {vm.vmm_log}.")

    def _is_through(self, vm: VmLayout, spawned: set[str], failures: dict[str, str]) -> bool:
        """Starts a supervisor where none is. One that is there may have been started a moment ago by a task that was killed, may be about to restart the VM by
        policy, or to end after it: it is waited for, until the VM runs or it is gone."""
        supervised = self._is_supervised(vm)
        said = self._said(vm)
        runs = supervised and processes.current(vm) is not None
        if vm.name not in spawned or said == "other":
            if runs and (said == "ok" or os.path.lexists(f"{vm.run}/up")):
                return True
            if not supervised:
                self._spawn(vm)
                spawned.add(vm.name)
            return False
        if said not in ("", "ok"):
            failures[vm.name] = ending.start_failure(vm, "The VMM was not started.")
            return True
        # It may have been up and be gone: a guest may be through with its work already.
        return said == "ok" and (runs or not supervised)

    def _said(self, vm: VmLayout) -> str:
        """What the supervisor reported of its start: C(ok), C(failed), C(other) (there is one already); empty while it has not."""
        try:
            return read_text(f"{vm.run}/started").strip()
        except FileNotFoundError:
            return ""

    def _is_supervised(self, vm: VmLayout) -> bool:
        record = processes.parse_record(f"{vm.run}/supervisor")
        return record is not None and processes.is_live(record)

    def _is_abandoned(self, vm: VmLayout) -> bool:
        return not self._is_supervised(vm)

    def _wait_supervisor_gone(self, vm: VmLayout, deadline: float) -> None:
        """It ends right after its VM; a start that came before that would take it for one that watches. It stays when policy restarts the VM."""
        limit = max(deadline, time.monotonic() + 5)
        while self._is_supervised(vm) and processes.current(vm) is None and time.monotonic() < limit:
            time.sleep(ending.POLL_S)
