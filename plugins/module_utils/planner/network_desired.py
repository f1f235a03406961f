# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the settings of a network and its host to its definition: what is chosen once, and what this host cannot have. Pure."""

from __future__ import annotations

import dataclasses
import ipaddress
import typing as t

from ..errors import Violation
from ..model.addresses import to_number
from ..model.network_definition import OWN, NetworkDefinition
from .network_links import bridge_mac, interface_name

if t.TYPE_CHECKING:
    from ..model.network import NetworkRequest
    from .network_situation import HostNetwork, NetworkSituation

_OVERHEAD = {4: 50, 6: 70}  # what vxlan adds to each packet
_ETHERNET_MTU = 1500
_FIRST_TRIES = 2


@dataclasses.dataclass(frozen=True)
class DesiredNetwork:
    """C(violations): what cannot be, whatever is done to the host; C(lacks): what the host lacks."""

    definition: NetworkDefinition
    violations: tuple[Violation, ...]
    lacks: tuple[Violation, ...]


def desired_network(request: NetworkRequest, situation: NetworkSituation) -> DesiredNetwork:
    violations: list[Violation] = []
    lacks: list[Violation] = [*_programs(request, situation)]
    stored = situation.definition
    settings = request.settings
    kind = settings["kind"]
    generated = dict(stored.generated) if stored else {}
    _name_interfaces(generated, request.name, settings, situation, lacks)
    if kind == "vxlan":
        _tunnel(generated, settings, situation.host, violations)
    elif kind in ("bridge", "uplink"):
        _mtu(generated, settings, situation.host)
    if kind in (*OWN, "uplink"):
        # Hosts that were copied from one have one id, and the bridges of a vxlan meet.
        generated.setdefault("mac", bridge_mac(request.name, f"{situation.host.machine}{generated.get('local', '')}"))
    if settings.get("ipv6") and kind in OWN and situation.host.advertised:
        generated.setdefault("advertised", list(situation.host.advertised))
    if not violations:
        generated["ranges"] = _ranges(generated, settings, violations)
    definition = NetworkDefinition(request.name, kind, {key: value for key, value in settings.items() if key != "kind"}, generated)
    if stored is not None:
        definition = dataclasses.replace(definition, created_at=stored.created_at, extra=stored.extra)
    if not violations:
        violations += [*_collisions(definition, situation), *_outside(definition, situation), *_forwards(definition, situation)]
        lacks += [*_interface(definition, situation), *_way_out(definition, situation)]
        violations += _ports_in_use(definition, situation)
    return DesiredNetwork(definition, tuple(violations), tuple(lacks))


def _programs(request: NetworkRequest, situation: NetworkSituation) -> t.Iterator[Violation]:
    package = {"nft": "nftables", "ip": "iproute2", "dnsmasq": "dnsmasq-base (dnsmasq on the Red Hat family)"}
    for program in situation.missing_programs:
        if program != "dnsmasq" or request.settings.get("dhcp"):
            field = "dhcp" if program == "dnsmasq" else "name"
            yield Violation(
                field, f"needs the program {program}, which is missing. Install the package {package[program]}, or apply the role unkey.vmcp.vmcp_host."
            )


def _name_interfaces(generated: dict[str, t.Any], name: str, settings: t.Mapping[str, t.Any], situation: NetworkSituation, lacks: list[Violation]) -> None:
    kind = settings["kind"]
    wanted = {}
    if kind in (*OWN, "uplink"):
        wanted["bridge"] = "vn"
    if kind == "vxlan" or (kind in ("uplink", "macvtap") and settings.get("vlan")):
        wanted["device"] = "vx" if kind == "vxlan" else "vl"
    else:
        generated.pop("device", None)
    for key, prefix in wanted.items():
        if key not in generated:
            chosen = interface_name(prefix, name)
            if chosen in situation.host.links or any(chosen in (other.bridge, other.generated.get("device")) for other in situation.others):
                lacks.append(
                    Violation("name", f"leads to the interface name {chosen}, which somebody else's interface has. Remove that, or choose another name.")
                )
            generated[key] = chosen
    if kind == "adopted":
        generated["bridge"] = settings["interface"]


