# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Any fleet on any hosts: placement never overcommits, never moves needlessly, is the same again, and refuses only what fits nowhere."""

from __future__ import annotations

import dataclasses
import random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_collections.unkey.vmcp.plugins.plugin_utils.placement.data import Demand, Host, Rules, Wanted
from ansible_collections.unkey.vmcp.plugins.plugin_utils.placement.place import Placement, place
from ansible_collections.unkey.vmcp.plugins.plugin_utils.placement.room import Room, unsuitable

HUGE = 2 << 20
ZONES = ("a", "b")
demands = st.builds(lambda vcpus, memory, pages: Demand(vcpus, memory, ((HUGE, pages),) if pages else ()), *(st.integers(0, top) for top in (4, 8, 2)))
rules = st.builds(
    Rules,
    hosts=st.sampled_from([(), (), ("h0", "h1"), ("h[2-9]",)]),
    labels=st.sampled_from([(), (), (("zone", "a"),)]),
    apart=st.sampled_from([(), (), ("x",), ("y",), ("x", "y")]),
    backend=st.sampled_from([None, None, "qemu", "firecracker"]),
)
fleets = st.lists(st.tuples(demands, rules, st.integers(0, 2)), max_size=14).map(
    lambda entries: [Wanted(f"v{n:02d}", f"vmcp_fleet[{n}]", demand, rule, priority) for n, (demand, rule, priority) in enumerate(entries)]
)


@st.composite
def host_lists(draw: st.DrawFn) -> list[Host]:
    found = []
    for n in range(draw(st.integers(0, 5))):
        names = draw(st.lists(st.integers(0, 16).map(lambda k: f"v{k:02d}"), unique=True, max_size=4))
        reachable = draw(st.sampled_from([True, True, True, False]))
        found.append(
            Host(
                f"h{n}",
                draw(st.builds(lambda c, m, p: Demand(c, m, ((HUGE, p),)), st.integers(0, 10), st.integers(0, 20), st.integers(0, 4))),
                reachable=reachable,
                drained=draw(st.sampled_from([False, False, True])),
                fenced=draw(st.sampled_from([False, False, True])),
                labels={"zone": draw(st.sampled_from(ZONES))},
                backends=draw(st.sampled_from([frozenset({"qemu"}), frozenset({"qemu", "firecracker"}), frozenset()])),
                found={name: draw(demands) for name in names} if reachable else {},
            )
        )
    return found


claim_sets = st.dictionaries(st.integers(0, 16).map(lambda k: f"v{k:02d}"), st.integers(0, 6).map(lambda k: f"h{k}"), max_size=8)
EXAMPLES = settings(max_examples=100)


def carried_out(fleet: list[Wanted], hosts: list[Host], found: Placement) -> list[Host]:
    """The hosts when everything was done that was decided."""
    demands_by_name = {vm.name: vm.demand for vm in fleet}
    after = []
    for host in hosts:
        there = dict(host.found)
        for decision in found.decisions.values():
            if decision.former == host.name and decision.action == "move":
                del there[decision.name]
            if decision.host == host.name and decision.action in ("start", "move", "keep"):
                there[decision.name] = there[decision.name] if host.drained and decision.action == "keep" else demands_by_name[decision.name]
        after.append(Host(host.name, host.capacity, host.reachable, host.drained, host.fenced, host.labels, host.backends, there if host.reachable else {}))
    return after


def excess(host: Host) -> tuple[int, int, int]:
    """By how much more is promised than there is, for each of the three."""
    room = Room(host)
    for demand in host.found.values():
        room.take(demand)
    return max(0, -room.vcpus), max(0, -room.memory), max(0, -room.pages.get(HUGE, 0))


@EXAMPLES
@given(fleets, host_lists(), claim_sets, st.booleans(), st.booleans())
def test_never_overcommits(fleet: list[Wanted], hosts: list[Host], claims: dict[str, str], complete: bool, moves: bool) -> None:
    found = place(fleet, hosts, claims, claims_complete=complete, moves=moves)
    # Not in between either, while what moves is on both.
    for before, after in zip(hosts, carried_out(fleet, hosts, found), strict=True):
        both = Host(after.name, after.capacity, found={**before.found, **after.found})
        for was, is_now in zip(excess(before), excess(both), strict=True):
            assert is_now <= was


@EXAMPLES
@given(fleets, host_lists(), claim_sets, st.booleans())
def test_nothing_moves_that_can_stay(fleet: list[Wanted], hosts: list[Host], claims: dict[str, str], moves: bool) -> None:
    found = place(fleet, hosts, claims, moves=moves)
    by_name = {host.name: host for host in hosts}
    wanted = {vm.name: vm for vm in fleet}
    for decision in found.decisions.values():
        if decision.action != "move":
            continue
        assert moves and decision.former is not None and decision.former != decision.host
        home, vm = by_name[decision.former], wanted[decision.name]
        neighbours = [other for other in home.found if other in wanted and other != vm.name and set(wanted[other].rules.apart) & set(vm.rules.apart)]
        grows = not vm.demand.within(home.found[vm.name])
        assert home.drained or unsuitable(vm.rules, home) or neighbours or grows


