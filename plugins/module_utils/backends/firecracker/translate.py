# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The unified configuration in Firecracker's words and back. Pure, standard library only.

Firecracker's words are the document of C(--config-file); the parts of it are the bodies of the API's PUT requests, so an endpoint gets the same.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ...errors import Internal, InvalidArgument, Violation
from ..port import FileUse, Paths, TapUse
from ..taps import tap_use

if t.TYPE_CHECKING:
    from ...model.config import Balloon, Network, RateLimit, Storage, TokenBucket, VmConfig

Tree = dict[str, t.Any]

MIB = 1 << 20
# Memory for growth is handed to the guest in slots of this size, the smallest that Firecracker takes.
SLOT_MIB = 128
VSOCK_SOCKET = "vsock.sock"
# Firecracker's own default switches the serial port off. Modules stay allowed: distributions' kernels need them for their root file system.
DEFAULT_KERNEL_ARGS = "console=ttyS0 reboot=k panic=1 i8042.noaux i8042.nomux i8042.dumbkbd swiotlb=noforce"
# The same for a guest whose serial port nobody reads.
QUIET_KERNEL_ARGS = DEFAULT_KERNEL_ARGS.replace("console=ttyS0", "8250.nr_uarts=0")
IO_ENGINES = {"sync": "Sync", "io_uring": "Async"}
# What identifies an entry of the document's lists.
LIST_KEYS = {"drives": "drive_id", "network-interfaces": "iface_id", "pmem": "id"}
# In the order in which an empty VMM takes them: the balloon is checked against the memory, MMDS against the interfaces. The kernel is last: a VMM
# that has one has the whole VM, so that a definition that broke off is not taken for one.
PARTS = (
    "logger",
    "metrics",
    "machine-config",
    "cpu-config",
    "drives",
    "network-interfaces",
    "vsock",
    "balloon",
    "mmds-config",
    "entropy",
    "pmem",
    "memory-hotplug",
    "boot-source",
)


@dataclasses.dataclass(frozen=True)
class Wiring:
    """What a document needs beside the configuration. The default is a VMM that somebody else runs: paths are the host's, nothing was chosen by us.

    C(macs), C(taps): by id of the interface, what was chosen for one that names no MAC address, and the tap of ours on the bridge it names.
    C(metadata): whether a metadata document is given to the VMM."""

    paths: Paths = dataclasses.field(default_factory=lambda: Paths(files={}, sockets=""))
    macs: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    taps: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    cid: t.Optional[int] = None
    metadata: bool = False

    def file(self, alias: str, path: t.Optional[str]) -> t.Optional[str]:
        return self.paths.files.get(alias, path)


# --- ids ---------------------------------------------------------------------------------------------------
def wire_id(kind: str, our_id: str) -> str:
    """C(disk_data_2d1) of C(disk) and C(data-1): lower-case letters and digits stay, all else is C(_) and two hexadecimal digits.

    Firecracker takes letters, digits and C(_) alone. C(kind): C(root) (the root disk, which could not be told from the others when it is not passed
    as one), C(disk), C(net). The same text is the file's alias."""
    return f"{kind}_" + "".join(c if c.isascii() and (c.islower() or c.isdigit()) else f"_{ord(c):02x}" for c in our_id)