def _mtu(generated: dict[str, t.Any], settings: t.Mapping[str, t.Any], host: HostNetwork) -> None:
    under = host.links.get(settings.get("interface") or "")
    generated.setdefault("mtu", under.mtu if under else _ETHERNET_MTU)


def _tunnel(generated: dict[str, t.Any], settings: t.Mapping[str, t.Any], host: HostNetwork, violations: list[Violation]) -> None:
    """Who of the peers is this host, and which part of the addresses is its own to give."""
    tunnel = settings["vxlan"]
    peers = sorted({*tunnel["peers"], *([tunnel["local"]] if tunnel.get("local") else [])}, key=lambda peer: (":" in peer, to_number(peer)))
    mine = [peer for peer in peers if host.interface_of(peer)]
    local = tunnel.get("local") or (generated.get("local") if generated.get("local") in peers else None) or (mine[0] if len(mine) == 1 else None)
    if local is None or len({":" in peer for peer in peers}) > 1:
        text = "are of both families; use one." if local else f"name {'none' if not mine else 'several'} of this host's addresses. Name its own in vxlan.local."
        violations.append(Violation("vxlan.peers", text))
        return
    under = host.links.get(host.interface_of(local) or "")
    generated.update(peers=peers, local=local, index=peers.index(local))
    generated.setdefault("mtu", (under.mtu if under else _ETHERNET_MTU) - _OVERHEAD[6 if ":" in local else 4])
    for family in ("ipv4", "ipv6"):
        given = settings.get(family)
        generated.pop(family, None)
        if given and (own := ipaddress.ip_interface(given)).ip == own.network.network_address:
            generated[family] = f"{own.network[generated['index'] + 1]}/{own.network.prefixlen}"


def _ranges(generated: t.Mapping[str, t.Any], settings: t.Mapping[str, t.Any], violations: list[Violation]) -> dict[str, list[str]]:
    """What VMs get addresses from: as given, else all of the network; between hosts, the part of this one."""
    given = {("ipv6" if ":" in text else "ipv4"): text.split("-") for text in settings.get("range") or ()}
    found: dict[str, list[str]] = {}
    for family in ("ipv4", "ipv6"):
        own = generated.get(family) or settings.get(family)
        if family in given:
            found[family] = given[family]
        elif own:
            network = ipaddress.ip_interface(own).network
            # The first and, in IPv4, the last address are nobody's.
            low, high = int(network.network_address) + 1, int(network.broadcast_address) - (1 if family == "ipv4" else 0)
            hosts = len(generated.get("peers", ()))
            if hosts:
                # Each host's own address comes first; the rest is shared out.
                low += hosts
                part = (high - low + 1) // hosts
                if part < 1:
                    violations.append(Violation(family, f"{network} has no room for {hosts} hosts and their VMs. Use a shorter prefix."))
                    continue
                low += part * generated["index"]
                high = low + part - 1
            make = ipaddress.IPv4Address if family == "ipv4" else ipaddress.IPv6Address
            found[family] = [str(make(low)), str(make(high))]
    return found


def _collisions(definition: NetworkDefinition, situation: NetworkSituation) -> t.Iterator[Violation]:
    """A network that the host knows elsewhere would cut it off from there."""
    for family, own in (("ipv4", definition.ipv4), ("ipv6", definition.ipv6)):
        if not own or definition.kind not in OWN:
            continue
        network = ipaddress.ip_interface(own).network
        for route in situation.host.routes:
            to = ipaddress.ip_network(route.to, strict=False)
            if to.version != network.version or to.prefixlen == 0 or to.is_link_local or to.is_multicast or route.device == definition.bridge:
                continue
            if to.overlaps(network):
                via = f" through {route.device}" if route.device else ""
                yield Violation(family, f"{network} overlaps {to}, to which the host has a route{via}. Choose another network.")
                break
        for other in situation.others:
            theirs = other.ipv6 if family == "ipv6" else other.ipv4
            if theirs and ipaddress.ip_interface(theirs).network.overlaps(network):
                yield Violation(family, f"{network} overlaps {ipaddress.ip_interface(theirs).network} of network {other.name}. Choose another network.")


