# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold between the values of a configuration, whatever the backend.

A rule is a generator of C(Broken): where, what is wrong with the remedy, and which fields it looked at. One that looked at a field that is
wrong in itself is not reported: the user has been told the cause.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ..errors import Violation
from .units import format_size
from .words import FILESYSTEM_LEAST_BYTES

if t.TYPE_CHECKING:
    from .config import Memory, MemoryZone, Network, Storage, VmConfig

ROOT = "config"


@dataclasses.dataclass(frozen=True)
class Broken:
    """Paths are relative to the tree: C(cpu.max_vcpu_count). C(reads): other fields (or lists) that the rule looked at."""

    field: str
    message: str
    reads: tuple[str, ...] = ()


def broken_rules(config: VmConfig, bad: frozenset[str], path: str = ROOT, *, known: t.Optional[t.Mapping[str, t.Any]] = None) -> list[Violation]:
    """All broken rules. C(bad): fields that are wrong in themselves, as C(config.storage[0].path). C(known): the part of the tree that may be relied on,
    when the rest of C(config) is only assumed; None for all of it."""
    found = []
    for rule in RULES:
        for broken in rule(config):
            looked_at = [f"{ROOT}.{field}" for field in (broken.field, *broken.reads)]
            if known is not None and not all(_is_known(known, field) for field in (broken.field, *broken.reads)):
                continue
            if not any(overlap(field, wrong) for field in looked_at for wrong in bad):
                found.append(Violation(f"{path}.{broken.field}" if path else broken.field, broken.message))
    return found


def _is_known(known: t.Any, field: str) -> bool:
    for step in re.findall(r"[^.\[\]]+", field):
        if isinstance(known, dict) and step in known:
            known = known[step]
        elif isinstance(known, list) and step.isdigit() and int(step) < len(known):
            known = known[int(step)]
        else:
            return False
    return True


def overlap(field: str, wrong: str) -> bool:
    """Whether one is the other or lies within it."""
    return any(a == b or a.startswith((f"{b}.", f"{b}[")) for a, b in ((field, wrong), (wrong, field)))


def _cpu(config: VmConfig) -> t.Iterator[Broken]:
    cpu = config.cpu
    most, most_field = (cpu.max_vcpu_count, "cpu.max_vcpu_count") if cpu.max_vcpu_count else (cpu.vcpu_count, "cpu.vcpu_count")
    if most < cpu.vcpu_count:
        yield Broken("cpu.max_vcpu_count", f"is {most}, less than cpu.vcpu_count, which is {cpu.vcpu_count}. Raise it, or leave it out.", ("cpu.vcpu_count",))
    if cpu.topology:
        shape = cpu.topology
        product = shape.threads_per_core * shape.cores_per_die * shape.dies_per_package * shape.packages
        if product != most:
            yield Broken(
                "cpu.topology",
                f"gives {product} CPUs ({shape.threads_per_core} threads x {shape.cores_per_die} cores x {shape.dies_per_package} dies x "
                f"{shape.packages} packages), but "
                f"{most_field} is {most}. Make the product equal to it.",
                ("cpu.vcpu_count", "cpu.max_vcpu_count"),
            )
    seen: set[int] = set()
    for index, pin in enumerate(cpu.affinity):
        field = f"cpu.affinity[{index}].vcpu"
        if pin.vcpu >= most:
            yield Broken(field, f"is {pin.vcpu}, but virtual CPUs are numbered from 0 to {most - 1}.", ("cpu.vcpu_count", "cpu.max_vcpu_count"))
        if pin.vcpu in seen:
            yield Broken(field, f"names virtual CPU {pin.vcpu} a second time. Give all its host_cpus in one entry.")
        seen.add(pin.vcpu)
        if len(set(pin.host_cpus)) < len(pin.host_cpus):
            yield Broken(f"cpu.affinity[{index}].host_cpus", "names a host CPU twice.")


