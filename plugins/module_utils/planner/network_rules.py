# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of networks in nftables' own language: what stands in C(rules.nft), what the host loads when it boots, and what a diff shows. Pure.

Two tables are ours, one of the family bridge (who may send what from which tap) and one of the family inet (host, routing, translation). What is the same
for all networks is there once and looks things up in sets and maps; a network adds chains and a handful of elements, a VM elements alone. So a packet
meets the same few rules however many networks and VMs there are. Nothing of anybody else's is touched.
"""

from __future__ import annotations

import ipaddress
import typing as t

from .network_members import Element, chain, link_local, owned

if t.TYPE_CHECKING:
    from ..model.network_definition import NetworkDefinition

# The bridge family has no conntrack on many kernels, and none is needed there.
_BRIDGE = """table bridge TABLE {
    set guarded { type ifname; }
    set macs { type ifname . ether_addr; }
    set fixed4 { type ifname; }
    set fixed6 { type ifname; }
    set v4 { type ifname . ipv4_addr; }
    set v6 { type ifname . ipv6_addr; }
    set owned6 { type ipv6_addr; }
    set claims6 { typeof iifname . @th,64,128; }
    set owned_claims6 { typeof @th,64,128; }
    set isolated { type ifname; }
    set tunnels { type ifname; }
    chain prerouting { type filter hook prerouting priority -300; policy accept; }
    chain forward { type filter hook forward priority -200; policy accept; }
    chain guard { }
    chain guard_arp { }
    chain guard_ip4 { }
    chain guard_ip6 { }
    chain guard_claim { }
}
"""
_BRIDGE_RULES = """table bridge TABLE {
    chain prerouting {
        iifname @guarded jump guard
        iifname @tunnels udp dport { 67, 68, 546, 547 } drop comment "each host serves its own VMs"
        iifname @tunnels icmpv6 type nd-router-advert drop
    }
    chain forward {
        iifname @isolated oifname @isolated drop comment "VMs that do not see each other"
    }
    chain guard {
        iifname . ether saddr != @macs drop comment "another's MAC address"
        ether type arp goto guard_arp
        ether type ip goto guard_ip4
        ether type ip6 goto guard_ip6
        drop comment "neither ARP nor IP"
    }
    chain guard_arp {
        iifname . arp saddr ether != @macs drop
        iifname @fixed4 arp saddr ip != 0.0.0.0 iifname . arp saddr ip != @v4 drop
    }
    chain guard_ip4 {
        udp sport 67 drop comment "a DHCP server"
        ip saddr 0.0.0.0 udp sport 68 udp dport 67 return
        iifname @fixed4 iifname . ip saddr != @v4 drop comment "another's IPv4 address"
    }
    chain guard_ip6 {
        icmpv6 type { nd-router-advert, nd-redirect } drop comment "a router"
        udp sport 547 drop comment "a DHCPv6 server"
        iifname @fixed6 icmpv6 type nd-neighbor-advert jump guard_claim
        ip6 saddr :: icmpv6 type { nd-neighbor-solicit, nd-router-solicit, mld2-listener-report } return
        ip6 saddr fe80::/10 ip6 saddr != @owned6 return
        iifname @fixed6 iifname . ip6 saddr != @v6 drop comment "another's IPv6 address"
    }
    chain guard_claim {
        iifname . @th,64,128 @claims6 return
        @th,64,10 0x3fa @th,64,128 != @owned_claims6 return
        drop comment "says that it has another's IPv6 address"
    }
}
"""
_INET = """table inet TABLE {
    map input_of { type ifname : verdict; }
    map input_of_mac { type ether_addr : verdict; }
    map output_of { type ifname : verdict; }
    map into { type ifname : verdict; }
    map nat4 { type ipv4_addr : verdict; flags interval; }
    map nat6 { type ipv6_addr : verdict; flags interval; }
    map forwards4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
    map forwards6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
    set vnis { typeof @th,96,24; }
    set peers4 { typeof @th,96,24 . ip saddr; }
    set peers6 { typeof @th,96,24 . ip6 saddr; }
    chain input { type filter hook input priority -10; policy accept; }
    chain forward { type filter hook forward priority -10; policy accept; }
    chain prerouting { type nat hook prerouting priority -100; policy accept; }
    chain output { type nat hook output priority -100; policy accept; }
    chain postrouting { type nat hook postrouting priority 100; policy accept; }
}
"""
_INET_RULES = """table inet TABLE {
    chain input {
        iifname vmap @input_of
        ether saddr vmap @input_of_mac
        udp dport 4789 @th,96,24 @vnis meta nfproto ipv4 @th,96,24 . ip saddr != @peers4 drop comment "no peer"
        udp dport 4789 @th,96,24 @vnis meta nfproto ipv6 @th,96,24 . ip6 saddr != @peers6 drop comment "no peer"
    }
    chain forward {
        iifname vmap @output_of
        oifname vmap @into
    }
    chain prerouting {
        fib daddr type local dnat ip to meta l4proto . th dport map @forwards4
        fib daddr type local dnat ip6 to meta l4proto . th dport map @forwards6
    }
    chain output {
        ip daddr != 127.0.0.0/8 fib daddr type local dnat ip to meta l4proto . th dport map @forwards4
        ip6 daddr != ::1 fib daddr type local dnat ip6 to meta l4proto . th dport map @forwards6
    }
    chain postrouting {
        ip saddr vmap @nat4
        ip6 saddr vmap @nat6
    }
}
"""
BRIDGE_CHAINS = ("prerouting", "forward", "guard", "guard_arp", "guard_ip4", "guard_ip6", "guard_claim")
INET_CHAINS = ("input", "forward", "prerouting", "output", "postrouting")
# A network's own chains: to the host, out of the network, into it, and what is translated on the way out.
DIRECTIONS = ("in", "out", "into", "nat")
SETS = {
    "bridge": ("guarded", "macs", "fixed4", "fixed6", "v4", "v6", "owned6", "claims6", "owned_claims6", "isolated", "tunnels"),
    "inet": ("input_of", "input_of_mac", "output_of", "into", "nat4", "nat6", "forwards4", "forwards6", "vnis", "peers4", "peers6"),
}


def rules_file(table: str, network: NetworkDefinition) -> str:
    """The whole of C(rules.nft): one transaction, which changes nothing when it is loaded again. No packet ever meets half of it."""
    own = chains_of(network)
    names = [chain(direction, network.name) for direction in own]
    # In one block with the maps that lead to them: nft sends elements of interval maps before chains that are declared apart.
    declared = _BRIDGE + _INET.removesuffix("}\n") + "".join(f"    chain {name} {{ }}\n" for name in names) + "}\n"
    flushed = [("bridge", name) for name in BRIDGE_CHAINS] + [("inet", name) for name in (*INET_CHAINS, *names)]
    parts = [
        f"# Rules of network {network.name} and what it shares with others, written by unkey.vmcp; changes are overwritten.\n",
        declared.replace("TABLE", table),
        *(f"flush chain {family} {table} {name}\n" for family, name in flushed),
        (_BRIDGE_RULES + _INET_RULES).replace("TABLE", table),
        own_chains(table, network),
        *(f"add element {e.family} {table} {e.set} {{ {e.as_text()} }}\n" for e in network_elements(network)),
    ]
    return "".join(parts)


def own_chains(table: str, network: NetworkDefinition) -> str:
    """The rules of the network's own chains, which is what a diff shows of it."""
    bodies = (
        f"    chain {chain(direction, network.name)} {{\n{''.join(f'        {line}{chr(10)}' for line in lines)}    }}\n"
        for direction, lines in chains_of(network).items()
    )
    return f"table inet {table} {{\n{''.join(bodies)}}}\n"


