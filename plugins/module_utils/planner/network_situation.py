# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the planner of networks is told about a host and a network on it. Plain data, made by C(host.network.observe), or by hand in tests."""

from __future__ import annotations

import dataclasses
import typing as t

from ..model.network_definition import Member, NetworkDefinition


@dataclasses.dataclass(frozen=True)
class Link:
    """An interface of the host. C(kind): what the kernel calls its type ("" for hardware). C(info): C(id), C(local), C(parent) of a vlan or vxlan device."""

    name: str
    index: int
    kind: str = ""
    mtu: int = 1500
    up: bool = False
    master: str = ""
    info: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Route:
    """C(to): a network, C(0.0.0.0/0) and C(::/0) for the default routes. C(device): "" for one that has none, as a blackhole."""

    to: str
    device: str


@dataclasses.dataclass(frozen=True)
class HostNetwork:
    """The host's network as found. C(addresses): by interface, with prefix lengths. C(machine): the host's own id. C(advertised): interfaces by which the
    host learns its IPv6 default route from a router, which it no longer does once it forwards, unless told to."""

    links: t.Mapping[str, Link] = dataclasses.field(default_factory=dict)
    addresses: t.Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    machine: str = ""
    advertised: tuple[str, ...] = ()

    def interface_of(self, address: str) -> t.Optional[str]:
        """The interface that has an address."""
        return next((name for name, listed in self.addresses.items() if any(one.partition("/")[0] == address for one in listed)), None)


@dataclasses.dataclass(frozen=True)
class Blocker:
    """A chain of somebody else's that drops what it does not know. C(place): C((family, table, chain)) where our accepting rules belong."""

    hook: str
    place: tuple[str, str, str]


@dataclasses.dataclass(frozen=True)
class NetworkSituation:
    """One network and its host as found.

    C(definition) None: there is no such network; C(broken): why a definition that is there cannot be read. C(others): the host's other networks.
    C(links_differ), C(rules_differ) …: what is not as the definition says, in words; () when all is. C(dns): C(running), C(ended) (it should run), C(off).
    C(legacy): commands that would let the network pass rules which nft does not list."""

    name: str
    host: HostNetwork
    definition: t.Optional[NetworkDefinition] = None
    broken: str = ""
    remains: bool = False
    members: tuple[Member, ...] = ()
    others: tuple[NetworkDefinition, ...] = ()
    rules_differ: bool = False
    cut_off: bool = False
    dns: str = "off"
    dns_differs: bool = False
    forwarding: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    blockers: tuple[Blocker, ...] = ()
    accepted: frozenset[tuple[str, str, str]] = frozenset()
    legacy: tuple[str, ...] = ()
    firewalld: tuple[str, ...] = ()
    files_differ: bool = False
    persisted: t.Optional[bool] = None
    supervisor: str = "plain"
    using_vms: tuple[str, ...] = ()
    missing_programs: tuple[str, ...] = ()
