# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs' interfaces on networks of ours: recorded when VMs are defined, held to when they start, given back when they go. What they will be is foreseen in
C(seen_networks). Standard library only.

However many VMs a task has, each network is read once and changed in one go. Members are recorded before a definition that needs them is written;
what a definition no longer needs goes when its VM is not running, so that nobody loses an address that it uses.
"""

from __future__ import annotations

import time
import typing as t

from ..errors import VmcpError
from ..host.allocations import Allocation
from ..host.networks import OWN, Member, NetworkStore, is_cut_off, join, leave, leave_all
from ..host.stray_taps import clear_stray_taps
from ..host.trees import ensure_dir
from ..planner.nics import described, joining, members_of
from .seen_networks import Networks

if t.TYPE_CHECKING:
    from ..host.layout import Layout
    from ..host.store import Store
    from ..model.definition import Definition
    from ..model.nic_facts import NicFacts
    from .work import Context, Work

# A transaction of nftables and a signal to each dnsmasq; more only on a host that is far behind.
JOIN_S = 30.0

Given = t.Mapping[str, Allocation]


def take_part(context: Context, definitions: t.Sequence[Definition], given: Given) -> dict[str, dict[str, NicFacts]]:
    """Records the interfaces of VMs on their networks, with what was chosen for them (C(given), by VM). By VM what is to stand in its definition.
    Errors as C(join)."""
    networks = Networks(context.store.layout)
    wanted: dict[str, list[Member]] = {}
    for definition in definitions:
        chosen = given[definition.name]
        for name, members in joining(definition, networks.of(definition), chosen.macs, chosen.taps).items():
            wanted.setdefault(name, []).extend(members)
    if not wanted:
        return {}
    # A VM that a killed run leaves here is one that a removal finds.
    for definition in definitions:
        ensure_dir(context.store.layout.vm(definition.name).dir, 0o711)
    joined = join(NetworkStore(context.store.layout), wanted, _deadline(context.lock_timeout_s))
    addresses: dict[str, dict[str, tuple[str, ...]]] = {}
    for recorded in joined.values():
        for member in recorded:
            addresses.setdefault(member.vm, {})[member.nic_id] = member.addresses
    return {definition.name: described(definition, networks.of(definition), addresses.get(definition.name, {})) for definition in definitions}


def _deadline(lock_timeout_s: float) -> float:
    return time.monotonic() + lock_timeout_s + JOIN_S


def settle(context: Context, works: t.Sequence[Work]) -> None:
    """VMs that are about to start are on the networks that they are defined with, and on no other. A network that was made anew knows nobody. Those
    for which that cannot be have their error."""
    left = [work for work in works if work.error is None]
    try:
        _settle(context, {work.name: work.wanted() for work in left})
    except VmcpError as exc:
        for work in left:
            work.error = exc


def _settle(context: Context, definitions: t.Mapping[str, Definition]) -> None:
    store = NetworkStore(context.store.layout)
    wanted = {(network, member.key): member for definition in definitions.values() for network, listed in members_of(definition).items() for member in listed}
    there = {(name, member.key): member for name in store.names() for member in store.members(name) if member.vm in definitions}
    missing: dict[str, list[Member]] = {}
    for (name, key), member in wanted.items():
        if there.get((name, key)) != member or is_cut_off(store, name):
            missing.setdefault(name, []).append(member)
    join(store, missing, _deadline(context.lock_timeout_s))
    surplus: dict[str, set[tuple[str, str]]] = {}
    for name, key in there.keys() - wanted.keys():
        surplus.setdefault(name, set()).add(key)
    leave(store, surplus, _deadline(context.lock_timeout_s))


def give_back(store: Store, names: t.Collection[str], lock_timeout_s: float) -> None:
    """Takes VMs that are gone off every network."""
    leave_all(NetworkStore(store.layout), names, _deadline(lock_timeout_s))


def clear_stray(layout: Layout) -> None:
    """Taps on bridges of our own networks that belong to no VM any more."""
    store = NetworkStore(layout)
    networks = [network for name in store.names() if (network := store.load(name)) is not None]
    clear_stray_taps(layout, [network.bridge for network in networks if network.kind in OWN and network.bridge])
