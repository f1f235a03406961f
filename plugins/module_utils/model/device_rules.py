# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold between the values of disks and interfaces."""

from __future__ import annotations

import re
import typing as t

from .broken import Broken, unique
from .units import format_size
from .words import FILESYSTEM_LEAST_BYTES

if t.TYPE_CHECKING:
    from .config import Memory, MemoryZone, Network, Storage, VmConfig

# What a disk, and where an interface may be: one of them.
_KINDS_OF_DISK = ("path", "image", "disk", "vhost_user_socket")
_PLACES = ("tap_device", "network", "vhost_user_socket")


def _storage(config: VmConfig) -> t.Iterator[Broken]:
    disks = config.storage
    roots = [index for index, disk in enumerate(disks) if disk.is_root_device]
    for index in roots[1:]:
        yield Broken(
            f"storage[{index}].is_root_device",
            f"is a second root device beside storage[{roots[0]}]. A VM has at most one.",
            (f"storage[{roots[0]}].is_root_device",),
        )
    writers: dict[str, int] = {}
    for index, disk in enumerate(disks):
        field = f"storage[{index}]"
        yield from _what_it_is(disk, field)
        yield from _queues(disk, field, config)
        key = "path" if disk.path is not None else "disk"
        if getattr(disk, key) is None:
            continue
        first = writers.setdefault(f"{key} {getattr(disk, key)}", index)
        if first != index and not (disk.read_only and disks[first].read_only):
            yield Broken(
                f"{field}.{key}",
                f"is the {'file' if key == 'path' else 'disk'} of storage[{first}] again, and not both are read_only: the guest would corrupt it.",
                (f"storage[{first}].{key}", f"storage[{first}].read_only", f"{field}.read_only"),
            )
    yield from unique("storage", "id", [disk.id for disk in disks])


def _what_it_is(disk: Storage, field: str) -> t.Iterator[Broken]:
    """Exactly one thing says what a disk is, and what else is said goes with it."""
    given = [key for key in _KINDS_OF_DISK if getattr(disk, key) is not None]
    every = tuple(f"{field}.{key}" for key in (*_KINDS_OF_DISK, "size"))
    if not given and disk.size is None:
        yield Broken(field, "has neither path, image, disk nor vhost_user_socket, nor a size of its own. Give one of them.", every)
    for key in given[1:]:
        why = "the process behind the socket has the data" if key == "vhost_user_socket" else "a disk is one thing"
        yield Broken(f"{field}.{key}", f"cannot be combined with {given[0]}: {why}. Leave one of them out.", (f"{field}.{given[0]}",))
    kind = given[0] if given else "size"
    if disk.size is not None and kind not in ("image", "size"):
        remedy = "Give it to unkey.vmcp.vmcp_disk" if kind == "disk" else "Leave it out"
        yield Broken(f"{field}.size", f"goes with image, or alone: what {kind} names has its own size. {remedy}.", (f"{field}.{kind}",))
    if disk.filesystem is not None and kind != "size":
        yield Broken(f"{field}.filesystem", f"goes with size alone: what {kind} names is not made anew. Leave it out.", (f"{field}.{kind}",))
    if disk.format is not None and kind in ("image", "disk", "size"):
        yield Broken(f"{field}.format", "goes with path: the format of what is made here is known. Leave it out.", every)
    if kind == "size" and disk.size is not None:
        if disk.id is None:
            yield Broken(f"{field}.id", "is needed for an empty disk, which is known by it when its size changes. Give it one.", (f"{field}.size",))
        least = FILESYSTEM_LEAST_BYTES[disk.filesystem] if disk.filesystem else 0
        if disk.size < least:
            yield Broken(f"{field}.size", f"is {format_size(disk.size)}; {disk.filesystem} takes at least {format_size(least)}.", (f"{field}.filesystem",))


def _network(config: VmConfig) -> t.Iterator[Broken]:
    for index, nic in enumerate(config.network):
        field = f"network[{index}]"
        places = [name for name in _PLACES if getattr(nic, name) is not None]
        if not places:
            yield Broken(field, "has neither tap_device, network nor vhost_user_socket. Give one of them.", tuple(f"{field}.{name}" for name in _PLACES))
        for name in places[1:]:
            yield Broken(
                f"{field}.{name}", f"cannot be combined with {places[0]}. Leave one of them out (null, where it is stored).", (f"{field}.{places[0]}",)
            )
        yield from _in_a_network(nic, field)
        yield from _queues(nic, field, config)
    yield from unique("network", "id", [nic.id for nic in config.network])
    yield from unique("network", "mac_address", [nic.mac_address for nic in config.network])


