# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The unified configuration in QEMU's words: machine, processors, memory, boot. Devices are C(devices.py)'s; the way back is C(readback.py)'s.

Pure. Each function gives command-line words. Written for QEMU 6.2 (Ubuntu 22.04) and later.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
import typing as t

from ...errors import InvalidArgument, Violation
from .. import kernel_args
from .words import document, is_key, option, properties_of, wire_id

if t.TYPE_CHECKING:
    from ...model.config import Cpu, Memory, MemoryZone, Storage, VmConfig

MICROVM = "microvm"
# Virtio-mmio slots of a microvm without a second I/O APIC, which it does not always have.
MICROVM_DEVICES_MAX = 8
MEMORY_ID = "memory"
# Hot-pluggable modules (pc-dimm) at most; every slot costs an ACPI device, whether used or not.
MEMORY_SLOTS = 16


@dataclasses.dataclass(frozen=True)
class Wiring:
    """What the translation needs beside the configuration. C(files): alias to path as QEMU sees it; C(sockets): directory of sockets as it sees it;
    C(macs), C(taps), C(descriptors) (of devices that are open): by NIC id, chosen by us; C(machine): C(microvm) or a q35 type; C(accel): C(kvm), C(tcg),
    or what the user gave."""

    machine: str
    accel: str
    files: t.Mapping[str, str]
    sockets: str
    macs: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    taps: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    descriptors: t.Mapping[str, int] = dataclasses.field(default_factory=dict)
    cid: t.Optional[int] = None

    @property
    def pci(self) -> bool:
        return self.machine != MICROVM


# --- the machine ------------------------------------------------------------------------------------------


def machine_type(workload: t.Optional[str], config: VmConfig, accel: str, pinned_q35: t.Optional[str]) -> str:
    """The type for C(-machine): the user's; C(microvm) for serverless VMs on KVM that ask for nothing which only q35 has; else q35.

    C(pinned_q35): the versioned type chosen at creation, so that a newer QEMU gives the guest the same hardware.
    Without KVM no microvm: its only clock is one against which a kernel cannot calibrate itself when the host is busy, and it hangs at boot."""
    given = _machine_options(config).get("type")
    if given is not None:
        return str(given)
    microvm = workload == "serverless" and accel == "kvm" and not _wants_q35(config)
    return MICROVM if microvm else (pinned_q35 or "q35")


def _wants_q35(config: VmConfig) -> bool:
    return (
        config.boot.kernel_path is None
        or bool(config.watchdog)
        or _grows(config.cpu.vcpu_count, config.cpu.max_vcpu_count)
        or _grows(config.memory.size_bytes, config.memory.max_size_bytes)
        or bool(config.memory.zones)
        or len(config.storage) + len(config.network) + 3 > MICROVM_DEVICES_MAX
    )


def has_power_button(config: VmConfig, pci: bool) -> bool:
    """A microvm whose user turned ACPI off has none."""
    return pci or _machine_options(config).get("acpi") not in (False, "off")


def accelerator(config: VmConfig, chosen: t.Optional[str]) -> str:
    given = _machine_options(config).get("accel")
    return str(given) if given is not None else (chosen or "kvm")


def machine(config: VmConfig, wiring: Wiring) -> list[str]:
    """The user's own properties come last and win. Raises InvalidArgument for a property name that is none."""
    given = _machine_options(config)
    wrong = [Violation(f"config.backend_options.qemu.machine.{key}", "is no name of a machine property") for key in given if not is_key(str(key))]
    if wrong:
        raise InvalidArgument.of(wrong)
    properties: dict[str, t.Any] = {"accel": wiring.accel, "mem-merge": config.memory.mergeable}
    if not config.memory.zones:
        properties["memory-backend"] = MEMORY_ID
    if wiring.pci:
        properties["vmport"] = False  # VMware's back door, which nobody asked for
        firmware = flash(config)
        if firmware is not None:
            properties |= {"pflash0": "firmware", "pflash1": "variables"}
    else:
        # Not acpi=off: without ACPI there is no power button, and kernels without CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES (Debian's) find no device.
        properties["isa-serial"] = config.console.enabled
    properties |= {key: value for key, value in given.items() if key not in ("type", "accel")}
    words = ["-machine", properties_of(wiring.machine, properties)]
    if not wiring.pci:
        words += ["-global", option("driver=virtio-mmio", property="force-legacy", value=False)]
    return words


def _machine_options(config: VmConfig) -> t.Mapping[str, t.Any]:
    qemu = config.backend_options.qemu
    return qemu.machine if qemu is not None else {}


def _grows(now: int, most: t.Optional[int]) -> bool:
    return most is not None and most > now


# --- processors -------------------------------------------------------------------------------------------


