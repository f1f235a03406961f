# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a VM's interface one of a network: elements of sets that the rules look up, and the files from which it is all there again. Pure.

The rules are the same however many VMs there are (C(network_rules)); each VM is a handful of elements. Standard library only: every task that adds
an interface comes through here.
"""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ..model.network_definition import Member, NetworkDefinition


class Element(t.NamedTuple):
    """One element of a set or map of our table of that C(family). C(value): what a map gives for it; a verdict as C(("jump", CHAIN)).

    A tuple, because a network of a thousand VMs has six thousand of them, which are made anew for each that joins."""

    family: str
    set: str
    key: tuple[str, ...]
    value: tuple[str, ...] = ()

    def as_text(self) -> str:
        """As it stands in a file for C(nft -f)."""
        key = " . ".join((f'"{self.key[0]}"', *self.key[1:]) if self.set in _BY_INTERFACE else self.key)
        if not self.value:
            return key
        return f"{key} : {' '.join(self.value) if self.value[0] == 'jump' else ' . '.join(self.value)}"

    def as_json(self) -> t.Any:
        """As it stands in a command for C(nft -j)."""
        key = _concat(self.key)
        if not self.value:
            return key
        return [key, {"jump": {"target": self.value[1]}} if self.value[0] == "jump" else _concat(self.value)]


# The sets whose keys begin with the name of an interface.
_BY_INTERFACE = frozenset(("guarded", "macs", "fixed4", "fixed6", "v4", "v6", "claims6", "isolated", "tunnels", "input_of", "output_of", "into"))


def _concat(parts: tuple[str, ...]) -> t.Any:
    return parts[0] if len(parts) == 1 else {"concat": [int(part) if part.isdecimal() else part for part in parts]}


def chain(direction: str, network: str) -> str:
    """The name of one of a network's own chains."""
    return f"{direction}-{network}"


def elements_of(network: NetworkDefinition, members: t.Iterable[Member]) -> list[Element]:
    """All elements of these members, those of published ports apart (C(forwards_of))."""
    found: list[Element] = []
    for member in members:
        if member.tap:
            found += _of_tap(network, member)
    return found


def _of_tap(network: NetworkDefinition, member: Member) -> t.Iterator[Element]:
    tap = member.tap
    if network.isolate or member.isolated:
        yield Element("bridge", "isolated", (tap,))
    if not network.anti_spoofing:
        return
    yield Element("bridge", "guarded", (tap,))
    yield Element("bridge", "macs", (tap, member.mac))
    four = [address for address in member.addresses if ":" not in address]
    six = [address for address in member.addresses if ":" in address]
    own = network.kind in ("bridge", "vxlan")
    # On somebody else's LAN a guest may have learned addresses of a family in which it asked for none.
    if four or own:
        yield Element("bridge", "fixed4", (tap,))
    if six or own:
        yield Element("bridge", "fixed6", (tap,))
    for address in four:
        yield Element("bridge", "v4", (tap, address))
    if six:
        # Other link-local addresses, which some guests make up, are nobody's; those that follow from a MAC address are its owner's.
        yield from owned(link_local(member.mac))
        six.append(link_local(member.mac))
    for address in six:
        yield Element("bridge", "v6", (tap, address))
        yield Element("bridge", "claims6", (tap, _as_number(address)))
    if not own:
        # The bridge is not ours, so what comes through it is a VM's only by its MAC address, which it cannot change.
        yield Element("inet", "input_of_mac", (member.mac,), ("jump", chain("in", network.name)))


def link_local(mac: str) -> str:
    """The address that a kernel gives an interface by itself out of its MAC address (EUI-64, RFC 4291)."""
    from ..model.addresses import to_text

    octets = bytes.fromhex(mac.replace(":", ""))
    return to_text(int.from_bytes(b"\xfe\x80" + bytes(6) + bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:], "big"), "ipv6")


def owned(address: str) -> t.Iterator[Element]:
    """What makes a link-local address somebody's: who has it is said in C(v6) and C(claims6)."""
    yield Element("bridge", "owned6", (address,))
    yield Element("bridge", "owned_claims6", (_as_number(address),))