def _in_a_network(nic: Network, field: str) -> t.Iterator[Broken]:
    """What only an interface on a network of ours can have."""
    if nic.network is None:
        for name, given in (("address", nic.address is not None), ("address_method", nic.address_method not in ("auto", "none"))):
            if given:
                yield Broken(
                    f"{field}.{name}", "goes with network: nothing is known of another's addresses. Give network, or leave it out.", (f"{field}.network",)
                )
    if nic.vlan is not None and nic.vhost_user_socket is not None:
        yield Broken(f"{field}.vlan", "cannot be combined with vhost_user_socket: no bridge of this host sees its frames.", (f"{field}.vhost_user_socket",))


def _addresses_by_kernel(config: VmConfig) -> t.Iterator[Broken]:
    """The kernel takes one C(ip=), and only where one is booted directly."""
    asking = [index for index, nic in enumerate(config.network) if nic.address_method == "kernel"]
    for index in asking:
        field = f"network[{index}].address_method"
        if index != asking[0]:
            yield Broken(
                field, f"'kernel' is given for network[{asking[0]}] already, and a kernel takes one ip=. Use dhcp.", (f"network[{asking[0]}].address_method",)
            )
        if config.boot.kernel_path is None and (config.boot.firmware_path is not None or config.boot.igvm_path is not None):
            yield Broken(field, "'kernel' needs a kernel that is booted directly (boot.kernel_path). Use dhcp.", ("boot.kernel_path", "boot.firmware_path"))
        if re.search(r"(?<!\S)ip=", config.boot.kernel_args or ""):
            yield Broken(field, "'kernel' adds ip= to boot.kernel_args, which have one. Take it out there, or use address_method: none.", ("boot.kernel_args",))


def _queues(device: t.Union[Storage, Network], field: str, config: VmConfig) -> t.Iterator[Broken]:
    """What disks and interfaces have in common: queues, limits and vhost-user."""
    vcpus = config.cpu.vcpu_count
    if device.num_queues is not None and device.num_queues > vcpus:
        yield Broken(f"{field}.num_queues", f"is {device.num_queues}, more than the VM has virtual CPUs ({vcpus}).", ("cpu.vcpu_count",))
    if device.queue_size is not None and device.queue_size & (device.queue_size - 1):
        yield Broken(f"{field}.queue_size", f"is {device.queue_size}; it must be a power of two.")
    names = [name for name in ("rate_limit", "rate_limit_rx", "rate_limit_tx") if getattr(device, name, None) is not None]
    for name in names:
        limit = getattr(device, name)
        if limit.bandwidth is None and limit.ops is None:
            yield Broken(f"{field}.{name}", "limits nothing. Give bandwidth, ops or both.", (f"{field}.{name}.bandwidth", f"{field}.{name}.ops"))
        for bucket_name in ("bandwidth", "ops"):
            bucket = getattr(limit, bucket_name)
            if bucket is not None and (bucket.size == 0 or bucket.refill_ms == 0):
                empty = "size" if bucket.size == 0 else "refill_ms"
                yield Broken(f"{field}.{name}.{bucket_name}.{empty}", f"must not be 0. Leave {bucket_name} out for no limit.")
    if device.vhost_user_socket is not None:
        for name in names:
            yield Broken(
                f"{field}.{name}",
                "cannot be enforced on a vhost-user device: its data does not pass through the VMM. Limit it in the process behind the socket.",
            )
        zones = config.memory.zones
        memory: t.Sequence[t.Union[Memory, MemoryZone]] = zones or [config.memory]
        if not all(part.shared or part.hugepages for part in memory):
            yield Broken(
                f"{field}.vhost_user_socket",
                f"needs memory that the other process can map: set {'shared: true in every zone' if zones else 'memory.shared: true'}, or use huge pages.",
                ("memory.shared", "memory.hugepages", "memory.zones"),
            )


DEVICE_RULES: tuple[t.Callable[[VmConfig], t.Iterator[Broken]], ...] = (_storage, _network, _addresses_by_kernel)