def network_elements(network: NetworkDefinition) -> list[Element]:
    """Through which the shared rules find the network's chains."""
    return [*_dispatch(network), *_tunnel(network), *_gateway(network)]


def _dispatch(network: NetworkDefinition) -> t.Iterator[Element]:
    if network.kind not in ("bridge", "vxlan") or network.bridge is None:
        return
    for name, direction in (("input_of", "in"), ("output_of", "out"), ("into", "into")):
        yield Element("inet", name, (network.bridge,), ("jump", chain(direction, network.name)))
    for name, own in (("nat4", network.ipv4), ("nat6", network.ipv6)):
        if own:
            yield Element("inet", name, (str(ipaddress.ip_interface(own).network),), ("jump", chain("nat", network.name)))


def _gateway(network: NetworkDefinition) -> t.Iterator[Element]:
    """The bridge's link-local address, which guests have as their router: who answered for it would have all that they send beyond the network."""
    if network.ipv6 and network.kind in ("bridge", "vxlan"):
        yield from owned(link_local(network.generated["mac"]))


def _tunnel(network: NetworkDefinition) -> t.Iterator[Element]:
    device = network.generated.get("device")
    if network.kind != "vxlan" or not device:
        return
    yield Element("bridge", "tunnels", (device,))
    if network.isolate:
        yield Element("bridge", "isolated", (device,))
    tunnel = network.settings["vxlan"]
    yield Element("inet", "vnis", (str(tunnel["id"]),))
    for peer in network.generated.get("peers", ()):
        yield Element("inet", "peers6" if ":" in peer else "peers4", (str(tunnel["id"]), peer))


