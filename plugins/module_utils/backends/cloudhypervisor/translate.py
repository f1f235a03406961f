# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The unified configuration in Cloud Hypervisor's words: the document of C(vm.create). Devices are C(devices)'s. Pure, standard library only.

The way back is C(readback); both use the pairs of keys in C(words), so that a field is not written without being read.
"""

from __future__ import annotations

import typing as t

from ...errors import InvalidArgument, Violation
from .. import kernel_args
from .devices import disk_body, named_nics, nic_body, ordered_disks, serial_body, vsock_body
from .words import BALLOON, BOOT_ALIASES, CPUS, MEMORY, MEMORY_FLAGS, PAYLOAD_FILES, SINCE, ZONE, is_said, put, wire_id

if t.TYPE_CHECKING:
    from ...model.config import VmConfig
    from .wiring import Wiring

Tree = dict[str, t.Any]


def refusals(config: VmConfig, wiring: Wiring) -> list[Violation]:
    """What no version of Cloud Hypervisor can be told, each with its remedy; C(document) raises them as InvalidArgument."""
    found = []
    for at, nic in enumerate(config.network):
        if nic.rate_limit_rx != nic.rate_limit_tx and not wiring.limits_kept_by_host:
            found.append(
                Violation(
                    f"config.network[{at}].rate_limit_{'rx' if nic.rate_limit_rx else 'tx'}",
                    "Cloud Hypervisor has one limit for an interface, which holds for each direction; give rate_limit_rx and rate_limit_tx the same values.",
                )
            )
    if config.memory.zones and (config.memory.max_size_bytes or 0) > config.memory.size_bytes:
        found.append(Violation("config.memory.max_size_bytes", "Cloud Hypervisor cannot add memory to a VM with memory zones; leave out one of the two."))
    return found


def document(config: VmConfig, wiring: Wiring) -> Tree:
    """The body of C(vm.create). InvalidArgument for what it cannot hold (see C(refusals))."""
    refused = refusals(config, wiring)
    if refused:
        raise InvalidArgument.of(refused)
    ours = config.model_dump(mode="json")
    body: Tree = {
        "cpus": _cpus(ours["cpu"]),
        "memory": _memory(ours["memory"]),
        "payload": _payload(ours["boot"], [disk for _wire, disk in ordered_disks(ours["storage"])], wiring),
        "disks": [disk_body(wire, disk, wiring) for wire, disk in ordered_disks(ours["storage"])],
        "net": [nic_body(name, wire, nic, wiring) for name, wire, nic in named_nics(ours["network"]) if name not in wiring.descriptors],
        "balloon": put(ours["memory"]["balloon"], BALLOON),
        "rng": {"src": ours["rng"]["source"]} if ours["rng"] else None,
        "vsock": vsock_body(ours["vsock"], wiring),
        "watchdog": ours["watchdog"],
        "serial": serial_body(ours["console"], wiring),
    }
    if body["balloon"] is not None:
        body["balloon"].setdefault("size", 0)
    body = {key: value for key, value in body.items() if is_said(value)}
    # Their default is the terminal: a daemon must say that it has none.
    body["console"] = {"mode": "Null"}
    if wiring.landlock:
        body["landlock_enable"] = True
        rules = _landlock_rules(body, wiring.backings.values())
        if rules:
            body["landlock_rules"] = rules
    return merge(_known_to(body, wiring.version), ours["backend_options"]["cloudhypervisor"])


def merge(base: Tree, over: t.Mapping[str, t.Any]) -> Tree:
    """RFC 7396 (dictionaries merge, null removes, all else replaces), but for lists of entries with an C(id): those merge entry by entry of the same id."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, t.Mapping):
            merged[key] = merge(below if isinstance(below, dict) else {}, value)
        elif isinstance(value, list) and isinstance(below, list) and all(isinstance(entry, dict) and "id" in entry for entry in (*below, *value)):
            by_id = {entry["id"]: entry for entry in below}
            by_id.update({entry["id"]: merge(by_id.get(entry["id"], {}), entry) for entry in value})
            merged[key] = list(by_id.values())
        else:
            merged[key] = value
    return merged


def _cpus(cpu: Tree) -> Tree:
    body = put(cpu, CPUS)
    body.setdefault("max_vcpus", cpu["vcpu_count"])
    if cpu["nested"] is not None:
        body["nested"] = cpu["nested"]
    if cpu["features"] and cpu["features"]["amx"] is not None:
        body["features"] = {"amx": cpu["features"]["amx"]}
    return body


def _memory(memory: Tree) -> Tree:
    body = {"size": memory["size_bytes"], **put(memory, MEMORY)}
    if memory["max_size_bytes"] and memory["max_size_bytes"] > memory["size_bytes"]:
        body["hotplug_size"] = memory["max_size_bytes"] - memory["size_bytes"]
    if memory["zones"]:
        body["size"] = 0  # with zones they want it so, and add them up
        body["zones"] = [_zone(zone, memory) for zone in memory["zones"]]
    return body


def _zone(zone: Tree, memory: Tree) -> Tree:
    # With zones, theirs ignores the flags of the memory as a whole: they are meant for each zone.
    inherited = {flag: zone[flag] or memory[flag] for flag in MEMORY_FLAGS}
    inherited["hugepage_size_bytes"] = zone["hugepage_size_bytes"] or memory["hugepage_size_bytes"]
    return {"id": wire_id("mem", zone["id"]), **put({**zone, **inherited}, ZONE)}


def _payload(boot: Tree, disks: t.Sequence[Tree], wiring: Wiring) -> Tree:
    body: Tree = {theirs: wiring.file(BOOT_ALIASES[mine], boot[mine]) for mine, theirs in PAYLOAD_FILES if boot[mine] is not None}
    if boot["kernel_path"] is not None:
        root_read_only = disks[0]["read_only"] if disks and disks[0]["is_root_device"] else None
        body["cmdline"] = kernel_args.complete(boot["kernel_args"], root_read_only)
    elif boot["kernel_args"] is not None:
        body["cmdline"] = boot["kernel_args"]
    return body


def _landlock_rules(body: Tree, backings: t.Iterable[str]) -> list[Tree]:
    """What the VMM opens after it has locked itself in, and does not think of itself."""
    rules = [{"path": path, "access": "r"} for path in backings]
    for nic in body.get("net", ()):
        if "tap" in nic:
            # Read to learn whether the tap has several queues.
            rules.append({"path": f"/sys/class/net/{nic['tap']}/tun_flags", "access": "r"})
    if body["serial"]["mode"] == "Socket":
        rules.append({"path": body["serial"]["socket"].rpartition("/")[0] or "/", "access": "rw"})
    return rules


def _known_to(body: Tree, version: tuple[int, ...], prefix: str = "") -> Tree:
    """The document without the keys that came after C(version)."""
    known: Tree = {}
    for key, value in body.items():
        where = f"{prefix}{key}"
        if version < SINCE.get(where, ()):
            continue
        if isinstance(value, dict):
            known[key] = _known_to(value, version, f"{where}.")
        elif isinstance(value, list):
            known[key] = [_known_to(item, version, f"{where}[].") if isinstance(item, dict) else item for item in value]
        else:
            known[key] = value
    return known
