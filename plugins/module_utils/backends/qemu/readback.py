# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What QEMU says of its VM, in the words of the unified configuration. C(collect) asks, C(unified) is pure.

QEMU does not tell everything it was given (the I/O engine of a disk, memory slots of old versions): what it does not tell is left out.
Paths are as QEMU sees them. Devices without an id of our making keep the id that they have.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from . import client
from .devices import CONSOLE_ID
from .words import IMAGE_FORMATS, our_id

_DISK_TYPES = ("virtio-blk-pci", "virtio-blk-device", "vhost-user-blk-pci", "vhost-user-blk-device")
_NIC_TYPES = ("virtio-net-pci", "virtio-net-device")
_MACHINE_FIELDS = (("kernel_path", "kernel"), ("initrd_path", "initrd"), ("kernel_args", "append"), ("firmware_path", "firmware"))
_FORMATS = {theirs: ours for ours, theirs in IMAGE_FORMATS.items()}
_AUTO_QUEUES = 65535


@dataclasses.dataclass(frozen=True)
class Facts:
    """Answers as they came. C(properties): device id to what C(_PROPERTIES) asks of its type; C(sockets): device id to the path of its
    vhost-user socket."""

    smp: t.Mapping[str, t.Any]
    memory_bytes: int
    memory_size: t.Mapping[str, t.Any]
    machine: t.Mapping[str, t.Any]
    memory_backends: t.Sequence[t.Mapping[str, t.Any]]
    types: t.Mapping[str, str]
    properties: t.Mapping[str, t.Mapping[str, t.Any]]
    blocks: t.Sequence[t.Mapping[str, t.Any]]
    block_stats: t.Sequence[t.Mapping[str, t.Any]]
    network: str
    sockets: t.Mapping[str, t.Optional[str]]
    chardevs: t.Sequence[t.Mapping[str, t.Any]]
    balloon_actual: t.Optional[int]


_PROPERTIES = {
    **dict.fromkeys(_DISK_TYPES, ("serial", "num-queues", "queue-size")),
    **dict.fromkeys(_NIC_TYPES, ("mac", "host_mtu", "rx_queue_size", "mq")),
    **dict.fromkeys(("virtio-balloon-pci", "virtio-balloon-device"), ("deflate-on-oom", "free-page-reporting")),
    **dict.fromkeys(("vhost-vsock-pci", "vhost-vsock-device"), ("guest-cid",)),
}


def collect(qmp: client.Connection) -> Facts:
    types = client.peripherals(qmp)
    properties = {
        name: {wanted: client.qom_get(qmp, f"/machine/peripheral/{name}", wanted) for wanted in _PROPERTIES.get(kind, ())} for name, kind in types.items()
    }
    has_balloon = any(kind.startswith("virtio-balloon") for kind in types.values())
    return Facts(
        smp=client.qom_get(qmp, "/machine", "smp") or {"cpus": len(qmp.execute("query-cpus-fast"))},
        memory_bytes=qmp.execute("query-memory-size-summary")["base-memory"],
        memory_size=client.qom_get(qmp, "/machine", "memory") or {},
        machine={theirs: client.qom_get(qmp, "/machine", theirs) for _ours, theirs in _MACHINE_FIELDS},
        memory_backends=qmp.execute("query-memdev"),
        types=types,
        properties=properties,
        blocks=qmp.execute("query-block"),
        block_stats=qmp.execute("query-blockstats"),
        network=client.human(qmp, "info network") if any(kind in _NIC_TYPES for kind in types.values()) else "",
        sockets={name: _socket_path(qmp, name) for name, kind in types.items() if kind in (*_DISK_TYPES, *_NIC_TYPES)},
        chardevs=qmp.execute("query-chardev"),
        balloon_actual=qmp.execute("query-balloon")["actual"] if has_balloon else None,
    )


def _socket_path(qmp: client.Connection, name: str) -> t.Optional[str]:
    """Of the vhost-user device C(name); C(query-chardev) would show our end of the connection, which has no name."""
    address = client.qom_get(qmp, f"/chardevs/socket_{name}", "addr")
    return str(address["path"]) if address else None


def unified(facts: Facts) -> dict[str, t.Any]:
    """The tree under C(config), as far as QEMU tells it. Raises KeyError, TypeError or ValueError when answers make no sense."""
    tree: dict[str, t.Any] = {
        "cpu": _cpu(facts.smp),
        "memory": _memory(facts),
        "boot": {ours: facts.machine[theirs] for ours, theirs in _MACHINE_FIELDS if _was_given(theirs, facts.machine.get(theirs))},
        "storage": _storage(facts),
        "network": _network(facts),
        "console": _console(facts.chardevs),
    }
    for name, kind in facts.types.items():
        if kind.startswith("vhost-vsock"):
            tree["vsock"] = {"cid": facts.properties[name]["guest-cid"]}
        if kind == "i6300esb":
            tree["watchdog"] = True
    return tree


def counters(facts: Facts) -> dict[str, t.Any]:
    """Disks by our id: bytes and operations read and written since the VMM started."""
    disks = {}
    for entry in facts.block_stats:
        stats = entry["stats"]
        if entry.get("device"):
            disks[our_id(entry["device"])[1]] = {
                "read_bytes": stats["rd_bytes"],
                "write_bytes": stats["wr_bytes"],
                "read_ops": stats["rd_operations"],
                "write_ops": stats["wr_operations"],
            }
    result: dict[str, t.Any] = {"storage": disks}
    if facts.balloon_actual is not None:
        result["balloon"] = {"guest_bytes": facts.balloon_actual}
    return result


