# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The least loaded host that takes a VM, found without looking at every host for every VM.

Hosts only fill up while VMs are placed. So an old figure of a host's load is a lower bound, and a heap by old figures finds the least loaded host:
what comes up with an old figure goes back with the new one. For the same reason, what found no host once finds none later."""

from __future__ import annotations

import heapq
import typing as t

from .data import Wanted
from .room import Room, unsuitable

_Heap = list[tuple[float, str]]
# Groups of at most this many VMs are told apart by looking; larger ones have a heap of their own, of the hosts that have none of them yet.
_SMALL_GROUP = 16


class Chooser:
    """C(rooms): the hosts that may take VMs, by name. C(members): how many VMs each group has."""

    def __init__(self, rooms: t.Mapping[str, Room], members: t.Mapping[str, int]) -> None:
        self._rooms = rooms
        self._members = members
        self._heaps: dict[t.Any, _Heap] = {}
        self._refused: dict[t.Any, str] = {}

    def choose(self, vm: Wanted) -> t.Optional[Room]:
        """The host, which is not taken yet. Equal loads go by name."""
        key = (vm.rules, vm.demand)
        if key in self._refused:
            return None
        heap = self._heap(vm)
        aside: _Heap = []
        chosen = None
        while heap:
            load, name = heapq.heappop(heap)
            room = self._rooms[name]
            if room.load != load:
                heapq.heappush(heap, (room.load, name))
                continue
            if self._full_group(vm) in room.groups:
                continue  # for good: this heap is of one group
            aside.append((load, name))
            if room.holds(vm.demand) and not room.conflict(vm.rules):
                chosen = room
                break
        for entry in aside:
            heapq.heappush(heap, entry)
        if chosen is None:
            self._refused[key] = self._why(vm)
        return chosen

    def why(self, vm: Wanted) -> str:
        """Why none takes it, after C(choose) found none."""
        return self._refused[(vm.rules, vm.demand)]

    def _full_group(self, vm: Wanted) -> t.Optional[str]:
        large = [group for group in vm.rules.apart if self._members.get(group, 0) > _SMALL_GROUP]
        return large[0] if large else None

    def _heap(self, vm: Wanted) -> _Heap:
        rules = vm.rules
        key = (rules.hosts, rules.labels, rules.backend, rules.backend_version)
        if key not in self._heaps:
            self._heaps[key] = [(room.load, name) for name, room in self._rooms.items() if not unsuitable(rules, room.host)]
            heapq.heapify(self._heaps[key])
        group = self._full_group(vm)
        if group is None:
            return self._heaps[key]
        if (key, group) not in self._heaps:
            # A copy of a heap is one.
            self._heaps[(key, group)] = list(self._heaps[key])
        return self._heaps[(key, group)]

    def _why(self, vm: Wanted) -> str:
        """Hosts by what keeps them from taking it, the most frequent first, each with an example."""
        reasons: dict[str, list[str]] = {}
        for name, room in sorted(self._rooms.items()):
            why = unsuitable(vm.rules, room.host) or room.conflict(vm.rules) or room.lack(vm.demand)
            reasons.setdefault(why, []).append(name)
        ranked = sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))
        told = [f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''} {why}" for why, names in ranked[:5]]
        if len(ranked) > 5:
            told.append(f"{sum(len(names) for _why, names in ranked[5:])} more for other reasons")
        return "; ".join(told) if told else "no host may take VMs"
