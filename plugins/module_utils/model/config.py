# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The unified VM configuration: the one truth for the tree under C(config).

Types, limits and descriptions here are what validation, the documentation fragment and the JSON schema are made from
(C(tools/generate.py)). Only what is wrong whatever the backend belongs here; what a backend can or cannot do is in
C(capabilities). Descriptions are Ansible markup.

Units are in the names: C(size_bytes), C(refill_ms). Every field may be left out; a C(None) means that nobody chose.
"""

from __future__ import annotations

import typing as t

from ..thirdparty_pydantic import BaseModel, ConfigDict, Field
from .fields import Addresses, DiskSize, Flag, HostPath, Identifier, KernelArgs, MacAddress, Name, NetworkName, Size, SocketPath, TapName, Token, Whole

# Far above what any VMM takes, so that a slip (bytes for megabytes, a digit too many) is told as such and no number overflows on its way to a VMM.
CPUS_MAX = 8192
SIZE_MAX = 64 << 40
TOKENS_MAX = 1 << 50
DEVICES_MAX = 256
HostCpu = t.Annotated[Whole, Field(ge=0, le=CPUS_MAX)]
AddressMethod = t.Literal["auto", "dhcp", "kernel", "mmds", "cloud_init", "none"]
ArgumentWord = t.Annotated[KernelArgs, Field(max_length=4096)]


class Tree(BaseModel):
    """Base of every node: unknown keys are errors; values from surveys (C("2"), C("true")) are coerced by the field types."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class CpuTopology(Tree):
    threads_per_core: Whole = Field(default=1, ge=1, le=2, description="Hardware threads of a core.")
    cores_per_die: Whole = Field(default=1, ge=1, le=CPUS_MAX, description="Cores of a die.")
    dies_per_package: Whole = Field(default=1, ge=1, le=CPUS_MAX, description="Dies of a package.")
    packages: Whole = Field(default=1, ge=1, le=CPUS_MAX, description="Packages (sockets).")


class CpuAffinity(Tree):
    vcpu: Whole = Field(ge=0, le=CPUS_MAX, description="Index of the virtual CPU, from 0.")
    host_cpus: list[HostCpu] = Field(min_length=1, max_length=CPUS_MAX, description="Host CPUs it may run on.")


class CpuFeatures(Tree):
    amx: t.Optional[Flag] = Field(default=None, description="Offer Intel AMX to the guest.")


class Cpu(Tree):
    vcpu_count: Whole = Field(default=1, ge=1, le=CPUS_MAX, description="Virtual CPUs at boot.")
    max_vcpu_count: t.Optional[Whole] = Field(
        default=None, ge=1, le=CPUS_MAX, description="Virtual CPUs the VM can grow to while it runs. At least O(config.cpu.vcpu_count)."
    )
    topology: t.Optional[CpuTopology] = Field(
        default=None, description="Topology shown to the guest. The product of the four must be the number of virtual CPUs (the maximum, where one is given)."
    )
    affinity: list[CpuAffinity] = Field(default_factory=list, max_length=CPUS_MAX, description="Host CPUs on which each virtual CPU may run.")
    features: t.Optional[CpuFeatures] = Field(default=None, description="CPU features to switch on.")
    nested: t.Optional[Flag] = Field(default=None, description="Let the guest use hardware virtualization itself.")
    template: t.Union[Token, dict[str, t.Any], None] = Field(
        default=None,
        description="CPU template: a name the VMM knows (Firecracker's V(T2), QEMU's CPU models), or Firecracker's custom template as a dictionary.",
    )


class MemoryZone(Tree):
    id: Identifier = Field(description="Name of the zone, unique in the VM.")
    size_bytes: Size = Field(ge=1 << 20, le=SIZE_MAX, description="Size of the zone.")
    host_numa_node: t.Optional[Whole] = Field(default=None, ge=0, le=1023, description="Host NUMA node from which it is taken.")
    hugepages: Flag = Field(default=False, description="Back it with huge pages.")
    hugepage_size_bytes: t.Optional[Size] = Field(default=None, le=SIZE_MAX, description="Size of the huge pages; the host's default if left out.")
    shared: Flag = Field(default=False, description="Map it shared, as vhost-user devices need.")
    mergeable: Flag = Field(default=False, description="Let the host merge equal pages (KSM).")
    prefault: Flag = Field(default=False, description="Touch every page at start.")


