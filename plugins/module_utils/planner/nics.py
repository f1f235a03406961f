# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a VM's interface becomes on a network of ours: its addresses, how the guest learns them, and what is wrong with that. Pure."""

from __future__ import annotations

import dataclasses
import typing as t

from ..capabilities.catalogue import TITLES, supports, takes_descriptors
from ..errors import Violation
from ..model.addresses import allocate
from ..model.network_definition import OWN, Member, NetworkDefinition
from ..model.nic_facts import DIRECT_MAX
from ..model.words import BACKENDS

if t.TYPE_CHECKING:
    from ..model.definition import Definition
    from ..model.nic_facts import NicFacts

Tree = t.Mapping[str, t.Any]


Networks = t.Mapping[str, NetworkDefinition]
Taken = t.Mapping[str, dict[str, tuple[str, str]]]
Addresses = t.Mapping[str, t.Sequence[str]]


@dataclasses.dataclass(frozen=True)
class OnNetworks:
    """Of one VM's interfaces on networks of ours, by id: C(facts) for C(generated["nics"]). C(violations): why one cannot be had."""

    facts: dict[str, NicFacts] = dataclasses.field(default_factory=dict)
    violations: list[Violation] = dataclasses.field(default_factory=list)


def foresee(definition: Definition, networks: Networks, taken: Taken) -> OnNetworks:
    """What the interfaces would get now. C(networks): those that there are. C(taken): address to (VM, interface) in each, to which what is chosen here is
    added. FailedPrecondition when a network's range is used up."""
    violations: list[Violation] = []
    addresses: dict[str, tuple[str, ...]] = {}
    for index, nic, network in _attached(definition, networks):
        field = f"config.network[{index}]"
        violations.extend(_unfit(definition, network, nic, field))
        given, owner = taken[network.name], (definition.name, nic["id"])
        addresses[nic["id"]], wrong = allocate(network, given, *owner, nic.get("address") or (), field=f"{field}.address")
        violations.extend(wrong)
        for address in [address for address, whose in given.items() if whose == owner]:
            del given[address]
        given.update({address: owner for address in addresses[nic["id"]]})
    direct = [index for index, _nic, network in _attached(definition, networks) if network.bridge is None]
    violations += [
        Violation(f"config.network[{index}].network", f"a VM can have {DIRECT_MAX} interfaces on macvtap networks. Use a network with a bridge (uplink).")
        for index in direct[DIRECT_MAX:]
    ]
    return OnNetworks(described(definition, networks, addresses), violations)


def described(definition: Definition, networks: Networks, addresses: Addresses) -> dict[str, NicFacts]:
    """What is recorded of the interfaces that have these addresses."""
    facts: dict[str, NicFacts] = {}
    for _index, nic, network in _attached(definition, networks):
        method = _method(definition, nic, network, addresses[nic["id"]], any(other["method"] == "kernel" for other in facts.values()))
        facts[nic["id"]] = facts_of(definition, network, addresses[nic["id"]], method)
    return facts


def _attached(definition: Definition, networks: Networks) -> t.Iterator[tuple[int, Tree, NetworkDefinition]]:
    """Interfaces on networks that are here; one that is not is said among what the host lacks."""
    for index, nic in enumerate(definition.config.get("network") or []):
        network = networks.get(nic.get("network") or "")
        if network is not None:
            yield index, nic, network


def facts_of(definition: Definition, network: NetworkDefinition, addresses: t.Sequence[str], method: str) -> NicFacts:
    """What is recorded of the interface (C(NicFacts))."""
    lengths = {address: network.prefix_length(address) for address in addresses}
    return {
        "network": network.name,
        "bridge": network.bridge,
        "parent": network.parent,
        **({} if network.bridge else {"mode": network.settings.get("mode") or "bridge", "guarded": network.settings.get("anti_spoofing") is not False}),
        "mtu": network.mtu,
        "addresses": [address if lengths[address] is None else f"{address}/{lengths[address]}" for address in addresses],
        "gateways": list(network.gateways),
        "nameservers": list(network.nameservers),
        "domain": network.domain,
        "hostname": definition.name,
        "method": method,
    }


def renewed(definition: Definition, networks: Networks) -> Definition:
    """With what the networks are now; addresses, and how the guest learns them, stay. An interface whose network is not there keeps what it has."""
    had: t.Mapping[str, NicFacts] = definition.generated.get("nics", {})
    facts = {
        nic_id: one
        if (network := networks.get(one["network"])) is None
        else facts_of(definition, network, [address.partition("/")[0] for address in one["addresses"]], one["method"])
        for nic_id, one in had.items()
    }
    return dataclasses.replace(definition, generated={**definition.generated, "nics": facts})


