# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How values must fit together on one backend: what features and limits alone cannot say. Each is named by a backend's C(features.py)."""

from __future__ import annotations

import re
import typing as t

from ..model.cloud_init import datasource_of
from ..model.units import MIB, format_size
from .matrix import Finding
from .subject import Subject

if t.TYPE_CHECKING:
    from ..model.config import VmConfig

Found = t.Iterator[Finding]


# --- Firecracker ---------------------------------------------------------------------------------------------
FIRECRACKER_SLOT = 128 * MIB
FIRECRACKER_TEMPLATES = ("C3", "T2", "T2S", "T2CL", "T2A", "V1N1", "None")
# Bytes that Firecracker puts behind the user's arguments: pci=off, root=… ro|rw; one virtio_mmio.device=4K@0xc0001000:5 per device; a NUL.
_ARGS_ADDED = len(" pci=off root=/dev/vda rw") + 1
_ARGS_PER_DEVICE = len(" virtio_mmio.device=4K@0xc0001000:55")
FIRECRACKER_ARGS_MAX = 2048


def kernel_is_needed(subject: Subject) -> Found:
    boot = subject.config.boot
    if boot.kernel_path is None and boot.firmware_path is None and boot.igvm_path is None and not subject.kernel_from_host:
        yield Finding(
            "config.boot.kernel_path",
            "is required by Firecracker, which boots nothing but a kernel, and the host has no default kernel for it. Give the path of an uncompressed "
            "vmlinux, or let the role unkey.vmcp.vmcp_host set a default.",
        )


def smt_takes_even_counts(subject: Subject) -> Found:
    cpu = subject.config.cpu
    if cpu.topology and cpu.topology.threads_per_core == 2 and cpu.vcpu_count > 1 and cpu.vcpu_count % 2:
        yield Finding("config.cpu.vcpu_count", f"is {cpu.vcpu_count}; with two threads per core Firecracker takes 1 or an even number. Change one of them.")


def template_is_known(subject: Subject) -> Found:
    template = subject.config.cpu.template
    if isinstance(template, str) and template not in FIRECRACKER_TEMPLATES:
        yield Finding(
            "config.cpu.template",
            f"'{template}' is no template of Firecracker: it has {', '.join(FIRECRACKER_TEMPLATES)}. QEMU takes names of CPU models here.",
        )


def memory_is_whole_mib(subject: Subject) -> Found:
    memory = subject.config.memory
    unit = 2 * MIB if memory.hugepages else MIB
    if memory.size_bytes % unit:
        yield Finding(
            "config.memory.size_bytes",
            f"is {memory.size_bytes} bytes; Firecracker counts it in {format_size(unit)}. The next is {_up(memory.size_bytes, unit)}.",
        )
    if memory.hugepages and memory.hugepage_size_bytes not in (None, 2 * MIB):
        yield Finding("config.memory.hugepage_size_bytes", "is not 2MiB, the only size that Firecracker takes. Cloud Hypervisor and QEMU can.")
    if memory.balloon and memory.balloon.size_bytes % MIB:
        yield Finding("config.memory.balloon.size_bytes", f"is {memory.balloon.size_bytes} bytes; Firecracker counts it in MiB.")


def growth_is_whole_slots(subject: Subject) -> Found:
    memory = subject.config.memory
    room = (memory.max_size_bytes or memory.size_bytes) - memory.size_bytes
    if room % FIRECRACKER_SLOT:
        fitting = memory.size_bytes + _up(room, FIRECRACKER_SLOT)
        yield Finding(
            "config.memory.max_size_bytes", f"leaves {format_size(room)} for growth; Firecracker takes multiples of 128MiB. The next is {format_size(fitting)}."
        )


def arguments_fit(subject: Subject) -> Found:
    config = subject.config
    if config.boot.kernel_args is None:
        return
    room = firecracker_room(config)
    size = len(config.boot.kernel_args.encode())
    if size > room:
        yield Finding("config.boot.kernel_args", f"has {size} bytes; with {_devices(config)} devices Firecracker has room for {room}. Shorten it.")