class Balloon(Tree):
    size_bytes: Size = Field(default=0, le=SIZE_MAX, description="Memory taken from the guest (the inflated amount).")
    deflate_on_oom: Flag = Field(default=False, description="Give memory back when the guest runs out of it.")
    free_page_reporting: Flag = Field(default=False, description="Let the guest tell the host which pages it does not use.")


class Memory(Tree):
    size_bytes: Size = Field(default=512 << 20, ge=1 << 20, le=SIZE_MAX, description="Memory at boot.")
    max_size_bytes: t.Optional[Size] = Field(default=None, le=SIZE_MAX, description="Memory in all, with the room for growth while the VM runs.")
    hugepages: Flag = Field(default=False, description="Back the memory with huge pages, which the host must have reserved.")
    hugepage_size_bytes: t.Optional[Size] = Field(default=None, le=SIZE_MAX, description="Size of the huge pages; the host's default if left out.")
    shared: Flag = Field(default=False, description="Map the memory shared, as vhost-user devices need.")
    mergeable: Flag = Field(default=False, description="Let the host merge equal pages (KSM). It can leak information between guests.")
    prefault: Flag = Field(default=False, description="Touch every page at start: slower to start, no page faults later.")
    zones: list[MemoryZone] = Field(
        default_factory=list, max_length=DEVICES_MAX, description="Memory in zones of their own properties. Their sum must be O(config.memory.size_bytes)."
    )
    balloon: t.Optional[Balloon] = Field(default=None, description="Memory balloon.")


class Boot(Tree):
    kernel_path: t.Optional[HostPath] = Field(
        default=None,
        description="Kernel on the host. Firecracker wants an uncompressed C(vmlinux); the others take a C(bzImage) too. "
        "If left out, the host's default, or the firmware.",
    )
    initrd_path: t.Optional[HostPath] = Field(default=None, description="Initial RAM file system on the host.")
    kernel_args: t.Optional[KernelArgs] = Field(
        default=None,
        max_length=65535,
        description="Kernel command line, taken verbatim. Only a missing C(root=) and C(ro)/C(rw) is added when there is a root device. "
        "If left out, arguments with a serial console.",
    )
    firmware_path: t.Optional[HostPath] = Field(default=None, description="Firmware on the host, booted instead of a kernel.")
    igvm_path: t.Optional[HostPath] = Field(
        default=None, description="IGVM file on the host, booted instead of a kernel. Needs a Cloud Hypervisor built with that feature."
    )


class TokenBucket(Tree):
    size: Whole = Field(ge=0, le=TOKENS_MAX, description="Operations that the bucket holds. The rate is O(ignore:size) per O(ignore:refill_ms).")
    refill_ms: Whole = Field(ge=0, le=TOKENS_MAX, description="Milliseconds in which an empty bucket fills up.")
    burst: Whole = Field(default=0, ge=0, le=TOKENS_MAX, description="Extra tokens at start, used once.")


class ByteBucket(TokenBucket):
    size: Size = Field(ge=0, le=TOKENS_MAX, description="Bytes that the bucket holds. The rate is O(ignore:size) per O(ignore:refill_ms).")
    burst: Size = Field(default=0, ge=0, le=TOKENS_MAX, description="Extra bytes at start, used once.")


class RateLimit(Tree):
    bandwidth: t.Optional[ByteBucket] = Field(default=None, description="Limit in bytes.")
    ops: t.Optional[TokenBucket] = Field(default=None, description="Limit in operations.")


