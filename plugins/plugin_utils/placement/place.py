# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VM goes where: pure, deterministic, and the same again when nothing has changed.

What has a place keeps it unless it cannot stay. The others go, the important and the large first, to the least loaded host that takes them. Nothing is
moved to make room: a fleet that is nearly full may be refused what a cleverer packing would hold."""

from __future__ import annotations

import dataclasses
import typing as t

from ...module_utils.errors import Violation
from .choose import Chooser
from .data import Decision, Demand, Host, Wanted
from .room import Room, shown, unsuitable


@dataclasses.dataclass
class Placement:
    """C(decisions) by name of the VM, in the order of the names. C(rooms): what is left of each host that can be reached."""

    decisions: dict[str, Decision]
    violations: list[Violation]
    notices: list[Violation]
    rooms: dict[str, Room]


def place(fleet: t.Sequence[Wanted], hosts: t.Sequence[Host], claims: t.Mapping[str, str], *, claims_complete: bool = True, moves: bool = False) -> Placement:
    """C(claims): VM to the host that it was last given to. C(claims_complete): they are all that there are, read from more than half of those who keep them.
    C(moves): VMs that cannot stay where they are may move; else that is a violation (on a drained host a notice)."""
    return _Placing(fleet, hosts, claims, claims_complete, moves).run()


class _Placing:
    def __init__(self, fleet: t.Sequence[Wanted], hosts: t.Sequence[Host], claims: t.Mapping[str, str], claims_complete: bool, moves: bool) -> None:
        self.order = sorted(fleet, key=lambda vm: (-vm.priority, -vm.demand.memory, -vm.demand.vcpus, vm.name))
        self.hosts = {host.name: host for host in hosts}
        self.claims = claims
        self.moves = moves
        self.unknown = sorted(host.name for host in hosts if not host.reachable and not host.fenced) if not claims_complete else []
        self.rooms = {host.name: Room(host) for host in hosts if host.reachable}
        self.there: dict[str, list[str]] = {}
        for name in sorted(self.rooms):
            for vm in self.hosts[name].found:
                self.there.setdefault(vm, []).append(name)
        self.found = Placement({}, [], [], self.rooms)
        self.homeless: list[Wanted] = []
        self.leaving: dict[str, str] = {}

    def run(self) -> Placement:
        self._hosts_declared_dead()
        for room in self.rooms.values():
            for demand in room.host.found.values():
                room.take(demand)
        settled = [vm for vm in self.order if self._stays_out_of_sight(vm) or self._is_settled(vm)]
        done = {vm.name for vm in settled}
        rest = [vm for vm in self.order if vm.name not in done]
        for vm in rest:
            if vm.name in self.leaving:
                self.rooms[self.there[vm.name][0]].settle(vm)
        self.homeless = [vm for vm in rest if not self._goes_where_it_was_claimed(vm)]
        self._house()
        self.found.decisions = dict(sorted(self.found.decisions.items()))
        self.found.violations.sort(key=lambda violation: (violation.field, violation.message))
        return self.found

    # --- what has a place -------------------------------------------------------------------------------
    def _hosts_declared_dead(self) -> None:
        for host in self.hosts.values():
            if host.fenced and host.reachable:
                self.found.violations.append(
                    Violation("vmcp_fenced_hosts", f"says that {host.name} is dead, and it answers. Remove its VMs, or take it off the list.")
                )

    def _stays_out_of_sight(self, vm: Wanted) -> bool:
        """What belongs to a host that nobody can see stays with it."""
        claimed = self.hosts.get(self.claims.get(vm.name, ""))
        if claimed is None or claimed.reachable or claimed.fenced:
            return False
        here = self.there.get(vm.name)
        remedy = f"Bring {claimed.name} back, or say that it is dead: vmcp_fenced_hosts."
        if here:
            self._refuse(vm, f"is on {', '.join(here)} and was given to {claimed.name}, which cannot be reached: it may run there. {remedy}", here[0])
        else:
            self._decide(vm, "stay", claimed.name, f"{claimed.name} cannot be reached, and may have it running. {remedy}")
        return True

    def _is_settled(self, vm: Wanted) -> bool:
        """Whether it is somewhere already, and what becomes of it was decided; otherwise it has to be placed."""
        here = self.there.get(vm.name, [])
        if not here:
            return False
        if len(here) > 1:
            self._refuse(vm, f"is on {' and '.join(here)}. Remove it from all but one of them.", None)
            return True
        room = self.rooms[here[0]]
        why = self._why_it_cannot_stay(vm, room)
        if not why:
            room.grow(vm.demand, room.host.found[vm.name])
            room.settle(vm)
            self._decide(vm, "keep", room.host.name, f"is on {room.host.name} already")
            return True
        if self.moves:
            # What it has there it has until it has left.
            self.leaving[vm.name] = why
            return False
        room.settle(vm)
        if room.host.drained:
            self.found.notices.append(Violation(vm.path, f"{vm.name} is still on {room.host.name}, which is drained."))
            self._decide(vm, "keep", room.host.name, f"is on {room.host.name}, which is drained, and may not move")
        else:
            self._refuse(vm, f"is on {room.host.name}, which {why}. Let it move (vmcp_placement_moves: true), or change what it asks for.", room.host.name)
        return True

    def _why_it_cannot_stay(self, vm: Wanted, room: Room) -> str:
        had = room.host.found[vm.name]
        if room.host.drained:
            return "is drained"
        why = unsuitable(vm.rules, room.host) or room.conflict(vm.rules, vm.name)
        if why or room.holds_more(vm.demand, had):
            return why
        return f"{room.lack(_growth(vm.demand, had)) or 'is full'}, too little for it to grow to {_told(vm.demand)}"

    def _goes_where_it_was_claimed(self, vm: Wanted) -> bool:
        """A claim that nobody has carried out yet: by a run that was cut off, or by one that is at it just now. Where not all claims are known, a newer one
        may have given it to a host that cannot be seen."""
        room = self.rooms.get(self.claims.get(vm.name, ""))
        if room is None or self.unknown or vm.name in self.leaving or room.host.drained:
            return False
        if unsuitable(vm.rules, room.host) or room.conflict(vm.rules) or not room.holds(vm.demand):
            return False
        room.take(vm.demand)
        room.settle(vm)
        self._decide(vm, "start", room.host.name, f"was given to {room.host.name} before, and is not there yet")
        return True

    # --- what has none ----------------------------------------------------------------------------------
    def _house(self) -> None:
        members: dict[str, int] = {}
        for vm in self.homeless:
            for group in vm.rules.apart:
                members[group] = members.get(group, 0) + 1
        chooser = Chooser({name: room for name, room in self.rooms.items() if not room.host.drained}, members)
        for vm in self.homeless:
            former = self.there[vm.name][0] if vm.name in self.leaving else None
            if former is None and self.unknown:
                self._refuse(
                    vm,
                    f"may be on {', '.join(self.unknown)}: {'these cannot' if len(self.unknown) > 1 else 'it cannot'} be reached, and too few of the hosts "
                    "that keep the claims were asked to know. Bring back more of them, or say which hosts are dead: vmcp_fenced_hosts.",
                    None,
                )
                continue
            room = chooser.choose(vm)
            if room is None:
                self._refuse(vm, f"wants {_told(vm.demand)}{self._asked(vm)}, and fits nowhere: {chooser.why(vm)}.", former)
                continue
            before = room.load
            room.take(vm.demand)
            room.settle(vm)
            reason = f"{room.host.name} is the least loaded host that takes it ({before:.0%} before, {room.load:.0%} with it)"
            if former is None:
                self._decide(vm, "start", room.host.name, reason + self._of_the_dead(vm))
            else:
                self._decide(vm, "move", room.host.name, f"{former} {self.leaving[vm.name]}; {reason}", former)

    def _of_the_dead(self, vm: Wanted) -> str:
        claimed = self.hosts.get(self.claims.get(vm.name, ""))
        return f"; it was on {claimed.name}, which is declared dead: its disks there are lost to it" if claimed is not None and claimed.fenced else ""

    def _asked(self, vm: Wanted) -> str:
        rules = vm.rules
        asked = [*(f"host {pattern}" for pattern in rules.hosts), *(f"{key}={value}" for key, value in rules.labels)]
        asked += [rules.backend] if rules.backend else []
        return f" with {', '.join(asked)}" if asked else ""

    # --- the book ---------------------------------------------------------------------------------------
    def _decide(self, vm: Wanted, action: str, host: t.Optional[str], reason: str, former: t.Optional[str] = None) -> None:
        self.found.decisions[vm.name] = Decision(vm.name, action, host, reason, former)

    def _refuse(self, vm: Wanted, why: str, host: t.Optional[str]) -> None:
        self.found.violations.append(Violation(vm.path, f"{vm.name} {why}"))
        self._decide(vm, "refuse", host, why)


def _growth(demand: Demand, had: Demand) -> Demand:
    before = dict(had.hugepages)
    pages = tuple((page, max(0, size - before.get(page, 0))) for page, size in demand.hugepages)
    return Demand(max(0, demand.vcpus - had.vcpus), max(0, demand.memory - had.memory), pages)


def _told(demand: Demand) -> str:
    parts = [f"{demand.vcpus} vCPU{'s' if demand.vcpus != 1 else ''}", f"{shown(demand.memory)} memory"]
    parts += [f"{shown(size)} in huge pages of {shown(page)}" for page, size in demand.hugepages if size]
    return " and ".join([", ".join(parts[:-1]), parts[-1]])