def processors(cpu: Cpu, accel: str) -> list[str]:
    topology = cpu.topology
    smp = {"cpus": cpu.vcpu_count, "maxcpus": cpu.max_vcpu_count or cpu.vcpu_count}
    if topology is not None:
        smp |= {
            "sockets": topology.packages,
            "dies": topology.dies_per_package,
            "cores": topology.cores_per_die,
            "threads": topology.threads_per_core,
        }
    return ["-cpu", properties_of(_cpu_model(cpu, accel), _cpu_features(cpu)), "-smp", properties_of(f"cpus={smp.pop('cpus')}", smp)]


def _cpu_model(cpu: Cpu, accel: str) -> str:
    if isinstance(cpu.template, str):
        return cpu.template
    # 'host' exists under KVM alone; 'max' is all that whatever accelerator it becomes can do.
    return "host" if accel == "kvm" else "max"


def _cpu_features(cpu: Cpu) -> dict[str, t.Any]:
    features: dict[str, t.Any] = {}
    if cpu.features is not None and cpu.features.amx is not None:
        features |= dict.fromkeys(("amx-tile", "amx-int8", "amx-bf16"), cpu.features.amx)
    if cpu.nested is False:
        features |= {"vmx": False, "svm": False}
    return features


# --- memory -----------------------------------------------------------------------------------------------


def memory(spec: Memory, vcpu_max: int) -> list[str]:
    """Always a backend of its own, so that sharing, merging and prefaulting are said and not inherited from the build's defaults.

    Zones become NUMA nodes of the guest, for QEMU has no other way to make memory of several parts; all CPUs are in the first."""
    size: dict[str, t.Any] = {}
    if _grows(spec.size_bytes, spec.max_size_bytes):
        size = {"slots": MEMORY_SLOTS, "maxmem": f"{spec.max_size_bytes}B"}
    words = ["-m", properties_of(f"size={spec.size_bytes}B", size)]
    if not spec.zones:
        return [*words, "-object", _memory_backend(MEMORY_ID, spec, None)]
    for node, zone in enumerate(spec.zones):
        zone_id = wire_id("zone", zone.id)
        cpus = f"0-{vcpu_max - 1}" if node == 0 else None
        words += ["-object", _memory_backend(zone_id, zone, zone.host_numa_node), "-numa", option("node", nodeid=node, cpus=cpus, memdev=zone_id)]
    return words


def _memory_backend(backend_id: str, spec: t.Union[Memory, MemoryZone], host_node: t.Optional[int]) -> str:
    anonymous = not spec.shared and not spec.hugepages
    backend: dict[str, t.Any] = {
        "qom-type": "memory-backend-ram" if anonymous else "memory-backend-memfd",
        "id": backend_id,
        "size": spec.size_bytes,
        "share": spec.shared,
        "merge": spec.mergeable,
        "prealloc": spec.prefault,
    }
    if spec.hugepages:
        backend |= {"hugetlb": True, "hugetlbsize": spec.hugepage_size_bytes}
    if host_node is not None:
        backend |= {"host-nodes": [host_node], "policy": "bind"}
    return document(backend)


# --- boot -------------------------------------------------------------------------------------------------

# Code with a variable store of its own; the names that distributions give to the pair.
_FLASH_CODE = re.compile(r"OVMF_CODE((?:_4M)?)((?:\.[a-z]+)?)\.fd")


def flash(config: VmConfig) -> t.Optional[str]:
    """Path of the template for the variable store that belongs to the firmware; None when the firmware is no such pair (or a kernel boots).

    Secure-boot code starts from the store of plain code: the keys that C(.ms) and C(.snakeoil) bring are in stores of their own names."""
    path = config.boot.firmware_path
    if path is None or config.boot.kernel_path is not None:
        return None
    match = _FLASH_CODE.fullmatch(posixpath.basename(path))
    if match is None:
        return None
    flavour = "" if match[2] == ".secboot" else match[2]
    return posixpath.join(posixpath.dirname(path), f"OVMF_VARS{match[1]}{flavour}.fd")


def root_disk(config: VmConfig) -> t.Optional[Storage]:
    return next((disk for disk in config.storage if disk.is_root_device), None)


def boot(config: VmConfig, files: t.Mapping[str, str]) -> list[str]:
    """A kernel wins over firmware: with both given, the firmware would only load the kernel."""
    if config.boot.kernel_path is not None:
        root = root_disk(config)
        words = ["-kernel", files["kernel"]]
        if config.boot.initrd_path is not None:
            words += ["-initrd", files["initrd"]]
        return [*words, "-append", kernel_args.complete(config.boot.kernel_args, None if root is None else root.read_only)]
    if config.boot.firmware_path is None:
        return []
    if flash(config) is None:
        return ["-bios", files["firmware"]]
    return [
        "-drive",
        option("if=none", id="firmware", format="raw", readonly=True, file=files["firmware"]),
        "-drive",
        option("if=none", id="variables", format="raw", file=files["efivars"]),
    ]