def firecracker_room(config: VmConfig) -> int:
    """How many bytes the kernel command line may have, without what Firecracker adds to it."""
    return FIRECRACKER_ARGS_MAX - _ARGS_ADDED - _devices(config) * _ARGS_PER_DEVICE


def _devices(config: VmConfig) -> int:
    return len(config.storage) + len(config.network) + sum(part is not None for part in (config.vsock, config.memory.balloon, config.rng))


def metadata_needs_an_interface(subject: Subject) -> Found:
    request = subject.request
    if request is None or subject.config.network:
        return
    if request.cloud_init is not None and datasource_of(request.cloud_init) == "mmds":
        yield Finding("cloud_init", "is read by the guest over a network interface with datasource mmds, and the VM has none. Add one to config.network.")
    if request.metadata is not None:
        yield Finding("metadata", "is read by the guest over a network interface, and the VM has none. Add one to config.network.")


def reboot_looks_like_poweroff(subject: Subject) -> Found:
    if subject.request is not None and subject.request.settings.get("restart_policy", {}).get("on_reboot") == "restart":
        yield Finding("restart_policy.on_reboot", "applies to a power-off too: from outside a Firecracker guest's reboot and its power-off look the same.")


# --- Cloud Hypervisor ----------------------------------------------------------------------------------------
def bursts_need_one_limit(subject: Subject) -> Found:
    for index, nic in enumerate(subject.config.network):
        if nic.rate_limit_rx == nic.rate_limit_tx:
            continue
        for name, limit in (("rate_limit_rx", nic.rate_limit_rx), ("rate_limit_tx", nic.rate_limit_tx)):
            for bucket_name in ("bandwidth", "ops"):
                bucket = getattr(limit, bucket_name, None)
                if bucket is not None and bucket.burst:
                    yield Finding(
                        f"config.network[{index}].{name}.{bucket_name}.burst",
                        "is left out: limits that differ by direction are kept by the host's tc and nftables, which have no extra tokens at start.",
                    )


def zones_do_not_grow(subject: Subject) -> Found:
    memory = subject.config.memory
    if memory.zones and (memory.max_size_bytes or 0) > memory.size_bytes:
        yield Finding("config.memory.max_size_bytes", "cannot be combined with memory zones on Cloud Hypervisor. Leave one of them out.")


def one_pci_segment(subject: Subject) -> Found:
    config = subject.config
    devices = len(config.storage) + len(config.network) + sum(part is not None for part in (config.vsock, config.memory.balloon)) + bool(config.watchdog)
    # The entropy device and the virtio console are always there.
    if devices > 31 - 2 and "platform" not in config.backend_options.cloudhypervisor:
        yield Finding(
            "config", f"has {devices} devices; one PCI segment of Cloud Hypervisor has room for 29. Take some out, or give more segments in backend_options."
        )


# --- QEMU ----------------------------------------------------------------------------------------------------
def aio_needs_direct_io(subject: Subject) -> Found:
    for index, disk in enumerate(subject.config.storage):
        if disk.io_engine == "aio" and not disk.direct_io:
            yield Finding(f"config.storage[{index}].io_engine", "'aio' needs direct_io: true on QEMU. Set it, or take io_uring or sync.")


def receive_queue_has_its_range(subject: Subject) -> Found:
    for index, nic in enumerate(subject.config.network):
        if nic.queue_size is not None and not 256 <= nic.queue_size <= 1024:
            yield Finding(f"config.network[{index}].queue_size", f"is {nic.queue_size}; QEMU's network cards take 256 to 1024.")


def disk_queue_has_its_range(subject: Subject) -> Found:
    for index, disk in enumerate(subject.config.storage):
        if disk.queue_size is not None and disk.queue_size > 1024:
            yield Finding(f"config.storage[{index}].queue_size", f"is {disk.queue_size}; QEMU's disks take at most 1024.")


def template_is_a_model(subject: Subject) -> Found:
    template = subject.config.cpu.template
    if isinstance(template, str) and re.fullmatch(r"T2[A-Z]{0,2}|C3|V1N1|None", template):
        yield Finding("config.cpu.template", f"'{template}' is a template of Firecracker; QEMU takes names of CPU models, such as Skylake-Server or EPYC.")


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
