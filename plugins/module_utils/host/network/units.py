# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks under systemd: template units over the plain files, so that a booting host has its networks before its VMs. Standard library only."""

from __future__ import annotations

import os
import typing as t

from ...errors import Unavailable
from ..files import os_errors, remove, write_if_different
from ..layout import SYSTEM_RUN_DIR, SYSTEM_STATE_DIR
from ..supervisors.systemd import NETWORKS_TARGET, UNIT_DIR
from ..trees import ensure_dir
from . import programs

if t.TYPE_CHECKING:
    from .store import NetworkStore

NETWORK = "vmcp-network@.service"
DNS = "vmcp-dns@.service"
_HEAD = "# Written by unkey.vmcp; changes are overwritten. Put your own into a drop-in: systemctl edit NAME.\n"
_DIR = f"{SYSTEM_STATE_DIR}/networks/%i"

# - After other firewalls, whose chains our rules are put in; with nftables.service, which empties all tables when it is restarted.
# - dnsmasq goes into the background once it serves: what waits for its unit can rely on it.
# - Nothing is taken down when the unit stops: VMs run on the network, and a removal is the task's business.
_UNITS = {
    NETWORK: f"""{_HEAD}[Unit]
Description=Network %i of VMs (unkey.vmcp)
After=network-pre.target nftables.service netfilter-persistent.service firewalld.service ufw.service docker.service
PartOf=nftables.service
Before={NETWORKS_TARGET}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh {_DIR}/up
TimeoutStartSec=2min
""",
    DNS: f"""{_HEAD}[Unit]
Description=Addresses and names of network %i (unkey.vmcp)
Requires=vmcp-network@%i.service
After=vmcp-network@%i.service
Before={NETWORKS_TARGET}
StartLimitIntervalSec=0

[Service]
Type=forking
PIDFile={SYSTEM_RUN_DIR}.networks/%i/dnsmasq.pid
ExecStartPre=/bin/mkdir -p {SYSTEM_RUN_DIR}.networks/%i
ExecStart=/usr/sbin/dnsmasq --conf-file={_DIR}/dns/dnsmasq.conf
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=1s
Slice=vmcp.slice
""",
    NETWORKS_TARGET: f"""{_HEAD}[Unit]
Description=Networks of VMs (unkey.vmcp)
""",
}


def is_persistent(name: str, dhcp: bool) -> bool:
    """Whether the host brings the network up when it boots, and holds it as up now."""
    wanted = [f"vmcp-network@{name}.service", *([f"vmcp-dns@{name}.service"] if dhcp else [])]
    linked = all(os.path.lexists(_wants(unit)) for unit in wanted) and (dhcp or not os.path.lexists(_wants(f"vmcp-dns@{name}.service")))
    return linked and _are_installed() and systemctl("is-active", *wanted, fails=True).split() == ["active"] * len(wanted)


def _are_installed() -> bool:
    from ..files import is_as

    return all(is_as(f"{UNIT_DIR}/{unit}", text, 0o644, -1) for unit, text in _UNITS.items())


def enable(store: NetworkStore, name: str, dhcp: bool) -> None:
    """Installs the units, links the network's for the next boot, and starts them: what is up already is told the same once more."""
    del store
    ensure_dir(UNIT_DIR, 0o755)
    stale = [unit for unit, text in _UNITS.items() if write_if_different(f"{UNIT_DIR}/{unit}", text, mode=0o644)]
    link(f"{UNIT_DIR}/multi-user.target.wants/{NETWORKS_TARGET}", f"{UNIT_DIR}/{NETWORKS_TARGET}")
    link(_wants(f"vmcp-network@{name}.service"), f"{UNIT_DIR}/{NETWORK}")
    if dhcp:
        link(_wants(f"vmcp-dns@{name}.service"), f"{UNIT_DIR}/{DNS}")
    else:
        with os_errors(f"remove {_wants(f'vmcp-dns@{name}.service')}"):
            remove(_wants(f"vmcp-dns@{name}.service"))
    if stale:
        systemctl("daemon-reload")
    systemctl("start", f"vmcp-network@{name}.service", *([f"vmcp-dns@{name}.service"] if dhcp else []))


def restart_dns(name: str) -> None:
    systemctl("restart", f"vmcp-dns@{name}.service")


def stop_dns(name: str) -> None:
    systemctl("stop", f"vmcp-dns@{name}.service", fails=True)
    with os_errors(f"remove {_wants(f'vmcp-dns@{name}.service')}"):
        remove(_wants(f"vmcp-dns@{name}.service"))


def disable(name: str) -> None:
    units = [f"vmcp-dns@{name}.service", f"vmcp-network@{name}.service"]
    for unit in units:
        with os_errors(f"remove {_wants(unit)}"):
            remove(_wants(unit))
    systemctl("stop", *units, fails=True)
    systemctl("reset-failed", *units, fails=True)


def _wants(unit: str) -> str:
    return f"{UNIT_DIR}/{NETWORKS_TARGET}.wants/{unit}"


def link(path: str, target: str) -> None:
    with os_errors(f"make the link {path}"):
        if os.path.islink(path) and os.readlink(path) == target:
            return
        ensure_dir(os.path.dirname(path), 0o755)
        remove(path)
        os.symlink(target, path)


def systemctl(*words: str, fails: bool = False) -> str:
    """What systemctl says. Unavailable when it fails, unless the caller looks at the outcome itself (C(fails))."""
    try:
        return programs.run(["systemctl", "--no-ask-password", *words], timeout_s=150.0, fails=fails)
    except programs.RefusedError as exc:
        raise Unavailable(f"systemctl {' '.join(words[:2])} failed: {exc}. See journalctl -b.") from exc
