# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Cloud Hypervisor v53 reads from vm.create: names, types and defaults, as its deserializer has them.

Unlike the real one, unknown names are refused: there a typo is lost without a word, and here it must show.
"""

from __future__ import annotations

import json
import typing as t

# name* is required; :type; =default as JSON without blanks. Without a default the field stays out of replies.
_PCI = "id:str iommu:bool pci_segment:int=0 pci_device_id:int"
_LIMITED = "rate_limiter_config:RateLimiter"
_STRUCTS = {
    "VmConfig": (
        'cpus:Cpus={"boot_vcpus":1,"max_vcpus":1} memory:Memory={"size":536870912} payload:Payload rate_limit_groups:[RateLimitGroup] disks:[Disk] net:[Net] '
        'rng:Rng={"src":"/dev/urandom"} balloon:Balloon fs:[Fs] pmem:[Pmem] serial:Console={"mode":"Null"} console:VirtioConsole={"mode":"Tty"} '
        'debug_console:DebugConsole={"mode":"Off"} vsock:Vsock pvpanic:bool=false iommu:bool=false numa:[any] watchdog:bool=false rtc:any platform:any tpm:any '
        " devices:[any] user_devices:[any] vdpa:[any] generic_vhost_user:[any] pci_segments:[any] landlock_enable:bool=false landlock_rules:[LandlockRule]"
    ),
    "Cpus": (
        "boot_vcpus*:int max_vcpus*:int topology:Topology kvm_hyperv:bool=false max_phys_bits:int=46 affinity:[Affinity] "
        'features:Features={} nested:bool=true core_scheduling:Vm|Vcpu|Off="Vm" profile:str="Host"'
    ),
    "Topology": "threads_per_core*:int cores_per_die*:int dies_per_package*:int packages*:int",
    "Affinity": "vcpu*:int host_cpus*:[int]",
    "Features": "amx:bool=false",
    "Memory": (
        'size*:int mergeable:bool=false hotplug_method:Acpi|VirtioMem="Acpi" hotplug_size:int hotplugged_size:int shared:bool=false hugepages:bool=false '
        "hugepage_size:int prefault:bool=false reserve:bool=false zones:[Zone] thp:bool=true"
    ),
    "Zone": (
        "id*:str size*:int file:str shared:bool=false hugepages:bool=false hugepage_size:int host_numa_node:int hotplug_size:int hotplugged_size:int "
        "prefault:bool=false reserve:bool=false mergeable:bool=false"
    ),
    "Payload": "firmware:str kernel:str cmdline:str initramfs:str",
    "RateLimitGroup": "id*:str rate_limiter_config*:RateLimiter",
    "RateLimiter": "bandwidth:Bucket ops:Bucket",
    "Bucket": "size*:int one_time_burst:int refill_time*:int",
    "Disk": (
        f"{_PCI} {_LIMITED} path:str readonly:bool=false direct:bool=false num_queues:int=1 queue_size:int=128 vhost_user:bool=false vhost_socket:str "
        "rate_limit_group:str disable_io_uring:bool=false disable_aio:bool=false serial:str queue_affinity:[any] backing_files:bool=false sparse:bool=true "
        'image_type:FixedVhd|Qcow2|Raw|Vhdx|Unknown="Unknown" lock_granularity:ByteRange|Full="ByteRange"'
    ),
    "Net": (
        f'{_PCI} {_LIMITED} tap:str ip:str mask:str mac:str="2e:00:00:00:00:01" host_mac:str mtu:int num_queues:int=2 queue_size:int=256 vhost_user:bool=false '
        'vhost_socket:str vhost_mode:Client|Server="Client" offload_tso:bool=true offload_ufo:bool=true offload_csum:bool=true'
    ),
    "Rng": f"{_PCI} src*:str",
    "Balloon": f"{_PCI} size*:int deflate_on_oom:bool=false free_page_reporting:bool=false",
    "Fs": f"{_PCI} tag*:str socket*:str num_queues:int=1 queue_size:int=1024",
    "Pmem": f"{_PCI} file*:str size:int discard_writes:bool=false",
    "Console": "mode*:Off|Pty|Tty|File|Socket|Null file:str socket:str",
    "VirtioConsole": f"{_PCI} mode*:Off|Pty|Tty|File|Socket|Null file:str",
    "DebugConsole": "mode*:Off|Pty|Tty|File|Socket|Null file:str iobase:int=233",
    "Vsock": f"{_PCI} cid*:int socket*:str",
    "LandlockRule": "path*:str access*:str",
}
_PLAIN: dict[str, tuple[type, str]] = {"int": (int, "an integer"), "bool": (bool, "a boolean"), "str": (str, "a string")}


class Unreadable(Exception):
    """What the deserializer says, less its line and column."""


def deserialize(value: t.Any, kind: str = "VmConfig") -> t.Any:
    """C(value) with the defaults filled in."""
    if kind == "any":
        return value
    if kind.startswith("["):
        if not isinstance(value, list):
            raise Unreadable(f"invalid type: {json.dumps(value)}, expected a sequence")
        return [deserialize(item, kind[1:-1]) for item in value]
    if kind in _PLAIN:
        python, words = _PLAIN[kind]
        if not isinstance(value, python) or (isinstance(value, bool) and python is not bool) or (isinstance(value, int) and value < 0):
            raise Unreadable(f"invalid type: {json.dumps(value)}, expected {words}")
        return value
    if "|" in kind:
        if value not in kind.split("|"):
            raise Unreadable(f"unknown variant `{value}`, expected one of {', '.join(f'`{word}`' for word in kind.split('|'))}")
        return value
    return _struct(value, kind)


def _struct(value: t.Any, kind: str) -> dict[str, t.Any]:
    if not isinstance(value, dict):
        raise Unreadable(f"invalid type: {json.dumps(value)}, expected struct {kind}Config")
    fields = dict(word.split(":", 1) for word in _STRUCTS[kind].split())
    known = {name.rstrip("*") for name in fields}
    unknown = sorted(set(value) - known)
    if unknown:
        raise Unreadable(f"[fake] the real one would ignore unknown field `{unknown[0]}` of {kind}; it has {', '.join(sorted(known))}")
    filled = {}
    for name, rest in fields.items():
        field, (of_kind, _equals, default) = name.rstrip("*"), rest.partition("=")
        if value.get(field) is not None:
            filled[field] = deserialize(value[field], of_kind)
        elif name.endswith("*"):
            raise Unreadable(f"missing field `{field}`")
        elif default:
            filled[field] = deserialize(json.loads(default), of_kind)
    return filled
