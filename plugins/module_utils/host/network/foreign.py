# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other firewalls of the host (Docker, ufw, an administrator's own) that drop what they do not know: found, and passed by rules where those belong.

Our own chains have decided by then, so what is let pass there is no more than what they let pass: accepting in one table of nftables overrules no drop
in another. Standard library only.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ...errors import FailedPrecondition
from ...planner.network_links import VXLAN_PORT
from ...planner.network_situation import Blocker
from ..files import read_kernel
from . import programs

if t.TYPE_CHECKING:
    from ...model.network_definition import NetworkDefinition
    from .store import NetworkStore

# Where Docker wants other people's rules; it makes its own anew whenever it starts.
_FOR_OTHERS = {"forward": "DOCKER-USER"}
_HOOKS = ("forward", "input")
_FIREWALLD = "firewalld"


@dataclasses.dataclass(frozen=True)
class Found:
    """C(accepted): where rules of ours are already, as they should be. C(handles): of all rules of ours. C(firewalld), C(legacy): it runs, or the older
    iptables has rules, and lacks what these commands would make."""

    blockers: tuple[Blocker, ...] = ()
    accepted: frozenset[tuple[str, str, str]] = frozenset()
    handles: tuple[tuple[str, str, str, int], ...] = ()
    firewalld: tuple[str, ...] = ()
    legacy: tuple[str, ...] = ()


def mark(store: NetworkStore, name: str) -> str:
    """The comment by which our rules in others' chains are known."""
    return f"{store.table}: network {name}"


def look(store: NetworkStore, name: str, definition: t.Optional[NetworkDefinition]) -> Found:
    entries = programs.nft_list("-t", "ruleset")
    ours = [rule for entry in entries if (rule := entry.get("rule")) and rule.get("comment") == mark(store, name)]
    handles = tuple((rule["family"], rule["table"], rule["chain"], rule["handle"]) for rule in ours)
    if definition is None or definition.bridge is None:
        return Found(handles=handles)
    blockers = tuple(_blockers(entries, store, definition))
    counted = [(rule["family"], rule["table"], rule["chain"]) for rule in ours]
    accepted = frozenset(b.place for b in blockers if counted.count(b.place) == sum(len(rules_for(definition, o)) for o in blockers if o.place == b.place))
    return Found(blockers, accepted, handles, tuple(_firewalld(entries, definition)), tuple(_legacy(definition)))


def _blockers(entries: t.Sequence[t.Mapping[str, t.Any]], store: NetworkStore, definition: NetworkDefinition) -> t.Iterator[Blocker]:
    chains = [entry["chain"] for entry in entries if "chain" in entry]
    last = {(rule["family"], rule["table"], rule["chain"]): rule for entry in entries if (rule := entry.get("rule"))}
    named = {(chain["family"], chain["table"], chain["name"]) for chain in chains}
    for chain in chains:
        hook = chain.get("hook")
        if hook not in _HOOKS or chain["table"] == store.table or chain["table"] == _FIREWALLD or chain["family"] not in _families(definition):
            continue
        if chain.get("policy") != "drop" and not _refuses_all(last.get((chain["family"], chain["table"], chain["name"]))):
            continue
        place = (chain["family"], chain["table"], _FOR_OTHERS.get(hook, ""))
        blocker = Blocker(hook, place if place in named else (chain["family"], chain["table"], chain["name"]))
        if rules_for(definition, blocker):
            yield blocker


def _refuses_all(rule: t.Optional[t.Mapping[str, t.Any]]) -> bool:
    """Whether a chain's last rule is what a policy would be: many write a reject there, since a policy can only drop."""
    if rule is None:
        return False
    words = [word for word in rule["expr"] if not word.keys() & {"counter", "log"}]
    # The last is iptables-nft's own.
    return len(words) == 1 and ("drop" in words[0] or "reject" in words[0] or (words[0].get("xt") or {}).get("name") == "REJECT")


def _families(definition: NetworkDefinition) -> tuple[str, ...]:
    """Those of whose chains the network's traffic meets. What is bridged meets them only where the kernel was told so (br_netfilter)."""
    if definition.kind not in ("bridge", "vxlan"):
        return ("ip", "ip6", "inet") if _bridged_traffic_is_filtered() else ()
    return tuple(family for family, there in (("ip", definition.ipv4), ("ip6", definition.ipv6), ("inet", True)) if there or _bridged_traffic_is_filtered())


def _bridged_traffic_is_filtered() -> bool:
    try:
        return read_kernel("/proc/sys/net/bridge/bridge-nf-call-iptables").strip() == "1"
    except FileNotFoundError:
        return False


