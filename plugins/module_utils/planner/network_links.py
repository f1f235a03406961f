# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The interfaces that a network needs on the host: what they should be, what differs, and the plain files from which a booting host makes them. Pure."""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import shlex
import typing as t

if t.TYPE_CHECKING:
    from ..model.network_definition import NetworkDefinition
    from .network_situation import HostNetwork, Link

IFNAME_MAX = 15
VXLAN_PORT = 4789
# What an interface's type needs of the kernel.
KERNEL_MODULES = {"bridge": "bridge", "vlan": "8021q", "vxlan": "vxlan", "macvtap": "macvtap"}


@dataclasses.dataclass(frozen=True)
class WantedLink:
    """An interface as it should be. C(kind) "" for one that is not ours, of which only C(master) is. C(info): what it is made with, which cannot be changed:
    C(mac) of a bridge; C(parent), C(id) of a vlan; C(id), C(local) of a vxlan."""

    name: str
    kind: str
    mtu: t.Optional[int] = None
    master: str = ""
    addresses: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    info: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)


def interface_name(prefix: str, network: str) -> str:
    """A name of at most 15 characters, which is all that the kernel takes: the network's own where it fits."""
    name = f"{prefix}-{network}"
    return name if len(name) <= IFNAME_MAX else f"{prefix}-{hashlib.sha256(network.encode()).hexdigest()[:12]}"


def bridge_mac(network: str, machine: str) -> str:
    """A bridge without a MAC address of its own has the lowest of its ports: guests would lose their gateway whenever a VM starts. C(machine): whatever
    tells this host from others that the network reaches."""
    return "02:" + ":".join(f"{octet:02x}" for octet in hashlib.sha256(f"bridge\0{machine}\0{network}".encode()).digest()[:5])


def wanted_links(network: NetworkDefinition) -> tuple[WantedLink, ...]:
    """In the order in which they are made."""
    settings, device = network.settings, network.generated.get("device", "")
    made: list[WantedLink] = []
    bridge = network.bridge or ""
    if network.kind in ("bridge", "vxlan", "uplink"):
        addresses = tuple(address for address in (network.ipv4, network.ipv6) if address)
        made.append(WantedLink(bridge, "bridge", network.mtu, addresses=addresses, info={"mac": network.generated["mac"]}))
    if network.kind == "vxlan":
        local = network.generated.get("local")
        peers = tuple(peer for peer in network.generated.get("peers", ()) if peer != local)
        made.append(WantedLink(device, "vxlan", network.mtu, bridge, peers=peers, info={"id": settings["vxlan"]["id"], "local": local}))
    if network.kind in ("uplink", "macvtap") and settings.get("vlan"):
        master = bridge if network.kind == "uplink" else ""
        made.append(WantedLink(device, "vlan", network.mtu, master, info={"parent": settings["interface"], "id": settings["vlan"]}))
    elif network.kind == "uplink":
        made.append(WantedLink(settings["interface"], "", None, bridge))
    return tuple(made)


def is_as_made(link: Link, wanted: WantedLink) -> bool:
    """Whether an interface is what we would have made under its name."""
    if wanted.kind and link.kind != wanted.kind:
        return False
    return all(link.info.get(key) == value for key, value in wanted.info.items())


def differences(wanted: t.Sequence[WantedLink], host: HostNetwork) -> list[str]:
    """What is not as it should be, in words; [] when all is."""
    found = []
    for link in wanted:
        there = host.links.get(link.name)
        if there is None:
            found.append(f"{link.name} is not there")
            continue
        if link.kind and not is_as_made(there, link):
            found.append(f"{link.name} is another interface than it was")
        if link.mtu is not None and there.mtu != link.mtu:
            found.append(f"{link.name} has an MTU of {there.mtu}")
        if there.master != link.master and (link.master or link.kind):
            found.append(f"{link.name} is {f'a port of {there.master}' if there.master else 'no port'}")
        if not there.up:
            found.append(f"{link.name} is down")
        if link.kind == "bridge":
            # Link-local addresses are the kernel's own business.
            own = {address for address in host.addresses.get(link.name, ()) if not ipaddress.ip_interface(address).is_link_local}
            found += [f"{link.name} has {'no' if address in link.addresses else 'the'} address {address}" for address in sorted(own ^ set(link.addresses))]
        if link.kind == "vxlan" and set(there.info.get("peers", ())) != set(link.peers):
            found.append(f"{link.name} has other peers")
    return found


