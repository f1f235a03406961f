# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd's part: one template unit for all VMs, one timer that bounds their logs. No process stays but the VMMs.

Nothing here costs a reload per VM: instances of the template need none, and autostart is a link that only counts at the next boot.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import typing as t

from ...errors import Unavailable
from .. import processes, trimming
from ..files import os_errors, remove, write_if_different
from ..host_json import read_host_json
from ..layout import SYSTEM_RUN_DIR, SYSTEM_STATE_DIR, Layout
from ..trees import ensure_dir
from . import ending, starting

if t.TYPE_CHECKING:
    from ..layout import VmLayout

UNIT_DIR = "/etc/systemd/system"
TEMPLATE = "vmcp-vm@.service"
TARGET = "vmcp.target"
TIMER = "vmcp-console.timer"
# The host's networks for VMs, which are up before any VM starts (C(host.network.units)); without networks there is no such unit, which is fine.
NETWORKS_TARGET = "vmcp-networks.target"
COMMAND_TIMEOUT_S = 30.0
# Asking systemd takes a process, so it is asked only about an end that is not cleared up after this long, which takes milliseconds.
PATIENCE_S = 0.2
# States of a unit of which nothing runs.
_THROUGH = ("inactive", "failed")

_HEAD = "# Written by unkey.vmcp; changes are overwritten. Put your own into a drop-in: systemctl edit NAME.\n"
_LAUNCH = f"/bin/sh {SYSTEM_STATE_DIR}/vms/%i/launch"

# - A private mount namespace for the VMM alone: PrivateMounts= would also cost each of the other commands one.
# - The launch file itself sees to what comes after the process is there (Cloud Hypervisor is told what to boot): no ExecStartPost=, which would cost
#   each start another process of systemd's.
# - It bounds starting and stopping by the VM's own timeouts, which in units would need a reload per VM; those here only catch what hangs for good.
# - It restarts by the VM's policy (ExecStopPost), which knows a guest's reboot from its power-off: no Restart=, and no limit of systemd's.
# - SIGKILL and SIGTERM are how a VM is ended by force; the reason of each end is in events.jsonl. A failed unit then means a VMM that failed.
_UNITS = {
    TEMPLATE: f"""{_HEAD}[Unit]
Description=VM %i (unkey.vmcp)
After=local-fs.target remote-fs.target network.target {NETWORKS_TARGET}
StartLimitIntervalSec=0

[Service]
Type=exec
Slice=vmcp.slice
ExecStart=/usr/bin/unshare --mount --propagation slave -- {_LAUNCH} inside
ExecStop={_LAUNCH} stop
ExecStopPost={_LAUNCH} ended systemd
KillMode=mixed
SuccessExitStatus=SIGKILL SIGTERM
TimeoutStartSec=10min
TimeoutStopSec=1h
UMask=0077
LimitCORE=0
""",
    "vmcp.slice": f"""{_HEAD}[Unit]
Description=VMs of unkey.vmcp
Before=slices.target
""",
    TARGET: f"""{_HEAD}[Unit]
Description=VMs that start with the host (unkey.vmcp)
Wants={TIMER}
""",
    TIMER: f"""{_HEAD}[Unit]
Description=Bounds the console logs of VMs (unkey.vmcp)

[Timer]
OnActiveSec=30s
OnUnitInactiveSec=30s
AccuracySec=5s
""",
    "vmcp-console.service": f"""{_HEAD}[Unit]
Description=Bounds the console logs of VMs (unkey.vmcp)

[Service]
Type=oneshot
ExecStart=/bin/sh {SYSTEM_STATE_DIR}/trim-logs
UMask=0077
# Twice a minute, two lines in the journal each time: no.
LogLevelMax=notice
""",
}


def files(console_max_bytes: int) -> dict[str, tuple[str, int]]:
    """All that is to be there before a VM runs under systemd: path to text and mode. The role vmcp_host writes the same, from here."""
    script = trimming.once(Layout(SYSTEM_STATE_DIR, SYSTEM_RUN_DIR).vms, console_max_bytes)
    return {
        f"{SYSTEM_STATE_DIR}/trim-logs": (script, 0o600),
        **{f"{UNIT_DIR}/{name}": (text, 0o644) for name, text in _UNITS.items()},
    }


def links() -> dict[str, str]:
    """Path to target, as C(files)."""
    return {f"{UNIT_DIR}/multi-user.target.wants/{TARGET}": f"{UNIT_DIR}/{TARGET}"}


