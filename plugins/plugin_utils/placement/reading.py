# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what playbooks have, the fleet as users write it and hosts as the modules report them, to what is placed. All violations at once."""

from __future__ import annotations

import collections.abc
import dataclasses
import re
import typing as t

from ...module_utils.errors import Violation
from ...module_utils.model.entries import Entry, read_entries
from ...module_utils.model.short_options import fold_short_options
from ...module_utils.model.units import GIB, MIB, parse_size
from .data import Demand, Host, Rules, Wanted

# What a VM has when nobody says otherwise, as the model has it.
_VCPUS, _MEMORY = 1, 512 * MIB
# Beside its guest's memory each VM has a VMM, as vmcp_vms reckons too.
OVERHEAD_BYTES = 16 * MIB
# What the host itself is left with.
RESERVE_BYTES = 1 * GIB
CPU_OVERCOMMIT = 4.0
MEMORY_OVERCOMMIT = 1.0
_PLACEMENT_KEYS = ("hosts", "labels", "apart")
_CAPACITY_KEYS = ("vcpus", "memory", "cpu_overcommit", "memory_overcommit", "memory_reserve")

Tree = t.Mapping[str, t.Any]


# --- the fleet -------------------------------------------------------------------------------------------
def read_fleet(fleet: t.Any, defaults: t.Any, labels: Tree) -> tuple[list[Wanted], list[Violation]]:
    """C(labels): those that every VM of the fleet gets. Paths of violations begin with C(vmcp_fleet) and C(vmcp_fleet_defaults)."""
    entries = read_entries(fleet, defaults, None)
    violations = [Violation(_path(v.field), v.message) for v in entries.violations]
    found = []
    alike: dict[str, tuple[Demand, Rules]] = {}
    for entry in entries.listed:
        if entry.likeness not in alike:
            alike[entry.likeness] = _read_entry(entry, violations)
        demand, rules = alike[entry.likeness]
        options = {key: value for key, value in entry.options.items() if key != "placement"}
        options["labels"] = {**_mapping(options.get("labels")), **labels}
        found.append(Wanted(entry.name, _path(entry.path), demand, rules, entry.priority, options))
    return found, violations


def _path(field: str) -> str:
    return re.sub(r"^defaults(?![A-Za-z0-9_])", "vmcp_fleet_defaults", re.sub(r"^vms(?![A-Za-z0-9_])", "vmcp_fleet", field))


def _read_entry(entry: Entry, violations: list[Violation]) -> tuple[Demand, Rules]:
    path = _path(entry.path)
    config, _contradictions = fold_short_options(entry.options, entry.options.get("config"))
    try:
        demand = demand_of(config if isinstance(config, collections.abc.Mapping) else {})
    except ValueError as exc:
        violations.append(Violation(f"{path}.config", f"{exc}."))
        demand = Demand()
    if entry.options.get("state") in ("absent", "restarted"):
        violations.append(Violation(f"{path}.state", "is no state to be in. Take the entry out to have its VM removed (vmcp_fleet_prune)."))
    backend = entry.options.get("backend")
    version = entry.options.get("backend_version")
    given = entry.options.get("placement")
    if given is not None and not isinstance(given, collections.abc.Mapping):
        violations.append(Violation(f"{path}.placement", f"must be a dictionary with some of {', '.join(_PLACEMENT_KEYS)}."))
        given = None
    for key in given or {}:
        if key not in _PLACEMENT_KEYS:
            violations.append(Violation(f"{path}.placement.{key}", f"is no key here. Known are: {', '.join(_PLACEMENT_KEYS)}."))
    placement = given or {}
    labels = placement.get("labels")
    if labels is not None and not isinstance(labels, collections.abc.Mapping):
        violations.append(Violation(f"{path}.placement.labels", "must be a dictionary of a label to the value that the host must have."))
        labels = None
    rules = Rules(
        hosts=_texts(placement.get("hosts"), f"{path}.placement.hosts", violations),
        labels=tuple(sorted((str(key), as_label(value)) for key, value in (labels or {}).items())),
        apart=_texts(placement.get("apart"), f"{path}.placement.apart", violations),
        backend=None if backend in (None, "auto") else str(backend),
        backend_version=None if version is None else str(version).removeprefix("v"),
    )
    return demand, rules


def demand_of(config: Tree) -> Demand:
    """What a configuration takes of its host, defaults filled in. ValueError when a size is none."""
    memory, cpu = _mapping(config.get("memory")), _mapping(config.get("cpu"))
    size = parse_size(memory["size_bytes"]) if memory.get("size_bytes") is not None else _MEMORY
    vcpus = _whole(cpu.get("vcpu_count"), "cpu.vcpu_count") if cpu.get("vcpu_count") is not None else _VCPUS
    if not _flag(memory.get("hugepages")):
        return Demand(vcpus, size + OVERHEAD_BYTES)
    page = parse_size(memory["hugepage_size_bytes"]) if memory.get("hugepage_size_bytes") is not None else 2 * MIB
    return Demand(vcpus, OVERHEAD_BYTES, ((page, size),))