def chains_of(network: NetworkDefinition) -> dict[str, list[str]]:
    """The rules of each of the network's own chains, a line each."""
    if network.kind in ("bridge", "vxlan"):
        return {"in": _to_host(network), "out": _out(network), "into": _into(network), "nat": _nat(network)}
    return {"in": _to_host(network)} if network.kind in ("adopted", "uplink") else {}


def _to_host(network: NetworkDefinition) -> list[str]:
    """The host is protected from the VMs."""
    lines = [
        "ct state established,related accept",
        "icmp type echo-request accept",
        "icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld-listener-report, mld2-listener-report } accept",
    ]
    if network.dhcp:
        lines += ['udp dport { 53, 67, 547 } accept comment "names and addresses"', "tcp dport 53 accept"]
    for opened in network.settings.get("host_ports") or ():
        lines += [f"{_match({'ports': [opened['port']], 'protocol': opened.get('protocol')})} accept"]
    return [*lines, 'counter drop comment "the host is protected"']


def _out(network: NetworkDefinition) -> list[str]:
    bridge = network.bridge
    lines = ["ct state established,related return", f'oifname "{bridge}" ct status dnat return comment "a published port"']
    if network.isolate:
        lines.append(f'oifname "{bridge}" counter drop comment "VMs do not see each other"')
    lines.append(f'oifname "{bridge}" return')
    nat = network.settings.get("nat")
    if isinstance(nat, str):
        lines.append(f'oifname != "{nat}" counter reject with icmpx no-route comment "the way out is {nat} alone"')
    egress = network.settings.get("egress") or {}
    for verdict, entries in (("counter reject with icmpx admin-prohibited", egress.get("deny")), ("return", egress.get("allow"))):
        lines += [f"{_match(entry)} {verdict}" for entry in entries or ()]
    if egress.get("default") == "deny":
        lines.append('counter reject with icmpx admin-prohibited comment "not allowed to leave"')
    return lines


def _into(network: NetworkDefinition) -> list[str]:
    lines = ["ct state established,related return", 'ct status dnat return comment "a published port"', f'iifname "{network.bridge}" return']
    if network.settings.get("nat"):
        lines.append('counter drop comment "nobody outside begins a connection"')
    return lines


def _nat(network: NetworkDefinition) -> list[str]:
    lines = [f'oifname "{network.bridge}" ct status dnat masquerade comment "to a published port of a neighbour"']
    nat = network.settings.get("nat")
    if isinstance(nat, str):
        lines.append(f'oifname "{nat}" masquerade')
    elif nat:
        lines.append(f'oifname != "{network.bridge}" masquerade')
    return lines


def _match(entry: t.Mapping[str, t.Any]) -> str:
    """What one entry of C(egress) or C(host_ports) matches."""
    words = []
    cidr, ports, protocol = entry.get("cidr"), entry.get("ports"), entry.get("protocol")
    if cidr:
        words.append(f"{'ip6' if ':' in cidr else 'ip'} daddr {cidr}")
    if ports:
        listed = ", ".join(str(port) for port in ports)
        words.append(f"{protocol or 'tcp'} dport {{ {listed} }}")
    elif protocol == "icmp":
        words.append("meta l4proto { icmp, icmpv6 }")
    elif protocol:
        words.append(f"meta l4proto {protocol}")
    return " ".join(words)
