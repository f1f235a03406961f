# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong between options of a network that are right by themselves."""

from __future__ import annotations

import ipaddress
import typing as t

from ..errors import Violation
from .network_definition import OWN
from .network_options import Egress, NetworkOptions

# By options that a rule speaks of, those beside C(kind) that it looks at.
_LOOKS_AT = {"nat": ("ipv4", "ipv6"), "dhcp": ("ipv4", "ipv6"), "range": ("ipv4", "ipv6"), "mtu": ("ipv6",)}


def broken_rules(options: NetworkOptions, wrong: t.Collection[str] = ()) -> list[Violation]:
    """What is wrong between options that are right by themselves. C(wrong): options that are not, and are not among them here; of what looks at these nothing
    is said, since it would only be an echo."""
    if "kind" in wrong:
        return list(_of_ports(options))
    found = [*_of_kind(options), *_of_addresses(options), *_of_ports(options)]
    return [violation for violation in found if not set(wrong).intersection(_about(violation))]


def _about(violation: Violation) -> tuple[str, ...]:
    option = violation.field.partition(".")[0].partition("[")[0]
    return (option, *_LOOKS_AT.get(option, ()))


_NEEDS_OWN = ("nat", "dhcp", "forward", "ipv4", "ipv6", "range")


def _of_kind(options: NetworkOptions) -> t.Iterator[Violation]:
    kind = options.kind
    if kind in ("adopted", "uplink", "macvtap") and options.interface is None:
        what = {"adopted": "the bridge", "uplink": "the physical interface", "macvtap": "the interface"}[kind]
        yield Violation("interface", f"is required for kind: {kind}. Name {what}.")
    if kind in OWN and options.interface is not None:
        yield Violation("interface", f"has no meaning for kind: {kind}. Leave it out, or say kind: uplink to make the interface a port of the bridge.")
    if options.vlan is not None and kind not in ("uplink", "macvtap"):
        yield Violation("vlan", "belongs to kind: uplink and kind: macvtap. Leave it out, or change the kind.")
    if (kind == "vxlan") != (options.vxlan is not None):
        yield Violation("vxlan", "is required for kind: vxlan." if kind == "vxlan" else "belongs to kind: vxlan. Leave it out, or change the kind.")
    if kind not in OWN:
        for field in _NEEDS_OWN:
            if getattr(options, field):
                yield Violation(field, f"has no meaning for kind: {kind}, where the network beyond the host sees to that. Leave it out.")
        if options.egress != Egress():
            yield Violation("egress", f"has no meaning for kind: {kind}: what VMs send there does not pass through the host's routing. Leave it out.")
    if options.dns_names and not options.dhcp:
        yield Violation("dns_names", "needs dhcp: true, since it is its server that answers for them. Say so, or dns_names: {}.")
    if kind in ("adopted", "macvtap") and options.mtu is not None:
        yield Violation("mtu", f"cannot be set for kind: {kind}, whose interface is not ours to change. Leave it out, and set config.network[].mtu of the VMs.")


def _of_addresses(options: NetworkOptions) -> t.Iterator[Violation]:
    own = [ipaddress.ip_interface(text) for text in (options.ipv4, options.ipv6) if text]
    for field in ("nat", "dhcp"):
        if options.kind in OWN and getattr(options, field) and not own:
            yield Violation(field, "needs the host's address on the network. Give ipv4 or ipv6.")
    for interface in own:
        network = interface.network
        field = f"ipv{interface.version}"
        if interface.ip == network.network_address and options.kind != "vxlan":
            yield Violation(field, f"{interface.ip} is the address of the network itself. Use {network[1]}/{network.prefixlen}.")
        if interface.version == 4 and interface.ip == network.broadcast_address:
            yield Violation(field, f"{interface.ip} is the broadcast address of the network. Use {network[1]}/{network.prefixlen}.")
    by_version: dict[int, t.Any] = {interface.version: interface.network for interface in own}
    seen = set()
    for index, text in enumerate(options.range):
        first, _dash, last = text.partition("-")
        version = 6 if ":" in first else 4
        ours = by_version.get(version)
        if version in seen:
            yield Violation(f"range[{index}]", "is a second range of one family. Give one of each.")
        seen.add(version)
        if ours is None or ipaddress.ip_address(first) not in ours or ipaddress.ip_address(last) not in ours:
            yield Violation(f"range[{index}]", f"{text} is not in {ours or f'an IPv{version} network of ours'}. Give one that is, or change ipv{version}.")
    if options.mtu is not None and options.ipv6 and options.mtu < 1280:
        yield Violation("mtu", "must be at least 1280, which IPv6 needs. Raise it, or leave ipv6 out.")


def _of_ports(options: NetworkOptions) -> t.Iterator[Violation]:
    seen: dict[tuple[str, int], int] = {}
    for index, forward in enumerate(options.forward):
        key = (forward.protocol, forward.host_port)
        if key in seen:
            yield Violation(f"forward[{index}].host_port", f"{forward.protocol} port {forward.host_port} is forwarded by forward[{seen[key]}] already.")
        seen.setdefault(key, index)
    for word in ("allow", "deny"):
        for index, entry in enumerate(getattr(options.egress, word)):
            where = f"egress.{word}[{index}]"
            if entry.ports and entry.protocol == "icmp":
                yield Violation(f"{where}.ports", "icmp has no ports. Leave them out, or name tcp or udp.")
            if entry.ports and entry.protocol is None:
                yield Violation(f"{where}.protocol", "is required where ports are given: tcp or udp.")
            if not entry.cidr and not entry.ports and entry.protocol is None:
                yield Violation(where, "says nothing. Give cidr, ports or protocol, or use egress.default.")
