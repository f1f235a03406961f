# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold between the values of processors, memory, boot and console."""

from __future__ import annotations

import typing as t

from .broken import Broken, unique
from .units import format_size

if t.TYPE_CHECKING:
    from .config import Memory, MemoryZone, VmConfig


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
        yield from unique("memory.zones", "id", [zone.id for zone in memory.zones])


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


def _console(config: VmConfig) -> t.Iterator[Broken]:
    console = config.console
    if console.path is not None and not console.enabled:
        yield Broken("console.path", "is given for a console that is not enabled. Leave it out, or set console.enabled: true.", ("console.enabled",))
    elif console.path is not None and console.output not in ("file", "socket"):
        yield Broken(
            "console.path", f"goes with output file or socket, not with {console.output}. Leave it out, or change console.output.", ("console.output",)
        )


MACHINE_RULES: tuple[t.Callable[[VmConfig], t.Iterator[Broken]], ...] = (_cpu, _memory, _boot, _console)
