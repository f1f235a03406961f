# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs' interfaces come to networks and leave them: many in one go, under the host's lock, recorded before anything uses it. Standard library only.

For each task one lock, one write of what changed, one transaction of nftables, one signal for each dnsmasq concerned, however many VMs there are.
"""

from __future__ import annotations

import dataclasses
import os
import time
import typing as t

from ...errors import FailedPrecondition, Internal, InvalidArgument, Violation
from ...model.addresses import allocate
from ...model.network_definition import Member, NetworkDefinition, members_from_json, members_to_json
from ...planner.network_members import Element, as_commands, as_file, dhcp_hosts, dns_hosts, elements_of, forwards_of
from ..files import read_text, remove, write_atomic
from ..locks import held
from ..writing import FileText, Writing, commit
from . import dns, programs
from .store import NetworkStore, taken_by

Joining = t.Mapping[str, t.Sequence[Member]]
Leaving = t.Mapping[str, t.Collection[tuple[str, str]]]


@dataclasses.dataclass
class _Change:
    """What becomes of one network's members."""

    network: NetworkDefinition
    before: dict[tuple[str, str], Member]
    after: dict[tuple[str, str], Member]
    cut_off: t.Optional[tuple[Member, ...]] = None

    @property
    def is_none(self) -> bool:
        return self.before == self.after

    def moved(self, members: t.Mapping[tuple[str, str], Member]) -> list[Member]:
        """Those of C(members), which are before or after, that are not the same in the other."""
        return [member for key, member in members.items() if self.before.get(key) != self.after.get(key)]


def join(store: NetworkStore, joining: Joining, deadline: float) -> dict[str, tuple[Member, ...]]:
    """Makes interfaces members of networks, by the networks' names, and gives addresses to those that come without. The members as
    recorded, in the order given.

    One that is a member already becomes what is given; its addresses stay unless it asks for others. C(deadline): as of C(time.monotonic()).
    NotFound for a network that there is not; InvalidArgument with all violations, and nothing done, for addresses that cannot be given;
    FailedPrecondition for a network that is not up."""
    if not joining:
        return {}
    with held(store.layout.host_lock, f"joining {', '.join(sorted(joining))}", max(0.0, deadline - time.monotonic())):
        violations: list[Violation] = []
        changes = {name: _joined(store, name, members, violations) for name, members in joining.items()}
        if violations:
            raise InvalidArgument.of(violations)
        _carry_out(store, list(changes.values()), deadline)
    return {name: tuple(changes[name].after[member.key] for member in members) for name, members in joining.items()}


def leave(store: NetworkStore, leaving: Leaving, deadline: float) -> None:
    """Takes interfaces, as (VM, id), off networks and gives their addresses back. Networks and interfaces that are not there are fine."""
    if not leaving:
        return
    with held(store.layout.host_lock, f"leaving {', '.join(sorted(leaving))}", max(0.0, deadline - time.monotonic())):
        changes = []
        for name, keys in leaving.items():
            network = store.load(name)
            if network is not None:
                before = {member.key: member for member in store.members(name)}
                changes.append(_Change(network, before, {key: member for key, member in before.items() if key not in keys}))
        _carry_out(store, changes, deadline)


def leave_all(store: NetworkStore, vms: t.Collection[str], deadline: float) -> None:
    """Takes VMs off every network, and finishes where somebody was killed: then the kernel may know of a VM that the record has forgotten."""
    gone = set(vms)
    leaving = {name: {m.key for m in store.members(name) if m.vm in gone} for name in store.names()}
    leave(store, {name: keys for name, keys in leaving.items() if keys or is_cut_off(store, name)}, deadline)


def is_cut_off(store: NetworkStore, name: str) -> bool:
    """Whether who changed the network's members last was killed before the kernel knew all of it."""
    return os.path.lexists(store.files(name).unapplied)


def networks_of(store: NetworkStore, vm: str) -> dict[str, tuple[Member, ...]]:
    """The networks that a VM is on, each with its interfaces there."""
    found = {name: tuple(member for member in store.members(name) if member.vm == vm) for name in store.names()}
    return {name: members for name, members in found.items() if members}


def _joined(store: NetworkStore, name: str, members: t.Sequence[Member], violations: list[Violation]) -> _Change:
    network = store.get(name)
    before = {member.key: member for member in store.members(name)}
    after = dict(before)
    taken = taken_by(before.values())
    for member in members:
        was = before.get(member.key)
        addresses, found = allocate(network, taken, *member.key, _wanted(member, was), field=f"config.network[{member.nic_id}].address")
        violations += found
        for address in was.addresses if was else ():
            taken.pop(address, None)
        taken.update({address: member.key for address in addresses})
        after[member.key] = dataclasses.replace(member, addresses=addresses)
    return _Change(network, before, after)