class Storage(Tree):
    path: t.Optional[HostPath] = Field(
        default=None,
        description="File or block device on the host. Each entry has one of O(config.storage[].path), O(config.storage[].image), O(config.storage[].disk), "
        "O(config.storage[].vhost_user_socket), or O(config.storage[].size) alone. It is written to by one VM at a time.",
    )
    image: t.Optional[Name] = Field(
        default=None,
        description="Image of M(unkey.vmcp.vmcp_image), of which the disk is a copy-on-write clone, made and removed with the VM. Another image, or an image "
        "that has changed, needs O(allow_disruption=replace_data).",
    )
    disk: t.Optional[Name] = Field(default=None, description="Disk of M(unkey.vmcp.vmcp_disk), which outlives the VM. It is written to by one VM at a time.")
    size: t.Optional[DiskSize] = Field(
        default=None,
        ge=512,
        le=SIZE_MAX,
        description="Size of a clone, at least that of its image; or alone, with an id, of an empty disk that is made and removed with the VM. A larger size "
        "grows the disk, while the VM runs too where its backend can be told.",
    )
    filesystem: t.Optional[t.Literal["ext4", "xfs", "btrfs", "vfat", "swap"]] = Field(
        default=None, description="File system of an empty disk. None if left out."
    )
    read_only: Flag = Field(default=False, description="The guest cannot write to it.")
    is_root_device: Flag = Field(default=False, description="The guest's root disk; attached first. At most one.")
    id: t.Optional[Identifier] = Field(default=None, description="Name of the disk in this VM. Made once from path or position if left out.")
    format: t.Optional[t.Literal["raw", "qcow2", "vhd", "vhdx"]] = Field(
        default=None, description="Format of the image. V(raw) if left out; never guessed from guest-written data."
    )
    direct_io: Flag = Field(default=False, description="Bypass the host's page cache.")
    io_engine: t.Optional[t.Literal["sync", "aio", "io_uring"]] = Field(default=None, description="How the VMM does I/O; its own choice if left out.")
    serial: t.Optional[Token] = Field(default=None, max_length=20, description="Serial number shown to the guest, at most 20 characters.")
    num_queues: t.Optional[Whole] = Field(default=None, ge=1, le=CPUS_MAX, description="Virtio queues. At most the number of virtual CPUs.")
    queue_size: t.Optional[Whole] = Field(default=None, ge=4, le=32768, description="Entries of each queue, a power of two.")
    rate_limit: t.Optional[RateLimit] = Field(default=None, description="I/O limits.")
    vhost_user_socket: t.Optional[SocketPath] = Field(
        default=None, description="Socket of a vhost-user block device, instead of a path. Needs O(config.memory.shared)."
    )


class Network(Tree):
    id: t.Optional[Identifier] = Field(default=None, description="Name of the interface in this VM. Made once from its position if left out.")
    tap_device: t.Optional[TapName] = Field(
        default=None,
        description="An existing tap, which is used as it is, or an existing bridge, on which a tap of ours is made. "
        "One of this, O(config.network[].network) and a vhost-user socket is required.",
    )
    network: t.Optional[NetworkName] = Field(
        default=None, description="A network of M(unkey.vmcp.vmcp_network). A tap of ours is made on it, and the interface gets addresses of its range."
    )
    address: t.Optional[Addresses] = Field(
        default=None,
        description="Address in the network: an IPv4 address, an IPv6 address, or a list of one of each; in the network's range, and free. "
        "Chosen once and kept if left out.",
    )
    address_method: AddressMethod = Field(
        default="auto",
        description="How the guest learns its address. V(dhcp): from the network's DHCP server. V(kernel): by C(ip=) on the kernel's command line, behind "
        "what O(config.boot.kernel_args) says; IPv4, of one interface, for a VM that boots a kernel. V(cloud_init): from the first-boot data of O(cloud_init), "
        "unless these have a C(network_config) of their own. V(mmds): from Firecracker's metadata service, under C(vmcp.network). V(none): not from us. "
        "V(auto): C(dhcp) where the network has it, else C(kernel) where a kernel is booted and no O(config.boot.kernel_args) are given, else V(cloud_init) "
        "where there are first-boot data, else V(mmds) where there is metadata, else V(none).",
    )
    vlan: t.Optional[Whole] = Field(default=None, ge=1, le=4094, description="VLAN of the interface, untagged for the guest, on a bridge that filters VLANs.")
    mac_address: t.Optional[MacAddress] = Field(default=None, description="MAC address in the guest. Chosen once and kept if left out.")
    mtu: t.Optional[Whole] = Field(default=None, ge=68, le=65535, description="MTU told to the guest.")
    num_queues: t.Optional[Whole] = Field(default=None, ge=1, le=CPUS_MAX, description="Queue pairs. At most the number of virtual CPUs.")
    queue_size: t.Optional[Whole] = Field(default=None, ge=4, le=32768, description="Entries of each queue, a power of two.")
    rate_limit_rx: t.Optional[RateLimit] = Field(default=None, description="Limits of what the guest receives.")
    rate_limit_tx: t.Optional[RateLimit] = Field(default=None, description="Limits of what the guest sends.")
    vhost_user_socket: t.Optional[SocketPath] = Field(default=None, description="Socket of a vhost-user network device. Needs O(config.memory.shared).")