def members_of(definition: Definition) -> dict[str, list[Member]]:
    """Who the VM's interfaces are on their networks, by what was chosen for them."""
    macs, taps = definition.generated.get("macs", {}), definition.generated.get("taps", {})
    found: dict[str, list[Member]] = {}
    for nic in definition.config.get("network") or []:
        facts = definition.generated.get("nics", {}).get(nic["id"])
        if facts is not None:
            addresses = [address.partition("/")[0] for address in facts["addresses"]]
            found.setdefault(facts["network"], []).append(_member(definition, nic, facts, macs, taps, addresses))
    return found


def joining(definition: Definition, networks: Networks, macs: t.Mapping[str, str], taps: t.Mapping[str, str]) -> dict[str, list[Member]]:
    """Who they are to become, by what was asked for: what is left open is chosen, or kept, by whoever records them."""
    facts = described(definition, networks, {nic["id"]: nic.get("address") or () for _index, nic, _network in _attached(definition, networks)})
    found: dict[str, list[Member]] = {}
    for _index, nic, network in _attached(definition, networks):
        found.setdefault(network.name, []).append(_member(definition, nic, facts[nic["id"]], macs, taps, nic.get("address") or ()))
    return found


def _member(definition: Definition, nic: Tree, facts: NicFacts, macs: t.Mapping[str, str], taps: t.Mapping[str, str], addresses: t.Sequence[str]) -> Member:
    return Member(
        vm=definition.name,
        nic_id=nic["id"],
        tap=taps.get(nic["id"], "") if facts["bridge"] else "",
        mac=nic.get("mac_address") or macs[nic["id"]],
        addresses=tuple(addresses),
        vlan=nic.get("vlan"),
    )


def cannot_wait(before: Definition, after: Definition) -> list[str]:
    """Paths of changes that cannot wait for the next boot of a VM that runs: what its interface has on a network is what the network lets through."""
    stored = {nic["id"]: nic for nic in before.config.get("network") or []}
    found = []
    for nic in after.config.get("network") or []:
        was, facts = stored.get(nic["id"]), before.generated.get("nics", {}).get(nic["id"])
        if was is None or facts is None or nic.get("network") != facts["network"]:
            continue
        has = [address.partition("/")[0] for address in facts["addresses"]]
        mac = was.get("mac_address") or before.generated["macs"].get(nic["id"])
        found += [f"config.network[{nic['id']}].address"] if not set(nic.get("address") or ()) <= set(has) else []
        found += [f"config.network[{nic['id']}].mac_address"] if nic.get("mac_address") not in (None, mac) else []
    return found


def _unfit(definition: Definition, network: NetworkDefinition, nic: Tree, field: str) -> t.Iterator[Violation]:
    if network.bridge is None:
        yield from _unfit_direct(definition, network, nic, field)
    if nic.get("address_method") == "cloud_init" and definition.generated.get("cloud_init") != "nocloud":
        yield Violation(
            f"{field}.address_method", "'cloud_init' needs first-boot data (cloud_init, with the datasource nocloud). Give some, or take another way."
        )
    if nic.get("address_method") == "dhcp" and not network.dhcp and network.kind in OWN:
        yield Violation(
            f"{field}.address_method",
            f"network {network.name} has no DHCP server. Give it one (dhcp: true), or take another way.",
        )


def _unfit_direct(definition: Definition, network: NetworkDefinition, nic: Tree, field: str) -> t.Iterator[Violation]:
    """On macvtap the VMM is handed the device open, so it has to take one."""
    if not takes_descriptors(definition.backend, definition.backend_version):
        can = " or ".join(TITLES[name] for name in BACKENDS if takes_descriptors(name, None))
        yield Violation(
            f"{field}.network",
            f"{network.name} is a macvtap network, whose interfaces {TITLES[definition.backend]} cannot be given. Use {can}, "
            "or a network with a bridge (uplink).",
        )
    if nic.get("vlan") is not None:
        yield Violation(f"{field}.vlan", f"{network.name} is a macvtap network, which has no VLANs of its own. Give the network a vlan, and leave it out here.")
    if (nic.get("num_queues") or 1) > 1:
        yield Violation(f"{field}.num_queues", "more than one pair of queues cannot be had on a macvtap network. Leave it out.")


def _method(definition: Definition, nic: Tree, network: NetworkDefinition, addresses: t.Sequence[str], kernel_is_used: bool) -> str:
    """The one asked for, else the first that reaches the guest. On somebody else's network the DHCP server is theirs."""
    asked = nic.get("address_method") or "auto"
    boot: Tree = definition.config.get("boot") or {}
    if asked != "auto":
        return str(asked)
    if network.dhcp or (network.kind not in OWN and not addresses):
        return "dhcp"
    if boot.get("kernel_path") and boot.get("kernel_args") is None and any(":" not in address for address in addresses) and not kernel_is_used:
        return "kernel"
    if definition.generated.get("cloud_init") == "nocloud":
        return "cloud_init"
    return "mmds" if definition.metadata_digest is not None and supports(definition.backend, "network[].address_method=mmds") else "none"