def _outside(definition: NetworkDefinition, situation: NetworkSituation) -> t.Iterator[Violation]:
    """Addresses never move: what VMs have must stay what the network may give."""
    for family, own in (("ipv4", definition.ipv4), ("ipv6", definition.ipv6)):
        held = [(member, address) for member in situation.members for address in member.addresses if (":" in address) == (family == "ipv6")]
        if definition.kind not in OWN or not held:
            continue
        network = ipaddress.ip_interface(own).network if own else None
        outside = sorted({member.vm for member, address in held if network is None or ipaddress.ip_address(address) not in network})
        if outside:
            yield Violation(family, f"{network or 'none'} leaves out addresses that {_named(outside)} have. Take them off the network first.")
        elif definition.kind == "vxlan" and (bounds := definition.ranges.get(family)):
            low, high = map(to_number, bounds)
            outside = sorted({member.vm for member, address in held if not low <= to_number(address) <= high})
            if outside:
                yield Violation(
                    "vxlan.peers",
                    f"give this host the addresses {bounds[0]}-{bounds[1]}, which leaves out those that {_named(outside)} have: another host might give them "
                    "again. Give each host its range, with what its VMs have in it.",
                )
        taken = [member.vm for member, address in held if address in definition.gateways]
        if taken:
            yield Violation(family, f"would give the host the address of VM {taken[0]}. Choose another.")


def _named(vms: t.Sequence[str]) -> str:
    shown = ", ".join(vms[:5])
    return f"VM {shown}" if len(vms) == 1 else f"VMs {shown}{f' and {len(vms) - 5} more' if len(vms) > 5 else ''}"


def _forwards(definition: NetworkDefinition, situation: NetworkSituation) -> t.Iterator[Violation]:
    taken = {
        (forward.get("protocol") or "tcp", forward["host_port"]): other.name for other in situation.others for forward in other.settings.get("forward") or ()
    }
    for index, forward in enumerate(definition.settings.get("forward") or ()):
        other = taken.get((forward["protocol"], forward["host_port"]))
        if other:
            yield Violation(f"forward[{index}].host_port", f"{forward['protocol']} port {forward['host_port']} is forwarded by network {other}. Use another.")


def _ports_in_use(definition: NetworkDefinition, situation: NetworkSituation) -> t.Iterator[Violation]:
    for other in situation.others:
        if definition.kind == other.kind == "uplink":
            mine, theirs = ((n.settings["interface"], n.settings.get("vlan")) for n in (definition, other))
            if mine == theirs:
                yield Violation("interface", f"{mine[0]} is the uplink of network {other.name} already. Use that network, or a vlan.")
        if definition.kind == other.kind == "vxlan" and definition.settings["vxlan"]["id"] == other.settings["vxlan"]["id"]:
            yield Violation("vxlan.id", f"is that of network {other.name} already. Choose another.")


def _interface(definition: NetworkDefinition, situation: NetworkSituation) -> t.Iterator[Violation]:
    name = definition.settings.get("interface")
    if name is None:
        return
    there = situation.host.links.get(name)
    if there is None:
        yield Violation("interface", f"{name} is no interface of this host. Make it, or name one of {', '.join(sorted(situation.host.links)[:12])}.")
        return
    if definition.kind == "adopted" and there.kind != "bridge":
        yield Violation("interface", f"{name} is no bridge ({there.kind or 'hardware'}). Name a bridge, or use kind: uplink or kind: macvtap.")
    if definition.kind != "uplink" or definition.settings.get("vlan"):
        return
    addresses = [a for a in situation.host.addresses.get(name, ()) if not ipaddress.ip_interface(a).is_link_local]
    if addresses:
        yield Violation(
            "interface",
            f"{name} has the address {addresses[0]}, and the host would be cut off from it as a port of a bridge. Use an interface of its own, a vlan, "
            "kind: macvtap, or move the address to a bridge of yours and use kind: adopted.",
        )
    if there.master not in ("", definition.bridge):
        yield Violation("interface", f"{name} is a port of {there.master} already. Use kind: adopted with {there.master}, or another interface.")
    if there.kind == "bridge":
        yield Violation("interface", f"{name} is a bridge. Use kind: adopted.")


def _way_out(definition: NetworkDefinition, situation: NetworkSituation) -> t.Iterator[Violation]:
    nat = definition.settings.get("nat")
    if isinstance(nat, str) and nat not in situation.host.links:
        yield Violation("nat", f"{nat} is no interface of this host. Name one of {', '.join(sorted(situation.host.links)[:12])}, or say true.")
