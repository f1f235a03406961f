# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our tables in the kernel: what is there, what should be, one transaction from the one to the other. Standard library only.

What should be there is not guessed from text: the rules are loaded in a network namespace made for that and thrown away, and listed there as JSON. So
it is also known, before anything is touched, whether this kernel takes them.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t

from ...errors import FailedPrecondition, Internal
from ...planner.network_members import Element, as_file, elements_of, forwards_of
from ...planner.network_members import chain as chain_name
from ...planner.network_rules import BRIDGE_CHAINS, INET_CHAINS, SETS, chains_of, network_elements, rules_file
from . import programs

if t.TYPE_CHECKING:
    from ...model.network_definition import Member, NetworkDefinition
    from .store import NetworkStore


@dataclasses.dataclass(frozen=True)
class Listing:
    """Our tables. C(chains): family and name to the rules in it, without what changes by itself (handles, counters)."""

    chains: t.Mapping[tuple[str, str], tuple[str, ...]]
    elements: frozenset[Element]


def read(entries: t.Iterable[t.Mapping[str, t.Any]], table: str) -> Listing:
    """Out of what nft lists as JSON."""
    chains: dict[tuple[str, str], list[str]] = {}
    elements: set[Element] = set()
    for entry in entries:
        for kind, body in entry.items():
            if (body.get("name") if kind == "table" else body.get("table")) != table:
                continue
            if kind == "chain":
                chains.setdefault((body["family"], body["name"]), [])
            elif kind == "rule":
                chains.setdefault((body["family"], body["chain"]), []).append(json.dumps(_still(body["expr"]), sort_keys=True))
            elif kind in ("set", "map"):
                elements.update(_element(body["family"], body["name"], item) for item in body.get("elem", ()))
    return Listing({place: tuple(rules) for place, rules in chains.items()}, frozenset(elements))


def _still(tree: t.Any) -> t.Any:
    if isinstance(tree, dict):
        return {key: None if key == "counter" else _still(value) for key, value in tree.items()}
    return [_still(entry) for entry in tree] if isinstance(tree, list) else tree


def _element(family: str, name: str, item: t.Any) -> Element:
    if isinstance(item, list) and len(item) == 2:
        key, value = item
        return Element(family, name, _parts(key), ("jump", value["jump"]["target"]) if isinstance(value, dict) and "jump" in value else _parts(value))
    return Element(family, name, _parts(item))


def _parts(item: t.Any) -> tuple[str, ...]:
    if isinstance(item, dict) and "concat" in item:
        return tuple(part for inner in item["concat"] for part in _parts(inner))
    if isinstance(item, dict) and "prefix" in item:
        return (f"{item['prefix']['addr']}/{item['prefix']['len']}",)
    if isinstance(item, dict) and "elem" in item:
        return _parts(item["elem"]["val"])
    return (str(item),)


def listed(store: NetworkStore) -> Listing:
    """What the kernel has."""
    entries = [entry for family in ("bridge", "inet") for entry in programs.nft_list("table", family, store.table)]
    return read(entries, store.table)


def expected(store: NetworkStore, network: NetworkDefinition) -> Listing:
    """What the kernel would have after loading the network's rules. FailedPrecondition, with what to load, where it does not take them."""
    programs.program("nft")
    try:
        said = programs.run(["unshare", "--net", "--", "/bin/sh", "-c", "nft -f - && nft -j list ruleset"], rules_file(store.table, network))
    except programs.RefusedError as exc:
        raise FailedPrecondition(
            f"The kernel or nft of this host does not take the rules of network {network.name}: {exc}. Install nftables from version 1.0 on, "
            "and load the modules nf_tables, nf_tables_bridge (CONFIG_NF_TABLES_BRIDGE), nft_chain_nat, nft_masq, nft_fib_inet and nft_reject_inet."
        ) from exc
    try:
        return read(json.loads(said)["nftables"], store.table)
    except (ValueError, KeyError) as exc:
        raise Internal(f"nft answered with what is no JSON ({exc}). Install a version from 1.0 on, built with JSON.") from exc


def agree(store: NetworkStore, network: NetworkDefinition, members: t.Sequence[Member], found: Listing) -> bool:
    """Whether the kernel has the network's rules, and knows its members, no more and no less."""
    should = expected(store, network)
    own = [place for place in should.chains if place[1] in (*BRIDGE_CHAINS, *INET_CHAINS) or place[1] in _own(network)]
    if any(found.chains.get(place) != should.chains[place] for place in own):
        return False
    everything = _wanted(store, {network.name: network})
    mine = {*should.elements, *elements_of(network, members), *forwards_of(network, members)}
    return mine <= found.elements and found.elements <= everything


def _own(network: NetworkDefinition) -> list[str]:
    return [chain_name(direction, network.name) for direction in chains_of(network)]


def _wanted(store: NetworkStore, networks: t.Mapping[str, t.Optional[NetworkDefinition]]) -> set[Element]:
    """Every element that any network accounts for. C(networks): how some of them are to be, other than stored; None for one that ends."""
    wanted: set[Element] = set()
    for name in sorted({*store.names(), *networks}):
        network = networks[name] if name in networks else store.load(name)
        if network is not None:
            members = store.members(name)
            wanted |= {*network_elements(network), *elements_of(network, members), *forwards_of(network, members)}
    return wanted


def apply(store: NetworkStore, network: NetworkDefinition, members: t.Sequence[Member]) -> None:
    """From whatever is there to what should be, in one transaction. What nobody accounts for any more goes."""
    stale = listed(store).elements - _wanted(store, {network.name: network})
    text = rules_file(store.table, network)
    _load(_deletions(store, stale) + text + as_file(store.table, network, members), network.name)


def remove(store: NetworkStore, name: str) -> None:
    """Takes the network's rules away; with the last network our tables."""
    found = listed(store)
    if not found.chains:
        return
    if not [other for other in store.names() if other != name]:
        _load("".join(f"delete table {family} {store.table}\n" for family in sorted({place[0] for place in found.chains})), name)
        return
    stale = found.elements - _wanted(store, {name: None})
    own = [
        place
        for place in found.chains
        if place[0] == "inet" and place[1].partition("-")[2] == name and place[1].partition("-")[0] in ("in", "out", "into", "nat")
    ]
    emptied = "".join(f"flush chain {family} {store.table} {chain}\n" for family, chain in own)
    _load(_deletions(store, stale) + emptied + "".join(f"delete chain {family} {store.table} {chain}\n" for family, chain in own), name)


def _deletions(store: NetworkStore, elements: t.Iterable[Element]) -> str:
    known = {(family, name) for family, names in SETS.items() for name in names}
    return "".join(
        f"delete element {e.family} {store.table} {e.set} {{ {e.as_text()} }}\n"
        for e in sorted(elements, key=lambda e: (e.family, e.set, e.key))
        if (e.family, e.set) in known
    )


def _load(text: str, name: str) -> None:
    if not text:
        return
    try:
        programs.nft_file(text)
    except programs.RefusedError as exc:
        raise FailedPrecondition(f"The kernel does not take the rules of network {name}, and has kept those before: {exc}. Run the task again.") from exc