def _as_number(address: str) -> str:
    """What a neighbour advertisement speaks about is no field that nft knows by name, so it is looked up as a number."""
    from ..model.addresses import to_number

    return f"{to_number(address):#034x}"


def forwards_of(network: NetworkDefinition, members: t.Iterable[Member]) -> list[Element]:
    """The published ports of those members that the network's C(forward) names. A VM with several interfaces is reached on the first by id."""
    forwards = network.settings.get("forward") or ()
    if not forwards:
        return []
    wanted = {str(forward["vm"]) for forward in forwards}
    first: dict[str, Member] = {}
    for member in sorted((m for m in members if m.vm in wanted and m.addresses), key=lambda m: m.key):
        first.setdefault(member.vm, member)
    found = []
    for forward in forwards:
        target = first.get(str(forward["vm"]))
        for address in target.addresses if target else ():
            protocol, host_port, vm_port = forward.get("protocol") or "tcp", str(forward["host_port"]), str(forward["vm_port"])
            found.append(Element("inet", "forwards6" if ":" in address else "forwards4", (protocol, host_port), (address, vm_port)))
    return found


def as_commands(verb: str, table: str, elements: t.Iterable[Element]) -> list[dict[str, t.Any]]:
    """Commands for C(nft -j), one for each set. C(verb): add or delete."""
    listed: dict[tuple[str, str], list[t.Any]] = {}
    for element in elements:
        listed.setdefault((element.family, element.set), []).append(element.as_json())
    return [
        {verb: {"element": {"family": family, "table": table, "name": name, "elem": entries}}}
        for (family, name), entries in sorted(listed.items(), key=lambda x: x[0])
    ]


def as_file(table: str, network: NetworkDefinition, members: t.Sequence[Member]) -> str:
    """The file that brings all of a network's members back when the host boots, for C(nft -f)."""
    lines = [f"# Who is on network {network.name}, written by unkey.vmcp; changes are overwritten."]
    listed: dict[tuple[str, str], list[str]] = {}
    # In one order whoever came first: a task compares this text with what it would write itself.
    ordered = sorted(members, key=lambda m: m.key)
    for element in [*elements_of(network, ordered), *forwards_of(network, ordered)]:
        listed.setdefault((element.family, element.set), []).append(element.as_text())
    for (family, name), entries in sorted(listed.items()):
        lines.append(f"add element {family} {table} {name} {{ {', '.join(entries)} }}")
    return "\n".join(lines) + "\n"


def dhcp_hosts(network: NetworkDefinition, members: t.Iterable[Member]) -> str:
    """dnsmasq's file of static leases: who has which MAC address gets which addresses and name."""
    lines = []
    for member in sorted(members, key=lambda m: m.key):
        addresses = [f"[{address}]" if ":" in address else address for address in member.addresses]
        if addresses:
            lines.append(",".join([member.mac, *addresses, member.host]))
    return "".join(f"{line}\n" for line in lines)


def dns_hosts(network: NetworkDefinition, members: t.Iterable[Member]) -> str:
    """dnsmasq's file of names, in the form of /etc/hosts. A name belongs to the first interface, by id, of each family that has an address."""
    lines = []
    known: set[tuple[str, bool]] = set()
    for member in sorted(members, key=lambda m: m.key):
        for address in member.addresses:
            if (member.host, ":" in address) not in known:
                known.add((member.host, ":" in address))
                lines.append(f"{address} {member.host}.{network.domain} {member.host}\n")
    return "".join([*lines, *_further_names(network, {name for name, _six in known})])


def _further_names(network: NetworkDefinition, known: t.Collection[str]) -> t.Iterator[str]:
    """Those that the user has given (C(dns_names)), as of VMs on other hosts. Of its own addresses the host knows better who has them."""
    for name, addresses in (network.settings.get("dns_names") or {}).items():
        label = name.removesuffix(f".{network.domain}")
        if label in known:
            continue
        for address in addresses:
            if not _gives(network, address):
                yield f"{address} {name}\n" if "." in label else f"{address} {label}.{network.domain} {label}\n"


def _gives(network: NetworkDefinition, address: str) -> bool:
    from ..model.addresses import family_of, to_number

    bounds = network.ranges.get(family_of(address))
    return bounds is not None and to_number(bounds[0]) <= to_number(address) <= to_number(bounds[1])