def _wanted(member: Member, was: t.Optional[Member]) -> tuple[str, ...]:
    """What was asked for; an address that the network does not choose (a LAN's) stays with the interface that asked for it once."""
    return member.addresses or (was.addresses if was else ())


def _carry_out(store: NetworkStore, changes: t.Sequence[_Change], deadline: float) -> None:
    for change in changes:
        change.cut_off = _former(store, change.network.name)
    changes = [change for change in changes if not change.is_none or change.cut_off is not None]
    if not changes:
        return
    with programs.nft_at_hand() as nft:
        _write(store, [change for change in changes if not change.is_none])
        _tell_kernel(store, changes, nft, deadline)
    for change in changes:
        if change.network.dhcp:
            dns.reload(store.files(change.network.name))
            dns.release(change.network, [member for member in change.moved(change.before) if _is_gone(member, change.after.get(member.key))])
        remove(store.files(change.network.name).unapplied)


def _is_gone(member: Member, now: t.Optional[Member]) -> bool:
    return now is None or (now.mac, now.addresses) != (member.mac, member.addresses)


def _former(store: NetworkStore, name: str) -> t.Optional[tuple[Member, ...]]:
    """What the kernel may still have of members that the record no longer has so, because somebody was killed on the way; None when nobody was."""
    path = store.files(name).unapplied
    try:
        return members_from_json(read_text(path), path)
    except FileNotFoundError:
        return None
    except Internal:
        # Torn: whoever wrote it was killed before anything was changed.
        return ()


def _write(store: NetworkStore, changes: t.Sequence[_Change]) -> None:
    """The record last: what it says has then got everything that follows from it, also after a power failure."""
    writings = []
    try:
        for change in changes:
            files = store.files(change.network.name)
            writing = Writing()
            writings.append(writing)
            for file in member_files(store, change.network, tuple(change.after.values())):
                writing.add(file, rank=1 if file.path == files.members else 0)
            write_atomic(files.unapplied, members_to_json([*(change.cut_off or ()), *change.moved(change.before)]), sync=False)
    except BaseException:
        for writing in writings:
            writing.abandon()
        raise
    commit(writings, store.dir)


def member_files(store: NetworkStore, network: NetworkDefinition, members: t.Sequence[Member]) -> list[FileText]:
    """The files that say who is on a network, in every language that something reads."""
    files = store.files(network.name)
    listed = [FileText(files.members, members_to_json(members)), FileText(files.member_rules, as_file(store.table, network, members))]
    if network.dhcp:
        listed += [FileText(files.dhcp_hosts, dhcp_hosts(network, members), mode=0o644), FileText(files.dns_hosts, dns_hosts(network, members), mode=0o644)]
    return listed


def _tell_kernel(store: NetworkStore, changes: t.Sequence[_Change], nft: programs.Tell, deadline: float) -> None:
    gone: set[Element] = set()
    come: set[Element] = set()
    for change in changes:
        # After a run that was cut off nobody knows what the kernel has: everything is said again.
        after = change.moved(change.after) if change.cut_off is None else list(change.after.values())
        gone |= set(elements_of(change.network, [*change.moved(change.before), *(change.cut_off or ())]))
        gone |= {*forwards_of(change.network, change.before.values()), *forwards_of(change.network, change.cut_off or ())}
        come |= {*elements_of(change.network, after), *forwards_of(change.network, change.after.values())}
    gone -= come
    # An element can only be deleted where it is, so it is added first: what was never there, because somebody was killed, is no error.
    commands = [*as_commands("add", store.table, gone), *as_commands("delete", store.table, gone), *as_commands("add", store.table, come)]
    try:
        nft(commands, deadline - time.monotonic())
    except programs.RefusedError as exc:
        if not any(change.moved(change.after) for change in changes) and not programs.nft_list("-t", "table", "bridge", store.table):
            # Somebody has emptied the host's tables, and with them all that those who leave had in ours.
            return
        names = ", ".join(sorted(change.network.name for change in changes))
        raise FailedPrecondition(
            f"The rules of network {names} do not take VMs: {exc}. If it is not up (unkey.vmcp.vmcp_network_info tells), "
            "run its unkey.vmcp.vmcp_network task again."
        ) from exc