def _memory(config: VmConfig) -> t.Iterator[Broken]:
    memory = config.memory
    if memory.max_size_bytes is not None and memory.max_size_bytes < memory.size_bytes:
        yield Broken(
            "memory.max_size_bytes",
            f"is {format_size(memory.max_size_bytes)}, less than memory.size_bytes, which is {format_size(memory.size_bytes)}. Raise it, or leave it out.",
            ("memory.size_bytes",),
        )
    if memory.balloon and memory.balloon.size_bytes >= memory.size_bytes:
        yield Broken(
            "memory.balloon.size_bytes",
            f"takes {format_size(memory.balloon.size_bytes)} from a guest of {format_size(memory.size_bytes)}. It must be less than memory.size_bytes.",
            ("memory.size_bytes",),
        )
    yield from _pages(memory, "memory")
    for index, zone in enumerate(memory.zones):
        yield from _pages(zone, f"memory.zones[{index}]")
    if memory.zones:
        total = sum(zone.size_bytes for zone in memory.zones)
        if total != memory.size_bytes:
            yield Broken(
                "memory.zones",
                f"add up to {format_size(total)}, but memory.size_bytes is {format_size(memory.size_bytes)}. Make them equal.",
                ("memory.size_bytes",),
            )
        yield from _unique("memory.zones", "id", [zone.id for zone in memory.zones])


def _pages(memory: t.Union[Memory, MemoryZone], field: str) -> t.Iterator[Broken]:
    page = memory.hugepage_size_bytes
    if memory.size_bytes % 4096:
        yield Broken(f"{field}.size_bytes", f"is {memory.size_bytes} bytes, which is no multiple of a page (4 KiB).")
    if page is not None:
        if not memory.hugepages:
            yield Broken(f"{field}.hugepage_size_bytes", f"needs {field}.hugepages: true.", (f"{field}.hugepages",))
        if page < 4096 or page & (page - 1):
            yield Broken(f"{field}.hugepage_size_bytes", f"is {page} bytes; sizes of huge pages are powers of two: 2M, 1G.")
        elif memory.hugepages and memory.size_bytes % page:
            yield Broken(
                f"{field}.size_bytes",
                f"is {format_size(memory.size_bytes)}, no multiple of its huge pages of {format_size(page)}.",
                (f"{field}.hugepage_size_bytes",),
            )
    if memory.shared and memory.mergeable:
        yield Broken(
            f"{field}.mergeable", f"cannot be combined with {field}.shared: the host merges private pages only. Switch one of them off.", (f"{field}.shared",)
        )


def _boot(config: VmConfig) -> t.Iterator[Broken]:
    boot = config.boot
    given = [name for name in ("kernel_path", "firmware_path", "igvm_path") if getattr(boot, name) is not None]
    for name in given[1:]:
        yield Broken(f"boot.{name}", f"cannot be combined with boot.{given[0]}: a VM boots one of kernel, firmware and IGVM file.", (f"boot.{given[0]}",))
    # With no payload at all the host's default kernel may be meant: initrd and arguments are then welcome.
    if given and given[0] != "kernel_path":
        if boot.initrd_path is not None:
            yield Broken(
                "boot.initrd_path",
                f"goes with a kernel, and the VM boots from boot.{given[0]}. Leave it out, or give boot.kernel_path.",
                (f"boot.{given[0]}", "boot.kernel_path"),
            )
        if boot.kernel_args is not None:
            yield Broken(
                "boot.kernel_args",
                f"goes with a kernel, and the VM boots from boot.{given[0]}. Leave it out, or give boot.kernel_path.",
                (f"boot.{given[0]}", "boot.kernel_path"),
            )


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
    yield from _unique("storage", "id", [disk.id for disk in disks])


_KINDS_OF_DISK = ("path", "image", "disk", "vhost_user_socket")


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
    yield from _unique("network", "id", [nic.id for nic in config.network])
    yield from _unique("network", "mac_address", [nic.mac_address for nic in config.network])


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


def _console(config: VmConfig) -> t.Iterator[Broken]:
    console = config.console
    if console.path is not None and not console.enabled:
        yield Broken("console.path", "is given for a console that is not enabled. Leave it out, or set console.enabled: true.", ("console.enabled",))
    elif console.path is not None and console.output not in ("file", "socket"):
        yield Broken(
            "console.path", f"goes with output file or socket, not with {console.output}. Leave it out, or change console.output.", ("console.output",)
        )


def _unique(where: str, key: str, values: t.Sequence[t.Optional[str]]) -> t.Iterator[Broken]:
    seen: dict[str, int] = {}
    for index, value in enumerate(values):
        if value is None:
            continue
        first = seen.setdefault(value, index)
        if first != index:
            yield Broken(f"{where}[{index}].{key}", f"'{value}' is taken by {where}[{first}]. Give each its own.", (f"{where}[{first}].{key}",))


# Where an interface may be: one of them.
_PLACES = ("tap_device", "network", "vhost_user_socket")

RULES: tuple[t.Callable[[VmConfig], t.Iterator[Broken]], ...] = (_cpu, _memory, _boot, _storage, _network, _addresses_by_kernel, _console)