def rules_for(definition: NetworkDefinition, blocker: Blocker) -> list[str]:
    """What must be accepted there."""
    if blocker.hook == "forward":
        return [f'iifname "{definition.bridge}" accept', f'oifname "{definition.bridge}" accept']
    rules = [f'iifname "{definition.bridge}" accept'] if definition.kind in ("bridge", "vxlan") else []
    if definition.kind == "vxlan":
        six = ":" in str(definition.generated.get("local"))
        if blocker.place[0] in ("inet", "ip6" if six else "ip"):
            peers = ", ".join(definition.generated["peers"])
            rules.append(f"{'ip6' if six else 'ip'} saddr {{ {peers} }} udp dport {VXLAN_PORT} accept")
    return rules


def accept_file(store: NetworkStore, definition: NetworkDefinition, blockers: t.Sequence[Blocker]) -> str:
    """The text of C(accept.nft), which the host loads when it boots."""
    lines = [f"# Lets network {definition.name} pass other firewalls, written by unkey.vmcp; changes are overwritten."]
    for blocker in blockers:
        family, table, chain = blocker.place
        lines += [f'insert rule {family} {table} {chain} {rule} comment "{mark(store, definition.name)}"' for rule in rules_for(definition, blocker)]
    return "\n".join(lines) + "\n"


def apply(store: NetworkStore, definition: NetworkDefinition) -> None:
    """Our rules in others' chains as they should be, those that were there before taken away, in one transaction."""
    found = look(store, definition.name, definition)
    _load(_deletions(found) + accept_file(store, definition, found.blockers), definition.name)


def remove(store: NetworkStore, name: str) -> None:
    found = look(store, name, None)
    if found.handles:
        _load(_deletions(found), name)


def _deletions(found: Found) -> str:
    return "".join(f"delete rule {family} {table} {chain} handle {handle}\n" for family, table, chain, handle in found.handles)


def _load(text: str, name: str) -> None:
    try:
        programs.nft_file(text)
    except programs.RefusedError as exc:
        raise FailedPrecondition(f"Another firewall of this host changed while network {name} was let pass it: {exc}. Run the task again.") from exc


def _firewalld(entries: t.Sequence[t.Mapping[str, t.Any]], definition: NetworkDefinition) -> t.Iterator[str]:
    """firewalld makes its table anew at each reload, so only what it knows itself lasts: which zone an interface is in, and what may come in where."""
    rules = [str(rule["expr"]) for entry in entries if (rule := entry.get("rule")) and rule["table"] == _FIREWALLD]
    if not rules or definition.kind not in ("bridge", "vxlan"):
        return
    if not any(f"'{definition.bridge}'" in rule for rule in rules):
        yield f"firewall-cmd --permanent --zone=trusted --add-interface={definition.bridge}"
    opened = [rule for rule in rules if "'dport'" in rule and f"'right': {VXLAN_PORT}}}" in rule]
    for peer in definition.generated["peers"] if definition.kind == "vxlan" else ():
        if peer != definition.generated["local"] and not any(f"'{peer}'" in rule or "'saddr'" not in rule for rule in opened):
            source = f"family=ipv{6 if ':' in peer else 4} source address={peer}"
            yield f"firewall-cmd --permanent --add-rich-rule='rule {source} port port={VXLAN_PORT} protocol=udp accept'"


def _legacy(definition: NetworkDefinition) -> t.Iterator[str]:
    """Rules of the older iptables nft does not list. Whether somebody has put one of ours among them its own program says by its exit code."""
    if definition.kind not in ("bridge", "vxlan") and not _bridged_traffic_is_filtered():
        return
    for tool, tables, there in (("iptables-legacy", "ip_tables_names", definition.ipv4), ("ip6tables-legacy", "ip6_tables_names", definition.ipv6)):
        if not (there or _bridged_traffic_is_filtered()) or not _has_filter(f"/proc/thread-self/net/{tables}"):
            continue
        for chain, way in (("FORWARD", "-i"), ("FORWARD", "-o"), *([("INPUT", "-i")] if definition.kind in ("bridge", "vxlan") else [])):
            rule = f"{chain} {way} {definition.bridge} -j ACCEPT"
            if not programs.agrees([tool, "--wait", "5", "-C", *rule.split()]):
                yield f"{tool} -I {rule}"


def _has_filter(path: str) -> bool:
    try:
        return "filter" in read_kernel(path).split()
    except (FileNotFoundError, PermissionError):
        return False