# --- the hosts -------------------------------------------------------------------------------------------
def read_hosts(hosts: t.Any, fenced: t.Collection[str]) -> tuple[list[Host], list[Violation]]:
    """C(hosts): name to C({reachable, host, vms, labels, drained, capacity}); C(host) and C(vms) as vmcp_host_info and vmcp_vm_info return them."""
    violations: list[Violation] = []
    found = []
    if not isinstance(hosts, collections.abc.Mapping):
        return [], [Violation("hosts", "must be a dictionary of a host's name to what is known of it.")]
    for name in fenced:
        if name not in hosts:
            violations.append(Violation("vmcp_fenced_hosts", f"{name} is no host of this fleet."))
    for name, given in hosts.items():
        body = _mapping(given)
        reachable = bool(body.get("reachable", True))
        facts = _mapping(body.get("host"))
        try:
            capacity = _capacity(facts, _mapping(body.get("capacity"))) if reachable else Demand(0)
        except ValueError as exc:
            violations.append(Violation(f"hostvars.{name}.vmcp_host_capacity", f"{exc}."))
            capacity = Demand(0)
        found.append(
            Host(
                name=str(name),
                capacity=capacity,
                reachable=reachable,
                drained=bool(body.get("drained")),
                fenced=name in fenced,
                labels={str(key): as_label(value) for key, value in _mapping(body.get("labels")).items()},
                backends=_backends(facts),
                found={str(vm["name"]): demand_of(_mapping(vm.get("config"))) for vm in body.get("vms") or []} if reachable else {},
            )
        )
    return found, violations


def _capacity(facts: Tree, own: Tree) -> Demand:
    """What the host says of itself, and what its variables say over that. Huge pages are set aside from memory already."""
    for key in own:
        if key not in _CAPACITY_KEYS:
            raise ValueError(f"{key} is no key here. Known are: {', '.join(_CAPACITY_KEYS)}")
    pages = tuple((int(pool["size_bytes"]), int(pool["size_bytes"]) * int(pool["total"])) for pool in facts.get("hugepages") or [])
    reserve = parse_size(own["memory_reserve"]) if own.get("memory_reserve") is not None else RESERVE_BYTES
    memory = int(facts.get("memory_bytes") or 0) - sum(size for _page, size in pages) - reserve
    vcpus = int(facts.get("cpus") or 0) * _factor(own.get("cpu_overcommit"), CPU_OVERCOMMIT, "cpu_overcommit")
    memory = int(max(0, memory) * _factor(own.get("memory_overcommit"), MEMORY_OVERCOMMIT, "memory_overcommit"))
    return Demand(
        _whole(own["vcpus"], "vcpus") if own.get("vcpus") is not None else int(vcpus),
        parse_size(own["memory"]) if own.get("memory") is not None else memory,
        pages,
    )


def _backends(facts: Tree) -> frozenset[str]:
    """Those that are installed and have what they need: two of the three cannot do without KVM."""
    usable = bool(_mapping(facts.get("kvm")).get("usable"))
    names: set[str] = set()
    for installed in facts.get("backends") or []:
        if usable or installed["backend"] == "qemu":
            names |= {installed["backend"], f"{installed['backend']} {installed['version']}"}
    return frozenset(names)


def leave(fleet: t.Sequence[Wanted], hosts: t.Sequence[Host], seen: Tree, leaving: t.Collection[str]) -> tuple[list[Wanted], list[Host]]:
    """The fleet with every VM of the hosts C(leaving), whosever it is, and these hosts as drained."""
    names = {vm.name for vm in fleet}
    others = []
    for host in hosts:
        for vm in _mapping(seen.get(host.name)).get("vms") or [] if host.name in leaving and host.reachable else []:
            if vm["name"] not in names:
                path = f"{host.name}.{vm['name']}"
                others.append(Wanted(str(vm["name"]), path, host.found[str(vm["name"])], Rules(backend=vm.get("backend")), options={"name": vm["name"]}))
    return [*fleet, *others], [dataclasses.replace(host, drained=True) if host.name in leaving else host for host in hosts]


# --- values as variables have them -------------------------------------------------------------------------
def as_label(value: t.Any) -> str:
    """A label's value as definitions keep it: YAML makes booleans and numbers of words."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _mapping(value: t.Any) -> Tree:
    return value if isinstance(value, collections.abc.Mapping) else {}


def _texts(value: t.Any, path: str, violations: list[Violation]) -> tuple[str, ...]:
    """One text or a list of them."""
    if value is None:
        return ()
    listed = [value] if isinstance(value, str) else value
    if isinstance(listed, collections.abc.Sequence) and all(isinstance(item, (str, int)) for item in listed):
        return tuple(str(item) for item in listed)
    violations.append(Violation(path, "must be a text or a list of texts."))
    return ()


def _whole(value: t.Any, what: str) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError(f"{what} must be a whole number")


def _factor(value: t.Any, default: float, what: str) -> float:
    try:
        factor = default if value is None else float(value)
    except (TypeError, ValueError):
        factor = 0.0
    if not 0 < factor < 1000:
        raise ValueError(f"{what} must be a number above 0")
    return factor


def _flag(value: t.Any) -> bool:
    """Surveys make texts of flags."""
    return value.strip().lower() in ("true", "yes", "on", "1") if isinstance(value, str) else bool(value)