def batch(wanted: t.Sequence[WantedLink]) -> str:
    """For C(ip -batch), once the interfaces are there. Running it again changes nothing."""
    lines = []
    for link in wanted:
        if link.mtu is not None:
            lines.append(f"link set dev {link.name} mtu {link.mtu}")
        if link.master:
            lines.append(f"link set dev {link.name} master {link.master}")
        lines += [f"addr replace {address} dev {link.name}{' nodad' if ':' in address else ''}" for address in link.addresses]
        lines.append(f"link set dev {link.name} up")
    return "".join(f"{line}\n" for line in lines)


_HEAD = """#!/bin/sh
# Brings up network {name}, also when the host boots: written by unkey.vmcp; changes are overwritten. Running it again changes nothing.
set -eu
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
export PATH LC_ALL
cd {dir}
has() {{ ip link show dev "$1" >/dev/null 2>&1; }}
say() {{ [ ! -e "/proc/sys/net/$1" ] || [ "$(cat "/proc/sys/net/$1")" = "$2" ] || echo "$2" >"/proc/sys/net/$1"; }}
# A card may come later than we do.
await() {{ n=0; while ! has "$1" && [ $n -lt 150 ]; do n=$((n + 1)); sleep 0.2; done; }}
"""


def boot_script(network: NetworkDefinition, directory: str, sysctls: t.Mapping[str, str], has_rules: bool, mark: str) -> str:
    """The text of C(up). C(sysctls): what must be set, by the path below /proc/sys/net. C(mark): by which our rules in others' chains are known."""
    lines = [_HEAD.format(name=network.name, dir=shlex.quote(directory))]
    for link in wanted_links(network):
        lines += _make_lines(link)
    lines += [f"say {name} {value}\n" for name, value in {**sysctls, **own_sysctls(network)}.items()]
    lines.append("ip -batch links\n")
    if has_rules:
        lines += ["nft -f rules.nft\n", "nft -f members.nft\n"]
        lines.append(
            f"nft -j list ruleset | grep -qF {shlex.quote(mark + chr(34))} || nft -f accept.nft || "
            'echo "another firewall has changed: run the vmcp_network task of this network again" >&2\n'
        )
    return "".join(lines)


def _make_lines(link: WantedLink) -> list[str]:
    info = link.info
    if link.kind == "bridge":
        return [f"has {link.name} || ip link add name {link.name} address {info['mac']} type bridge forward_delay 0\n"]
    if link.kind == "vlan":
        return [f"await {info['parent']}\n", f"has {link.name} || ip link add link {info['parent']} name {link.name} type vlan id {info['id']}\n"]
    if link.kind == "vxlan":
        return [
            f"has {link.name} || ip link add name {link.name} type vxlan id {info['id']} local {info['local']} dstport {VXLAN_PORT}\n",
            *(f"bridge fdb append 00:00:00:00:00:00 dev {link.name} dst {peer} self permanent 2>/dev/null || :\n" for peer in link.peers),
        ]
    return [f"await {link.name}\n"]


def own_sysctls(network: NetworkDefinition) -> dict[str, str]:
    """Settings of our own interfaces, which end with them."""
    if network.kind in ("bridge", "vxlan"):
        # A guest must not be able to make itself the host's router.
        return {f"ipv6/conf/{network.bridge}/accept_ra": "0"}
    if network.kind == "uplink":
        # The bridge carries the VMs' frames; the host itself is not on that network.
        return {f"ipv6/conf/{network.bridge}/disable_ipv6": "1"}
    return {}


def needed_sysctls(network: NetworkDefinition) -> dict[str, str]:
    """Settings of the whole host that the network needs, which are restored when none does any more. In the order in which they are set."""
    if network.kind not in ("bridge", "vxlan") or not (network.settings.get("nat") or network.settings.get("forward")):
        return {}
    wanted = {}
    if network.ipv4:
        wanted["ipv4/ip_forward"] = "1"
    if network.ipv6:
        # First, because a host that forwards forgets at once what routers have told it.
        wanted.update({f"ipv6/conf/{device}/accept_ra": "2" for device in network.generated.get("advertised", ())})
        wanted["ipv6/conf/all/forwarding"] = "1"
    return wanted