@EXAMPLES
@given(fleets, host_lists(), claim_sets)
def test_what_was_carried_out_is_left_alone(fleet: list[Wanted], hosts: list[Host], claims: dict[str, str]) -> None:
    # What is refused where it is may keep others from what they need, and come to rest later: without those.
    while refused := {name for name, decision in place(fleet, hosts, claims, moves=True).decisions.items() if decision.action == "refuse"}:
        fleet = [vm for vm in fleet if vm.name not in refused]
        hosts = [dataclasses.replace(host, found={name: demand for name, demand in host.found.items() if name not in refused}) for host in hosts]
    first = place(fleet, hosts, claims, moves=True)
    placed = {name: decision.host for name, decision in first.decisions.items() if decision.host is not None and decision.action != "refuse"}
    again = place(fleet, carried_out(fleet, hosts, first), {**claims, **placed}, moves=True)
    for name, decision in again.decisions.items():
        before = first.decisions[name]
        if before.action in ("start", "keep", "move") and not next(h for h in hosts if h.name == before.host).drained:
            assert (decision.action, decision.host) == ("keep", before.host), (before, decision)


@EXAMPLES
@given(fleets, host_lists(), claim_sets, st.booleans(), st.integers(0, 1000))
def test_the_order_in_which_things_are_written_does_not_matter(fleet: list[Wanted], hosts: list[Host], claims: dict[str, str], moves: bool, seed: int) -> None:
    shuffled = random.Random(seed)
    first = place(fleet, hosts, claims, moves=moves)
    second = place(
        shuffled.sample(fleet, len(fleet)), shuffled.sample(hosts, len(hosts)), dict(shuffled.sample(sorted(claims.items()), len(claims))), moves=moves
    )
    assert first.decisions == second.decisions
    assert first.violations == second.violations


# A newer claim than the one that is known may have given it to the host that cannot be seen.
CLAIMED_BEFORE = (
    [Wanted("v00", "vmcp_fleet[0]", Demand(1))],
    [Host("h0", Demand(9), backends=frozenset({"qemu"})), Host("h1", reachable=False)],
    {"v00": "h0"},
    False,
)


@EXAMPLES
@given(fleets, host_lists(), claim_sets, st.booleans())
@example(*CLAIMED_BEFORE)
def test_what_may_be_out_of_sight_is_not_started(fleet: list[Wanted], hosts: list[Host], claims: dict[str, str], complete: bool) -> None:
    found = place(fleet, hosts, claims, claims_complete=complete, moves=True)
    lost = {host.name for host in hosts if not host.reachable and not host.fenced}
    for name, decision in found.decisions.items():
        seen = [host.name for host in hosts if name in host.found]
        if claims.get(name) in lost or (lost and not complete and not seen) or len(seen) > 1:
            assert decision.action in ("stay", "refuse")
        if decision.action in ("start", "move"):
            target = next(host for host in hosts if host.name == decision.host)
            assert target.reachable and not target.drained


@EXAMPLES
@given(fleets, host_lists(), claim_sets)
def test_what_is_refused_fits_nowhere_and_says_so(fleet: list[Wanted], hosts: list[Host], claims: dict[str, str]) -> None:
    found = place(fleet, hosts, claims, moves=True)
    wanted = {vm.name: vm for vm in fleet}
    assert set(found.decisions) == set(wanted)
    for name, decision in found.decisions.items():
        vm = wanted[name]
        violations = [violation for violation in found.violations if violation.field == vm.path]
        assert (decision.action == "refuse") == bool(violations)
        if violations and "fits nowhere" in violations[0].message:
            takers = [
                room
                for room in found.rooms.values()
                if not room.host.drained and not unsuitable(vm.rules, room.host) and not room.conflict(vm.rules) and room.holds(vm.demand)
            ]
            assert not takers


@EXAMPLES
@given(fleets, host_lists(), claim_sets)
def test_groups_are_kept_apart(fleet: list[Wanted], hosts: list[Host], claims: dict[str, str]) -> None:
    found = place(fleet, hosts, claims, moves=True)
    wanted = {vm.name: vm for vm in fleet}
    for host in hosts:
        fresh = [d.name for d in found.decisions.values() if d.host == host.name and d.action in ("start", "move")]
        others = [d.name for d in found.decisions.values() if d.host == host.name and d.action in ("start", "move", "keep")]
        for name in fresh:
            for other in set(others) - {name}:
                if host.drained and found.decisions[other].action == "keep":
                    continue
                assert not set(wanted[name].rules.apart) & set(wanted[other].rules.apart)