class SystemdSupervisor:
    """See C(port.Supervisor). Only for the system's directories: the units name them."""

    name = "systemd"

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def ensure_installed(self) -> bool:
        ensure_dir(self._layout.state_dir, 0o711)
        ensure_dir(UNIT_DIR, 0o755)
        written = [path for path, (text, mode) in files(read_host_json().console_max_bytes).items() if write_if_different(path, text, mode=mode)]
        linked = [path for path, target in links().items() if _link(path, target)]
        if linked or any(path.startswith(UNIT_DIR) for path in written):
            _systemctl("daemon-reload")
        return bool(written or linked)

    def start(self, vms: t.Sequence[VmLayout], deadline: float) -> dict[str, str]:
        self.ensure_installed()
        waiting = [vm for vm in vms if processes.current(vm) is None]
        if not waiting:
            return {}
        starts = [starting.prepare(vm, look=True) for vm in waiting]
        # All in one request, which returns when each process is there; why one is not stands in the VM's own log.
        _systemctl("start", TIMER, *(_unit(vm) for vm in waiting), timeout_s=max(1.0, deadline - time.monotonic()), fails=True)
        return starting.watch(starts, deadline, _quiet)

    def kill(self, vm: VmLayout, deadline: float) -> None:
        ending.kill(vm, deadline, _is_abandoned, PATIENCE_S)

    def terminate(self, vm: VmLayout, deadline: float) -> None:
        ending.terminate(vm, deadline, _is_abandoned, PATIENCE_S)

    def wait_ended(self, vm: VmLayout, deadline: float) -> bool:
        return ending.wait_ended(vm, deadline, _is_abandoned, PATIENCE_S)

    def set_autostart(self, vm: VmLayout, on: bool) -> None:
        """No reload: the link is read when the host boots."""
        if on:
            _link(_wants(vm), f"{UNIT_DIR}/{TEMPLATE}")
        else:
            with os_errors(f"remove {_wants(vm)}"):
                remove(_wants(vm))

    def autostart(self, vm: VmLayout) -> bool:
        return os.path.lexists(_wants(vm))

    def end(self, vms: t.Sequence[VmLayout], deadline: float) -> None:
        for vm in vms:
            self.set_autostart(vm, False)
            processes.mark_removing(vm)
            processes.send(vm, signal.SIGKILL)

    def remove(self, vms: t.Sequence[VmLayout], deadline: float) -> dict[str, str]:
        # A start that policy asked for may be on its way: stopping the unit takes it back.
        _systemctl("stop", *map(_unit, vms), timeout_s=max(1.0, deadline - time.monotonic()), fails=True)
        states = _states(vms)
        left = ending.see_removed(vms, [vm for vm in vms if states[vm.name] in _THROUGH], deadline)
        failed = [_unit(vm) for vm in vms if states[vm.name] == "failed"]
        if failed:
            _systemctl("reset-failed", *failed, fails=True)
        return left


def _unit_of(name: str) -> str:
    return f"vmcp-vm@{name}.service"


def _unit(vm: VmLayout) -> str:
    return _unit_of(vm.name)


def _wants(vm: VmLayout) -> str:
    return f"{UNIT_DIR}/{TARGET}.wants/{_unit(vm)}"


def _link(path: str, target: str) -> bool:
    """A link that is as it should be is left alone. True when made."""
    with os_errors(f"make the link {path}"):
        if os.path.islink(path) and os.readlink(path) == target:
            return False
        ensure_dir(os.path.dirname(path), 0o755)
        remove(path)
        os.symlink(target, path)
    return True


def _quiet(vms: t.Sequence[VmLayout]) -> set[str]:
    """Those of whose unit nothing runs."""
    return {name for name, state in _states(vms).items() if state in _THROUGH}


def _is_abandoned(vm: VmLayout) -> bool:
    """systemd is through with the unit, so nobody is going to clear up after the process."""
    return bool(_quiet([vm]))


def _states(vms: t.Sequence[VmLayout]) -> dict[str, str]:
    """What systemd calls the ActiveState of each unit, by the VM's name. C(systemctl show) would ask for every property of each unit by itself; this is one
    question however many there are. A unit that is not listed is not loaded, which is C(inactive)."""
    if not vms:
        return {}
    which = _unit(vms[0]) if len(vms) == 1 else _unit_of("*")
    states = {}
    for line in _systemctl("list-units", "--all", "--full", "--plain", "--no-legend", which).splitlines():
        # Unit, whether it is loaded, its state; before them, older versions mark a failed one.
        words = line.lstrip("\u25cf* ").split(maxsplit=3)
        states[words[0]] = words[2]
    return {vm.name: states.get(_unit(vm), "inactive") for vm in vms}


def _systemctl(*words: str, timeout_s: float = COMMAND_TIMEOUT_S, fails: bool = False) -> str:
    """What systemctl says. Unavailable when it fails, unless the caller expects that (C(fails)) or looks at the outcome itself."""
    try:
        done = subprocess.run(
            ["systemctl", "--no-ask-password", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**ending.CLEAN_ENVIRONMENT, "SYSTEMD_COLORS": "0"},
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as exc:
        raise Unavailable("systemctl is missing on this host. Use supervisor: plain.") from exc
    except subprocess.TimeoutExpired as exc:
        if fails:
            return f"systemctl {words[0]} did not end within {timeout_s:.0f} s."
        raise Unavailable(f"systemctl {words[0]} did not end within {timeout_s:.0f} s. See journalctl -b for what systemd is busy with.") from exc
    said = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode != 0 and not fails:
        raise Unavailable(f"systemctl {' '.join(words[:2])} failed: {said or f'code {done.returncode}'}. See journalctl -b.")
    return said