class Console(Tree):
    enabled: Flag = Field(default=True, description="Give the guest a first serial port.")
    output: t.Literal["file", "tty", "null", "socket"] = Field(
        default="file",
        description="Where its output goes. V(file) is kept, bounded, and read by M(unkey.vmcp.vmcp_console); V(tty) is a pty whose path is reported; "
        "V(null) (quote it in YAML) drops it.",
    )
    path: t.Optional[HostPath] = Field(
        default=None,
        description="Path of the file or socket, if it is not to be the VM's own. A file is appended to, and bounded as the VM's own is: past the host's limit "
        "its oldest bytes become a hole (read as NUL characters; its size stays), or, on a file system without holes, it is emptied.",
    )


class Rng(Tree):
    source: HostPath = Field(default="/dev/urandom", description="Source of entropy on the host.")


class Vsock(Tree):
    cid: t.Optional[Whole] = Field(default=None, ge=3, le=4294967294, description="Context id of the guest. Chosen once and kept if left out.")
    path: t.Optional[SocketPath] = Field(default=None, description="Unix socket on the host side, where the backend has one. The VM's own if left out.")


class QemuOptions(Tree):
    args: list[ArgumentWord] = Field(default_factory=list, max_length=DEVICES_MAX, description="Words added to the end of QEMU's command line.")
    machine: dict[str, t.Any] = Field(default_factory=dict, description="Properties of C(-machine), C(type) and C(accel) among them. They win over ours.")


class BackendOptions(Tree):
    cloudhypervisor: dict[str, t.Any] = Field(default_factory=dict, description="Merged last into the document of C(vm.create).")
    firecracker: dict[str, t.Any] = Field(default_factory=dict, description="Merged last into the document of C(--config-file).")
    qemu: t.Optional[QemuOptions] = Field(default=None, description="Additions to QEMU's command line.")


class VmConfig(Tree):
    """The tree under C(config). C(reserved) in C(fields.py) lists the keys that later versions will have."""

    cpu: Cpu = Field(default_factory=Cpu, description="Virtual CPUs.")
    memory: Memory = Field(default_factory=Memory, description="Memory.")
    boot: Boot = Field(default_factory=Boot, description="What the VM boots.")
    storage: list[Storage] = Field(
        default_factory=list, max_length=DEVICES_MAX, description="Disks. The list is complete: an entry left out is detached, its data is never deleted."
    )
    network: list[Network] = Field(
        default_factory=list, max_length=DEVICES_MAX, description="Network interfaces. The list is complete: an entry left out is detached."
    )
    console: Console = Field(default_factory=Console, description="The first serial port.")
    rng: t.Optional[Rng] = Field(default=None, description="Entropy device; the backend's own default if left out.")
    vsock: t.Optional[Vsock] = Field(default=None, description="Socket device between host and guest.")
    watchdog: t.Optional[Flag] = Field(default=None, description="Watchdog device, which resets a guest that hangs.")
    backend_options: BackendOptions = Field(
        default_factory=BackendOptions, description="What only one backend has, in its own words. Other backends ignore it."
    )
