# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The unified configuration in Cloud Hypervisor's words: the document of C(vm.create). Pure, standard library only.

The way back is C(readback); both use the pairs of keys in C(words), so that a field is not written without being read.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ...errors import InvalidArgument, Violation
from .. import kernel_args
from ..port import Paths
from .words import (
    BALLOON,
    BOOT_ALIASES,
    CPUS,
    DISK,
    IMAGE_TYPES,
    IO_ENGINES,
    MEMORY,
    MEMORY_FLAGS,
    NET,
    PAYLOAD_FILES,
    SINCE,
    ZONE,
    is_said,
    wire_id,
)

if t.TYPE_CHECKING:
    from ...model.config import VmConfig

Tree = dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Wiring:
    """What a document needs beside the configuration. The default is a VMM that somebody else runs: nothing of it is ours, paths are the host's.

    C(backings): by disk id, the one file that a qcow2 file of ours stands on.
    C(version): of the binary, C((53, 0)). C(macs), C(taps): by NIC id, what was chosen for those that name none, or a bridge. C(descriptors): of
    interfaces that are handed over open, which no document can (C(opened_nics)).
    C(limits_kept_by_host): limits of an interface that differ by direction are kept by its tap, and not told the VMM.
    C(sets_tap_mtu): whether the VMM may change a tap; with a uid of its own it may not, and takes the MTU from the tap, which the launch file prepares."""

    version: tuple[int, ...] = (53, 0)
    paths: Paths = dataclasses.field(default_factory=lambda: Paths(files={}, sockets=""))
    macs: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    taps: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    descriptors: t.Mapping[str, int] = dataclasses.field(default_factory=dict)
    backings: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    cid: t.Optional[int] = None
    landlock: bool = False
    sets_tap_mtu: bool = True
    limits_kept_by_host: bool = False
    serial_is_stdout: bool = False

    def file(self, alias: str, path: str) -> str:
        return self.paths.files.get(alias, path)

    def socket(self, name: str) -> t.Optional[str]:
        return f"{self.paths.sockets}/{name}" if self.paths.sockets else None


def ordered_disks(storage: t.Sequence[Tree]) -> list[tuple[str, Tree]]:
    """Wire id and disk, in the order in which the guest gets them: the root disk first."""
    named = [(wire_id("root" if disk["is_root_device"] else "disk", disk["id"] or str(at)), disk) for at, disk in enumerate(storage)]
    return sorted(named, key=lambda pair: not pair[1]["is_root_device"])


def named_nics(network: t.Sequence[Tree]) -> list[tuple[str, str, Tree]]:
    """Our id, wire id and interface."""
    return [(nic["id"] or str(at), wire_id("net", nic["id"] or str(at)), nic) for at, nic in enumerate(network)]


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
        "disks": [_disk(wire, disk, wiring) for wire, disk in ordered_disks(ours["storage"])],
        "net": [_nic(name, wire, nic, wiring) for name, wire, nic in named_nics(ours["network"]) if name not in wiring.descriptors],
        "balloon": _put(ours["memory"]["balloon"], BALLOON),
        "rng": {"src": ours["rng"]["source"]} if ours["rng"] else None,
        "vsock": _vsock(ours["vsock"], wiring),
        "watchdog": ours["watchdog"],
        "serial": _serial(ours["console"], wiring),
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


def _put(source: t.Optional[Tree], pairs: t.Iterable[tuple[str, str]]) -> t.Any:
    """The keys of theirs, without those that nobody set."""
    if source is None:
        return None
    return {theirs: source[mine] for mine, theirs in pairs if is_said(source[mine])}


def _cpus(cpu: Tree) -> Tree:
    body = _put(cpu, CPUS)
    body.setdefault("max_vcpus", cpu["vcpu_count"])
    if cpu["nested"] is not None:
        body["nested"] = cpu["nested"]
    if cpu["features"] and cpu["features"]["amx"] is not None:
        body["features"] = {"amx": cpu["features"]["amx"]}
    return body


def _memory(memory: Tree) -> Tree:
    body = {"size": memory["size_bytes"], **_put(memory, MEMORY)}
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
    return {"id": wire_id("mem", zone["id"]), **_put({**zone, **inherited}, ZONE)}


def _payload(boot: Tree, disks: t.Sequence[Tree], wiring: Wiring) -> Tree:
    body: Tree = {theirs: wiring.file(BOOT_ALIASES[mine], boot[mine]) for mine, theirs in PAYLOAD_FILES if boot[mine] is not None}
    if boot["kernel_path"] is not None:
        root_read_only = disks[0]["read_only"] if disks and disks[0]["is_root_device"] else None
        body["cmdline"] = kernel_args.complete(boot["kernel_args"], root_read_only)
    elif boot["kernel_args"] is not None:
        body["cmdline"] = boot["kernel_args"]
    return body