def our_id(wire: str) -> tuple[str, str]:
    """Kind and id. An id that is not of our making has the kind C("") and is returned as it is."""
    match = re.fullmatch(r"(root|disk|net)_((?:[a-z0-9]|_[0-9a-f]{2})+)", wire)
    if not match:
        return "", wire
    return match[1], re.sub(r"_([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), match[2])


def disk_wire_id(position: int, disk: Storage) -> str:
    return wire_id("root" if disk.is_root_device else "disk", disk.id or str(position))


def net_wire_id(position: int, nic: Network) -> str:
    return wire_id("net", _net_id(position, nic))


def _net_id(position: int, nic: Network) -> str:
    return nic.id or str(position)


# --- what the VM needs of the host -----------------------------------------------------------------------
def file_uses(config: VmConfig) -> tuple[FileUse, ...]:
    uses = [FileUse(path=path, alias=alias) for alias, path in (("kernel", config.boot.kernel_path), ("initrd", config.boot.initrd_path)) if path]
    for position, disk in enumerate(config.storage):
        alias = disk_wire_id(position, disk)
        if disk.vhost_user_socket:
            uses.append(FileUse(path=disk.vhost_user_socket, alias=alias, writable=True))
        elif disk.path:
            uses.append(FileUse(path=disk.path, alias=alias, writable=not disk.read_only))
    return tuple(uses)


def tap_uses(config: VmConfig, generated: t.Mapping[str, t.Any]) -> tuple[TapUse, ...]:
    """Firecracker opens one queue, with virtio-net headers, and keeps the limits itself."""
    return tuple(tap_use(_net_id(position, nic), nic, generated) for position, nic in enumerate(config.network))


# --- to Firecracker ----------------------------------------------------------------------------------------
def document(config: VmConfig, wiring: Wiring) -> Tree:
    """The document of C(--config-file). C(config) has passed the capability check. InvalidArgument with all C(refusals)."""
    refused = refusals(config, wiring)
    if refused:
        raise InvalidArgument.of(refused)
    parts: Tree = {
        "boot-source": _boot_source(config, wiring),
        "drives": _drives(config, wiring),
        "machine-config": _machine_config(config),
        "network-interfaces": [_network_interface(position, nic, wiring) for position, nic in enumerate(config.network)],
    }
    if isinstance(config.cpu.template, dict):
        parts["cpu-config"] = config.cpu.template
    if config.memory.balloon is not None:
        parts["balloon"] = _balloon(config.memory.balloon)
    if config.vsock is not None:
        path = f"{wiring.paths.sockets}/{VSOCK_SOCKET}" if wiring.paths.sockets else None
        parts["vsock"] = {"guest_cid": config.vsock.cid or wiring.cid, "uds_path": config.vsock.path or path}
    if config.rng is not None:
        parts["entropy"] = {}
    room = (config.memory.max_size_bytes or 0) - config.memory.size_bytes
    if room > 0:
        parts["memory-hotplug"] = {"total_size_mib": _mib(room, "config.memory.max_size_bytes"), "slot_size_mib": SLOT_MIB}
    if wiring.metadata:
        parts["mmds-config"] = {"version": "V2", "network_interfaces": [nic["iface_id"] for nic in parts["network-interfaces"]]}
    return _merged(parts, config.backend_options.firecracker)


def refusals(config: VmConfig, wiring: Wiring) -> list[Violation]:
    """What is chosen for our own VMs and must be said for a VMM that somebody else runs. All else is the capability check's, which comes before."""
    found = []
    if config.vsock is not None and not (config.vsock.cid or wiring.cid):
        found.append(Violation("config.vsock.cid", "Give the context id of the guest, 3 or more: it is chosen only for VMs that are started here."))
    if config.vsock is not None and not (config.vsock.path or wiring.paths.sockets):
        found.append(Violation("config.vsock.path", "Give the path of the host's socket: it is chosen only for VMs that are started here."))
    return found


def _mib(size_bytes: int, field: str) -> int:
    if size_bytes % MIB:
        raise Internal(f"{field} is {size_bytes} bytes, which Firecracker cannot express in MiB; the capability check should have said so.")
    return size_bytes // MIB


def _boot_source(config: VmConfig, wiring: Wiring) -> Tree:
    boot = config.boot
    args = boot.kernel_args
    if args is None and has_console(config):
        args = DEFAULT_KERNEL_ARGS
    return _given(
        kernel_image_path=wiring.file("kernel", boot.kernel_path), initrd_path=boot.initrd_path and wiring.file("initrd", boot.initrd_path), boot_args=args
    )


def has_console(config: VmConfig) -> bool:
    """Whether anybody is to read the guest's serial port."""
    return config.console.enabled and config.console.output != "null"


def gives_root(kernel_args: t.Optional[str]) -> bool:
    """Whether the user named the root device. Firecracker appends its own C(root=), which the kernel would take instead: the last one counts."""
    words = (kernel_args or "").split()
    return any(word.startswith("root=") for word in (words[: words.index("--")] if "--" in words else words))


def _drives(config: VmConfig, wiring: Wiring) -> list[Tree]:
    named = gives_root(config.boot.kernel_args)
    drives = [_drive(position, disk, wiring, is_root=disk.is_root_device and not named) for position, disk in enumerate(config.storage)]
    # The first drive is /dev/vda, also when it is not passed as the root device.
    order = sorted(range(len(drives)), key=lambda position: not config.storage[position].is_root_device)
    return [drives[position] for position in order]


def _drive(position: int, disk: Storage, wiring: Wiring, is_root: bool) -> Tree:
    alias = disk_wire_id(position, disk)
    drive: Tree = {"drive_id": alias, "is_root_device": is_root}
    if not disk.read_only:
        # Firecracker's default ignores the guest's flushes: data that a database believes to be on disk would be lost with the host's power.
        drive["cache_type"] = "Writeback"
    if disk.vhost_user_socket:
        return {**drive, "socket": wiring.file(alias, disk.vhost_user_socket)}
    return {
        **drive,
        **_given(
            path_on_host=wiring.file(alias, disk.path),
            is_read_only=disk.read_only,
            io_engine=IO_ENGINES[disk.io_engine] if disk.io_engine else None,
            rate_limiter=_rate_limiter(disk.rate_limit),
        ),
    }


def _network_interface(position: int, nic: Network, wiring: Wiring) -> Tree:
    our = _net_id(position, nic)
    return _given(
        iface_id=net_wire_id(position, nic),
        host_dev_name=wiring.taps.get(our) or nic.tap_device,
        guest_mac=nic.mac_address or wiring.macs.get(our),
        mtu=nic.mtu,
        rx_rate_limiter=_rate_limiter(nic.rate_limit_rx),
        tx_rate_limiter=_rate_limiter(nic.rate_limit_tx),
    )


def _machine_config(config: VmConfig) -> Tree:
    topology = config.cpu.topology
    return _given(
        vcpu_count=config.cpu.vcpu_count,
        mem_size_mib=_mib(config.memory.size_bytes, "config.memory.size_bytes"),
        smt=topology is not None and topology.threads_per_core > 1,
        cpu_template=config.cpu.template if isinstance(config.cpu.template, str) else None,
        huge_pages="2M" if config.memory.hugepages else None,
    )


def _balloon(balloon: Balloon) -> Tree:
    wire = {"amount_mib": _mib(balloon.size_bytes, "config.memory.balloon.size_bytes"), "deflate_on_oom": balloon.deflate_on_oom}
    # Only when asked for: versions before 1.14 refuse the word.
    return {**wire, "free_page_reporting": True} if balloon.free_page_reporting else wire


def _rate_limiter(limit: t.Optional[RateLimit]) -> t.Optional[Tree]:
    return None if limit is None else _given(bandwidth=_bucket(limit.bandwidth), ops=_bucket(limit.ops)) or None


def _bucket(bucket: t.Optional[TokenBucket]) -> t.Optional[Tree]:
    return None if bucket is None else _given(size=bucket.size, refill_time=bucket.refill_ms, one_time_burst=bucket.burst or None)


def _given(**values: t.Any) -> Tree:
    return {key: value for key, value in values.items() if value is not None}


def _merged(ours: t.Any, theirs: t.Any, list_key: t.Optional[str] = None) -> t.Any:
    """C(theirs) over C(ours): objects key by key; drives, interfaces and pmem entry by entry of the same id; all else is replaced."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return {**ours, **{key: _merged(ours.get(key), value, LIST_KEYS.get(key)) for key, value in theirs.items()}}
    if list_key and isinstance(ours, list) and isinstance(theirs, list) and all(isinstance(entry, dict) for entry in theirs):
        by_id = {entry[list_key]: entry for entry in ours}
        for entry in theirs:
            by_id[entry.get(list_key)] = _merged(by_id.get(entry.get(list_key)), entry)
        return list(by_id.values())
    return theirs


def holds(current: Tree, part: str, body: Tree) -> bool:
    """Whether C(current) (C(GET /vm/config)) has that part already: a vsock's socket, for one, cannot be bound a second time."""
    key = LIST_KEYS.get(part)
    entries = [entry for entry in current.get(part) or [] if entry[key] == body.get(key)] if key else [current.get(part) or {}]
    return any(all(name in entry and entry[name] == value for name, value in body.items()) for entry in entries) and body != {}


def strangers(current: Tree, wire: Tree) -> list[str]:
    """Ids of drives, interfaces and pmem devices of C(current) that are not in C(wire): the API cannot take them away again before the start."""
    return [entry[key] for part, key in LIST_KEYS.items() for entry in current.get(part) or [] if entry[key] not in {e.get(key) for e in wire.get(part) or []}]


def parts_in_order(wire: Tree) -> list[tuple[str, Tree]]:
    """The document as the bodies of PUT requests: pairs of part and body, one for each entry of a list, in the order of C(PARTS)."""
    unknown = sorted(set(wire) - set(PARTS))
    if unknown:
        raise InvalidArgument.of([Violation(f"config.backend_options.firecracker.{key}", "is no part of Firecracker's configuration.") for key in unknown])
    return [(part, body) for part in PARTS for body in (wire.get(part) if part in LIST_KEYS else [wire.get(part)]) or [] if body is not None]
