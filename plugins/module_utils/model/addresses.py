# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which address an interface gets in a network. Pure, standard library only; a task on a thousand VMs asks it a thousand times.

Derived from the names of VM and interface, so that a VM that is removed and made again has the address that it had, unless somebody else got it meanwhile.
"""

from __future__ import annotations

import hashlib
import socket
import typing as t

from ..errors import FailedPrecondition, Violation
from .network_definition import OWN

if t.TYPE_CHECKING:
    from .network_definition import NetworkDefinition

Owner = tuple[str, str]
FAMILIES = ("ipv4", "ipv6")
_SOCKET_FAMILY = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}


def to_number(address: str) -> int:
    """ValueError for what is no address."""
    try:
        return int.from_bytes(socket.inet_pton(_SOCKET_FAMILY[family_of(address)], address), "big")
    except (OSError, UnicodeError) as exc:
        raise ValueError("is no IPv4 or IPv6 address") from exc


def to_text(number: int, family: str) -> str:
    return socket.inet_ntop(_SOCKET_FAMILY[family], number.to_bytes(4 if family == "ipv4" else 16, "big"))


def family_of(address: str) -> str:
    return "ipv6" if ":" in address else "ipv4"


def allocate(
    network: NetworkDefinition, taken: t.Mapping[str, Owner], vm: str, nic_id: str, wanted: t.Sequence[str] = (), *, field: str = "address"
) -> tuple[tuple[str, ...], list[Violation]]:
    """The addresses of one interface, IPv4 first, one of each family that the network has a range of.

    C(taken): what is given, address to (VM, interface); what this very interface has already, it keeps, unless it wants another. C(wanted): addresses
    asked for, at most one of each family. Violations, at C(field), for those that are out of range or taken. FailedPrecondition when a range is used up."""
    asked, violations = _asked(wanted, field)
    mine = {family_of(address): address for address, owner in taken.items() if owner == (vm, nic_id)} if not asked.keys() >= network.ranges.keys() else {}
    chosen: dict[str, str] = {}
    for family, address in asked.items():
        problem = _problem(network, taken, (vm, nic_id), family, address)
        if problem:
            violations.append(Violation(field, problem))
        chosen[family] = address
    for family, (first, last) in network.ranges.items():
        if family in chosen:
            continue
        low, high = to_number(first), to_number(last)
        kept = mine.get(family)
        if kept is not None and low <= to_number(kept) <= high:
            chosen[family] = kept
        else:
            chosen[family] = _free(network, taken, vm, nic_id, family, low, high)
    return tuple(chosen[family] for family in FAMILIES if family in chosen), violations


def _asked(wanted: t.Sequence[str], field: str) -> tuple[dict[str, str], list[Violation]]:
    asked: dict[str, str] = {}
    violations = []
    for text in wanted:
        try:
            address = to_text(to_number(text), family_of(text))
        except ValueError:
            violations.append(Violation(field, f"{text!r:.60} is no IPv4 or IPv6 address. Give it without prefix length, as in 10.80.0.5."))
            continue
        if family_of(address) in asked:
            violations.append(Violation(field, f"has two addresses of one family ({asked[family_of(address)]}, {address}). Give one of each at most."))
        asked[family_of(address)] = address
    return asked, violations


def _problem(network: NetworkDefinition, taken: t.Mapping[str, Owner], owner: Owner, family: str, address: str) -> str:
    other = taken.get(address)
    if other is not None and other != owner:
        return f"{address} belongs to interface {other[1]} of VM {other[0]} on network {network.name}. Choose another, or leave it out."
    if address in network.gateways:
        return f"{address} is the host's own address on network {network.name}. Choose another, or leave it out."
    own = network.ipv6 if family == "ipv6" else network.ipv4
    if own is None:
        # On a LAN addresses are somebody else's to give: what was asked for is what the guest may use.
        return f"{address}: network {network.name} has no {family} range. Leave it out, or give it one." if network.kind in OWN else ""
    return _out_of_range(network, own, family, address)


def _out_of_range(network: NetworkDefinition, own: str, family: str, address: str) -> str:
    low, high = _subnet(own, family)
    number = to_number(address)
    if not low <= number <= high:
        return f"{address} is not in {to_text(low, family)}/{own.partition('/')[2]}, the range of network {network.name}. Choose one that is, or leave it out."
    if family == "ipv4" and high - low > 2 and number in (low, high):
        return f"{address} is the first or last address of network {network.name}, which no host may have. Choose another, or leave it out."
    bounds = network.ranges.get(family)
    if network.kind == "vxlan" and bounds and not to_number(bounds[0]) <= number <= to_number(bounds[1]):
        return (
            f"{address} is not in {bounds[0]}-{bounds[1]}, this host's part of network {network.name}: another host may give it to a VM of its own. "
            "Choose one that is, or change the range."
        )
    return ""


def _subnet(own: str, family: str) -> tuple[int, int]:
    address, _slash, length = own.partition("/")
    bits = 32 if family == "ipv4" else 128
    size = 1 << (bits - int(length))
    low = to_number(address) & ~(size - 1)
    return low, low + size - 1


def _free(network: NetworkDefinition, taken: t.Mapping[str, Owner], vm: str, nic_id: str, family: str, low: int, high: int) -> str:
    room = high - low + 1
    start = int.from_bytes(hashlib.sha256(f"address\0{network.name}\0{vm}\0{nic_id}".encode()).digest()[:16], "big") % max(room, 1)
    own = network.gateways
    for step in range(min(room, len(taken) + len(own) + 1)):
        address = to_text(low + (start + step) % room, family)
        if address not in taken and address not in own:
            return address
    raise FailedPrecondition(
        f"All {max(room, 0)} addresses from {to_text(low, family)} to {to_text(high, family)} on network {network.name} belong to VMs. "
        "Remove VMs, or give the network a larger range."
    )