def console_path(facts: Facts) -> t.Optional[str]:
    """Path of the pty behind the first serial port; None when it is no pty."""
    filename = next((str(entry["filename"]) for entry in facts.chardevs if entry["label"] == CONSOLE_ID), "")
    return filename[len("pty:") :] if filename.startswith("pty:") else None


def _was_given(name: str, value: t.Any) -> bool:
    """The machine's own BIOS is a file name without a directory."""
    return bool(value) and (name != "firmware" or str(value).startswith("/"))


def _cpu(smp: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    cpu: dict[str, t.Any] = {"vcpu_count": smp["cpus"]}
    if smp.get("maxcpus", smp["cpus"]) > smp["cpus"]:
        cpu["max_vcpu_count"] = smp["maxcpus"]
    if "sockets" in smp:
        cpu["topology"] = {
            "threads_per_core": smp["threads"],
            "cores_per_die": smp["cores"],
            "dies_per_package": smp.get("dies", 1),
            "packages": smp["sockets"],
        }
    return cpu


def _memory(facts: Facts) -> dict[str, t.Any]:
    memory: dict[str, t.Any] = {"size_bytes": facts.memory_bytes}
    most = facts.memory_size.get("max-size", 0)
    if most > facts.memory_bytes:
        memory["max_size_bytes"] = most
    zones = []
    for backend in facts.memory_backends:
        flags = {"shared": backend["share"], "mergeable": backend["merge"], "prefault": backend["prealloc"]}
        kind, name = our_id(str(backend.get("id")))
        if kind == "zone":
            node = (backend.get("host-nodes") or [None])[0]
            zones.append({"id": name, "size_bytes": backend["size"], "host_numa_node": node, **flags})
        elif backend["size"] == facts.memory_bytes:
            memory |= flags
    if zones:
        memory["zones"] = sorted(zones, key=lambda zone: zone["id"])
    for name, kind in facts.types.items():
        if kind.startswith("virtio-balloon"):
            given = facts.properties[name]
            inflated = facts.memory_bytes - facts.balloon_actual if facts.balloon_actual is not None else 0
            memory["balloon"] = {"size_bytes": inflated, "deflate_on_oom": given["deflate-on-oom"], "free_page_reporting": given["free-page-reporting"]}
    return memory


def _storage(facts: Facts) -> list[dict[str, t.Any]]:
    """In the order in which the disks were given: that of C(query-block)."""
    disks = []
    for block in facts.blocks:
        name = block["device"]
        if facts.types.get(name) not in _DISK_TYPES or "inserted" not in block:
            continue
        inserted = block["inserted"]
        disk: dict[str, t.Any] = {
            "id": our_id(name)[1],
            "path": inserted["file"],
            "read_only": inserted["ro"],
            "format": _FORMATS.get(inserted["drv"]),
            "direct_io": inserted["cache"]["direct"],
            **_queues(facts.properties[name]),
        }
        limit = _rate_limit(inserted)
        if limit:
            disk["rate_limit"] = limit
        disks.append(disk)
    known = {disk["id"] for disk in disks}
    for name, kind in facts.types.items():
        if kind.startswith("vhost-user-blk") and our_id(name)[1] not in known:
            disks.append({"id": our_id(name)[1], "vhost_user_socket": facts.sockets[name], **_queues(facts.properties[name])})
    return disks


def _queues(given: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    found: dict[str, t.Any] = {}
    if given.get("serial"):
        found["serial"] = given["serial"]
    if given.get("num-queues") not in (None, _AUTO_QUEUES):
        found["num_queues"] = given["num-queues"]
    if given.get("queue-size"):
        found["queue_size"] = given["queue-size"]
    return found


def _rate_limit(inserted: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """As a bucket that fills in a second."""
    limit = {}
    for ours, theirs in (("bandwidth", "bps"), ("ops", "iops")):
        rate = inserted.get(theirs, 0)
        if rate:
            burst = max(inserted.get(f"{theirs}_max", 0) - rate, 0)
            limit[ours] = {"size": rate, "refill_ms": 1000, "burst": burst}
    return limit


def _network(facts: Facts) -> list[dict[str, t.Any]]:
    """In the order of C(info network), which is that of the command line. It has an entry for every queue pair; C(index) counts them."""
    nics: dict[str, dict[str, t.Any]] = {}
    for found in re.finditer(r"^(\S+): index=(\d+),type=nic,.*\n \\ \S+: index=\d+,type=([^,\s]+)(.*)$", facts.network, re.MULTILINE):
        name, index, backend, about = found.groups()
        if facts.types.get(name) not in _NIC_TYPES:
            continue
        if name in nics:
            nics[name]["num_queues"] = int(index) + 1
            continue
        given = facts.properties[name]
        nic: dict[str, t.Any] = {"id": our_id(name)[1], "mac_address": given["mac"], "queue_size": given["rx_queue_size"]}
        tap = re.search(r",ifname=([^,]+)", about)
        if backend == "tap" and tap:
            nic["tap_device"] = tap[1]
        elif backend == "vhost-user":
            nic["vhost_user_socket"] = facts.sockets[name]
        if given["host_mtu"]:
            nic["mtu"] = given["host_mtu"]
        nics[name] = nic
    return list(nics.values())


def _console(chardevs: t.Sequence[t.Mapping[str, t.Any]]) -> dict[str, t.Any]:
    filename = next((str(entry["filename"]) for entry in chardevs if entry["label"] == CONSOLE_ID), None)
    if filename is None:
        return {"enabled": False}
    kinds = {"pty": "tty", "null": "null", "unix": "socket", "disconnected": "socket"}
    return {"enabled": True, "output": kinds.get(filename.split(":", 1)[0], "file")}
