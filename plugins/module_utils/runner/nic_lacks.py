# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a VM's interfaces is not on this host: networks, bridges, taps. Reads only; each lack comes with its remedy."""

from __future__ import annotations

import os
import typing as t

from ..errors import Violation

if t.TYPE_CHECKING:
    from ..backends.port import TapUse
    from ..model.config import Network, VmConfig
    from .seen_networks import Networks

NET = "/sys/class/net"
# As launch files look for programs.
PROGRAM_PLACES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def nic_lacks(config: VmConfig, uid: t.Optional[int], isolated: bool, networks: t.Optional[Networks]) -> list[Violation]:
    """C(uid), C(isolated), C(networks) as for C(host_lacks)."""
    lacks: list[Violation] = []
    for index, nic in enumerate(config.network):
        field = f"config.network[{index}]"
        if nic.tap_device:
            lacks += _interface(f"{field}.tap_device", nic.tap_device)
            lacks += _foreign_tap(f"{field}.tap_device", nic.tap_device, uid, isolated)
            lacks += [] if isolated else _tap_to_make(f"{field}.tap_device", nic.tap_device)
            lacks += _vlan(f"{field}.vlan", nic.tap_device) if nic.vlan is not None else []
        if nic.network and networks is not None:
            lacks += _network(field, nic, networks, isolated)
    return lacks + _taps_used_twice(config)


def limit_lacks(taps: t.Iterable[TapUse], isolated: bool) -> list[Violation]:
    """What is missing for limits that the host is to keep."""
    limited = [tap.name for tap in taps if tap.limit_rx is not None or tap.limit_tx is not None]
    if not limited:
        return []
    if not isolated:
        remedy = "Run the task with become, or leave the limits out."
        return [Violation("config.network", f"only root can limit what passes through {', '.join(limited)}, which the VMM does not. {remedy}")]
    missing = [name for name in ("tc", "nft") if not any(os.access(f"{place}/{name}", os.X_OK) for place in PROGRAM_PLACES)]
    return [Violation("config.network", f"{name} is missing, by which taps are limited. Install iproute2 and nftables.") for name in missing]


def _interface(field: str, name: str) -> list[Violation]:
    if not os.path.exists(f"{NET}/{name}"):
        return [
            Violation(
                field,
                f"there is no interface {name} on this host, and no network of that name. Make the network with unkey.vmcp.vmcp_network, the tap "
                f"('ip tuntap add {name} mode tap'), or the bridge on which a tap is to be made ('ip link add {name} type bridge').",
            )
        ]
    if not is_bridge(name) and not is_tap(name):
        return [Violation(field, f"{name} is neither a tap nor a bridge. Name a tap, or a bridge on which a tap is to be made.")]
    return []


def _network(field: str, nic: Network, networks: Networks, isolated: bool) -> list[Violation]:
    name = str(nic.network)
    network = networks.get(name)
    if network is None:
        remedy = f"Make it with unkey.vmcp.vmcp_network.{networks.nearest(name)}"
        return [Violation(f"{field}.network", f"there is no network {name} on this host. {remedy}")]
    lacks = [] if isolated else [Violation(f"{field}.network", f"only root can put a VM on network {name}. Run the task with become.")]
    if network.bridge and not is_bridge(network.bridge):
        remedy = "Run its unkey.vmcp.vmcp_network task again."
        lacks.append(Violation(f"{field}.network", f"network {name} is not up: its bridge {network.bridge} is not there. {remedy}"))
    elif network.bridge is None and network.parent and not os.path.exists(f"{NET}/{network.parent}"):
        remedy = "Bring it back, or run the network's unkey.vmcp.vmcp_network task again."
        lacks.append(Violation(f"{field}.network", f"network {name} is not up: its interface {network.parent} is not there. {remedy}"))
    elif network.bridge and nic.vlan is not None:
        lacks += _vlan(f"{field}.vlan", network.bridge)
    return lacks


def _vlan(field: str, bridge: str) -> list[Violation]:
    """Only a bridge that filters VLANs has them; a kernel that cannot filter has no such setting."""
    try:
        with open(f"{NET}/{bridge}/bridge/vlan_filtering", encoding="ascii") as stream:
            filters = stream.read().strip() == "1"
    except FileNotFoundError:
        return [Violation(field, f"the kernel of this host cannot filter VLANs on {bridge} , or it is no bridge. Leave vlan out.")]
    if filters:
        return []
    remedy = f"Switch it on ('ip link set dev {bridge} type bridge vlan_filtering 1'), which changes what passes for all on it, or leave vlan out."
    return [Violation(field, f"the bridge {bridge} does not filter VLANs. {remedy}")]


def _foreign_tap(field: str, name: str, uid: t.Optional[int], isolated: bool) -> list[Violation]:
    """A tap that has an owner lets nobody else in. One without lets in whoever may open /dev/net/tun."""
    try:
        with open(f"{NET}/{name}/owner", encoding="ascii") as stream:
            owner = int(stream.read())
    except (OSError, ValueError):
        # No tap (a bridge), or not there: said elsewhere.
        return []
    if owner in (-1, 0xFFFFFFFF, uid if isolated else os.geteuid()) or (not isolated and os.geteuid() == 0):
        return []
    if not isolated:
        remedy = f"Let root make it for you ('ip tuntap add {name} mode tap user {os.geteuid()}'), or name a tap of yours."
        return [Violation(field, f"the tap {name} belongs to uid {owner}, not to this user ({os.geteuid()}). {remedy}")]
    return [
        Violation(
            field,
            f"the tap {name} belongs to uid {owner}, and this VM runs under a uid of its own. Make the tap without an owner ('ip tuntap add {name} mode tap'), "
            "or name a bridge, on which a tap is made for it.",
        )
    ]


def _tap_to_make(field: str, name: str) -> list[Violation]:
    if not is_bridge(name):
        return []
    remedy = f"Run the task with become, or let root make a tap for this user ('ip tuntap add NAME mode tap user {os.geteuid()}') and name that."
    return [Violation(field, f"{name} is a bridge, and only root can make a tap on it. {remedy}")]


def _taps_used_twice(config: VmConfig) -> list[Violation]:
    """Two interfaces may share a bridge; a tap carries one."""
    seen: dict[str, int] = {}
    lacks = []
    for index, nic in enumerate(config.network):
        if not nic.tap_device or is_bridge(nic.tap_device):
            continue
        if nic.tap_device in seen:
            lacks.append(
                Violation(
                    f"config.network[{index}].tap_device",
                    f"{nic.tap_device} is used by config.network[{seen[nic.tap_device]}] already. Name another tap, or a bridge.",
                )
            )
        seen.setdefault(nic.tap_device, index)
    return lacks


def is_tap(name: str) -> bool:
    return os.path.exists(f"{NET}/{name}/tun_flags")


def is_bridge(name: str) -> bool:
    return os.path.isdir(f"{NET}/{name}/bridge")
