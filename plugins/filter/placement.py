# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VM of a fleet goes to which host. The documentation of the filter is in C(vmcp_placement.yml)."""

from __future__ import annotations

import collections.abc
import dataclasses
import typing as t

from ansible.errors import AnsibleFilterError

from ..module_utils.errors import Violation
from ..module_utils.thirdparty_pydantic import HAS_PYDANTIC
from ..plugin_utils.placement.claims import read_claims
from ..plugin_utils.placement.data import ACTIONS, Wanted
from ..plugin_utils.placement.place import Placement, place
from ..plugin_utils.placement.reading import as_label, leave, read_fleet, read_hosts

Result = dict[str, t.Any]
FLEET_LABEL = "vmcp_fleet"


def vmcp_placement(
    fleet: t.Any,
    hosts: t.Any,
    defaults: t.Any = None,
    claims: t.Any = None,
    claims_complete: bool = True,
    fenced: t.Any = None,
    moves: bool = False,
    name: str = "default",
    prune: bool = False,
    leaving: t.Any = None,
) -> Result:
    """See C(vmcp_placement.yml)."""
    if not HAS_PYDANTIC:
        raise AnsibleFilterError("vmcp_placement needs the Python library pydantic for the Python that runs ansible-playbook: pip install 'pydantic>=2'.")
    claimed = claims or {}
    if not isinstance(claimed, collections.abc.Mapping):
        raise AnsibleFilterError("vmcp_placement: claims is a dictionary of a VM's name to the name of its host.")
    label = {FLEET_LABEL: as_label(name)}
    wanted, violations = read_fleet(fleet, defaults, label)
    known, wrong = read_hosts(hosts, [fenced] if isinstance(fenced, str) else list(fenced or []))
    violations += wrong
    members = [vm.name for vm in wanted]
    wanted, known = leave(wanted, known, hosts, [leaving] if isinstance(leaving, str) else list(leaving or []))
    found = place(wanted, known, {str(vm): str(host) for vm, host in claimed.items()}, claims_complete=bool(claims_complete), moves=bool(moves))
    found.violations = [*violations, *found.violations]
    return {**_result(found, wanted, claimed, label, hosts, bool(prune)), "members": members}


def vmcp_claims(records: t.Any, keepers: t.Any = None, fenced: t.Any = None) -> Result:
    """See C(vmcp_claims.yml)."""
    if not isinstance(records, collections.abc.Mapping):
        raise AnsibleFilterError("vmcp_claims: give a dictionary of a host's name to its record, none for a host that cannot be reached.")
    return dataclasses.asdict(read_claims(records, list(keepers or records), list(fenced or [])))


def _result(found: Placement, wanted: t.Sequence[Wanted], claims: t.Mapping[str, str], label: t.Mapping[str, str], hosts: t.Any, prune: bool) -> Result:
    by_name = {vm.name: vm for vm in wanted}
    entries: dict[str, dict[str, t.Any]] = {name: {} for name in sorted(found.rooms)}
    for decision in found.decisions.values():
        # What is to move is told to leave by whoever moves it.
        if decision.action in ("keep", "start") and decision.host in entries:
            entries[decision.host][decision.name] = by_name[decision.name].options
    # What is refused keeps the claim that it has: it says more than what can be seen.
    places = {name: claims.get(name, d.host) if d.action == "refuse" else d.host for name, d in found.decisions.items()}
    given = {name: host for name, host in places.items() if host is not None}
    surplus = _surplus(hosts, label, by_name)
    # Out of sight is not gone: what nobody can see keeps its claim, whether it is still wanted or not.
    kept = {vm: host for vm, host in claims.items() if vm not in by_name and (host not in found.rooms or (vm in surplus and not prune))}
    after = {**kept, **given}
    decisions = [decision.as_dict() for decision in found.decisions.values()]
    return {
        "decisions": decisions,
        "by_host": _by_host(decisions, claims, after, surplus),
        "summary": {action: sum(1 for decision in found.decisions.values() if decision.action == action) for action in ACTIONS},
        "entries": entries,
        "claims": after,
        "wait_for": {vm.name: vm.options["wait_for"] for vm in wanted if vm.options.get("wait_for")},
        "surplus": surplus,
        "violations": [violation.as_dict() for violation in _once(found.violations)],
        "notices": [violation.as_dict() for violation in found.notices],
        "hosts": {
            name: {
                "vcpus": room.host.capacity.vcpus,
                "vcpus_free": room.vcpus,
                "memory_bytes": room.host.capacity.memory,
                "memory_free_bytes": room.memory,
                "load": round(room.load, 4),
            }
            for name, room in sorted(found.rooms.items())
        },
    }


def _by_host(
    decisions: t.Sequence[Result], before: t.Mapping[str, str], after: t.Mapping[str, str], surplus: t.Mapping[str, str]
) -> dict[str, dict[str, t.Any]]:
    """What each host has to do with. Every host picking its own out of everything would be work that grows with the square of the fleet."""
    found: dict[str, dict[str, t.Any]] = {host: {"moves": [], "claims": {}, "taken": [], "surplus": []} for host in {*before.values(), *after.values()}}
    for decision in decisions:
        if decision["action"] == "move":
            found[decision["host"]]["moves"].append(decision)
    for vm, host in after.items():
        found[host]["claims"][vm] = host
    for vm, host in before.items():
        if after.get(vm) != host:
            found[host]["taken"].append(vm)
    for vm, host in surplus.items():
        found.setdefault(host, {"moves": [], "claims": {}, "taken": [], "surplus": []})["surplus"].append(vm)
    return found


def _surplus(hosts: t.Any, label: t.Mapping[str, str], wanted: t.Mapping[str, t.Any]) -> dict[str, str]:
    """VMs that were made for this fleet and are in it no more, by where they are."""
    found = {}
    for name, body in hosts.items() if isinstance(hosts, collections.abc.Mapping) else ():
        for vm in body.get("vms") or []:
            if vm["name"] not in wanted and all((vm.get("labels") or {}).get(key) == value for key, value in label.items()):
                found[vm["name"]] = name
    return found


def _once(violations: t.Sequence[Violation]) -> list[Violation]:
    return list(dict.fromkeys(violations))


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"vmcp_claims": vmcp_claims, "vmcp_placement": vmcp_placement}