def _disk(wire: str, disk: Tree, wiring: Wiring) -> Tree:
    body: Tree = {"id": wire, **_put(disk, DISK)}
    if disk["vhost_user_socket"] is not None:
        body.update(vhost_user=True, vhost_socket=wiring.file(wire, disk["vhost_user_socket"]))
    else:
        # Always said: what a guest wrote to its disk must not decide how the disk is read.
        body.update(path=wiring.file(wire, disk["path"]), image_type=IMAGE_TYPES[disk["format"] or "raw"])
        if disk["id"] in wiring.backings:
            # Only for those that we have laid over an image: a qcow2 file of somebody else's must not lead to other files.
            body["backing_files"] = True
    if disk["io_engine"] is not None:
        body["disable_io_uring"], body["disable_aio"] = IO_ENGINES[disk["io_engine"]]
    limiter = _limiter(disk["rate_limit"])
    if limiter:
        body["rate_limiter_config"] = limiter
    return body


def opened_nics(config: VmConfig, wiring: Wiring) -> list[str]:
    """Interfaces that are handed over open, in the words of C(ch-remote add-net). A VM that is created and not booted boots with them."""
    found = []
    for name, wire, nic in named_nics(config.model_dump(mode="json")["network"]):
        if name in wiring.descriptors:
            body = _nic(name, wire, nic, wiring)
            limiter = body.get("rate_limiter_config", {})
            words = {key: body[key] for key in ("id", "mac", "queue_size") if body.get(key) is not None}
            for kind, prefix in (("bandwidth", "bw"), ("ops", "ops")):
                words.update({f"{prefix}_{word}": value for word, value in limiter.get(kind, {}).items()})
            found.append(",".join([f"fd=[{wiring.descriptors[name]}]", *(f"{key}={value}" for key, value in words.items())]))
    return found


def _nic(name: str, wire: str, nic: Tree, wiring: Wiring) -> Tree:
    body: Tree = {"id": wire, **_put({**nic, "mac_address": nic["mac_address"] or wiring.macs.get(name)}, NET)}
    if nic["vhost_user_socket"] is not None:
        body.update(vhost_user=True, vhost_socket=wiring.file(wire, nic["vhost_user_socket"]))
    else:
        body["tap"] = wiring.taps.get(name, nic["tap_device"])
        if not wiring.sets_tap_mtu:
            body.pop("mtu", None)
    if nic["num_queues"] is not None:
        body["num_queues"] = 2 * nic["num_queues"]
    limiter = _limiter(nic["rate_limit_rx"] if nic["rate_limit_rx"] == nic["rate_limit_tx"] else None, queues=nic["num_queues"] or 1)
    if limiter:
        body["rate_limiter_config"] = limiter
    return body


def _limiter(limit: t.Optional[Tree], queues: int = 1) -> t.Optional[Tree]:
    """Disks share one limiter among their queues; of a NIC each queue pair has its own, so each refills in proportion slower."""
    if limit is None:
        return None
    body = {}
    for name in ("bandwidth", "ops"):
        if limit[name] is not None:
            body[name] = {"size": limit[name]["size"], "refill_time": limit[name]["refill_ms"] * queues}
            if limit[name]["burst"]:
                body[name]["one_time_burst"] = limit[name]["burst"]
    return body or None


def _vsock(vsock: t.Optional[Tree], wiring: Wiring) -> t.Optional[Tree]:
    if vsock is None:
        return None
    cid, socket = vsock["cid"] or wiring.cid, vsock["path"] or wiring.socket("vsock.sock")
    if cid is None or socket is None:
        lack = "cid" if cid is None else "path"
        raise InvalidArgument.of([Violation(f"config.vsock.{lack}", "is needed for a VMM that somebody else runs: nothing of it is ours to choose.")])
    return {"cid": cid, "socket": socket, "id": "vsock_0"}


def _serial(console: Tree, wiring: Wiring) -> Tree:
    """C(Tty) is the VMM's stdout: a file that root opened and the VM's uid can neither name nor truncate (mode C(File) truncates at every reboot)."""
    output, path = console["output"], console["path"]
    if not console["enabled"]:
        return {"mode": "Off"}
    if output == "null":
        return {"mode": "Null"}
    if output == "tty":
        return {"mode": "Pty"}
    if output == "socket":
        path = path or wiring.socket("console.sock")
        if path is None:
            raise InvalidArgument.of([Violation("config.console.path", "is needed for a VMM that somebody else runs: nothing of it is ours to choose.")])
        return {"mode": "Socket", "socket": path}
    if path is not None and not wiring.serial_is_stdout:
        return {"mode": "File", "file": path}
    return {"mode": "Tty"}


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
