# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Written by tools/generate.py from plugins/module_utils/model/config.py: do not edit.
from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  config:
    description:
      - 'The configuration of the VM, the same for every backend. The document C({config: {…}}) around it is accepted too.'
      - An option left out is untouched on a VM that exists; the defaults here are those of its creation. An explicit C(null) resets an option
        to its default.
      - 'Lists are complete when given: what is missing is detached (its data is never deleted), and C([]) empties. Entries match by C(id).'
    type: dict
    suboptions:
      cpu:
        description:
          - Virtual CPUs.
        type: dict
        suboptions:
          vcpu_count:
            description:
              - Virtual CPUs at boot.
            type: int
            default: 1
          max_vcpu_count:
            description:
              - Virtual CPUs the VM can grow to while it runs. At least O(config.cpu.vcpu_count).
            type: int
          topology:
            description:
              - Topology shown to the guest. The product of the four must be the number of virtual CPUs (the maximum, where one is given).
            type: dict
            suboptions:
              threads_per_core:
                description:
                  - Hardware threads of a core.
                type: int
                default: 1
              cores_per_die:
                description:
                  - Cores of a die.
                type: int
                default: 1
              dies_per_package:
                description:
                  - Dies of a package.
                type: int
                default: 1
              packages:
                description:
                  - Packages (sockets).
                type: int
                default: 1
          affinity:
            description:
              - Host CPUs on which each virtual CPU may run.
            type: list
            elements: dict
            suboptions:
              vcpu:
                description:
                  - Index of the virtual CPU, from 0.
                type: int
                required: true
              host_cpus:
                description:
                  - Host CPUs it may run on.
                type: list
                elements: int
                required: true
          features:
            description:
              - CPU features to switch on.
            type: dict
            suboptions:
              amx:
                description:
                  - Offer Intel AMX to the guest.
                type: bool
          nested:
            description:
              - Let the guest use hardware virtualization itself.
            type: bool
          template:
            description:
              - 'CPU template: a name the VMM knows (Firecracker''s V(T2), QEMU''s CPU models), or Firecracker''s custom template as a dictionary.'
            type: raw
      memory:
        description:
          - Memory.
        type: dict
        suboptions:
          size_bytes:
            description:
              - Memory at boot.
              - Bytes, or a number with a binary suffix, as in V(512M) or V(4GiB).
            type: raw
            default: 536870912
          max_size_bytes:
            description:
              - Memory in all, with the room for growth while the VM runs.
              - Bytes, or a number with a binary suffix, as in V(512M) or V(4GiB).
            type: raw
          hugepages:
            description:
              - Back the memory with huge pages, which the host must have reserved.
            type: bool
            default: false
          hugepage_size_bytes:
            description:
              - Size of the huge pages; the host's default if left out.
              - Bytes, or a number with a binary suffix, as in V(512M) or V(4GiB).
            type: raw
          shared:
            description:
              - Map the memory shared, as vhost-user devices need.
            type: bool
            default: false
          mergeable:
            description:
              - Let the host merge equal pages (KSM). It can leak information between guests.
            type: bool
            default: false
          prefault:
            description:
              - 'Touch every page at start: slower to start, no page faults later.'
            type: bool
            default: false
          zones:
            description:
              - Memory in zones of their own properties. Their sum must be O(config.memory.size_bytes).
            type: list
            elements: dict
            suboptions:
              id:
                description:
                  - Name of the zone, unique in the VM.
                type: str
                required: true
              size_bytes:
                description:
                  - Size of the zone.
                  - Bytes, or a number with a binary suffix, as in V(512M) or V(4GiB).
                type: raw
                required: true
              host_numa_node:
                description:
                  - Host NUMA node from which it is taken.
                type: int
              hugepages:
                description:
                  - Back it with huge pages.
                type: bool
                default: false
              hugepage_size_bytes:
                description:
                  - Size of the huge pages; the host's default if left out.
                  - Bytes, or a number with a binary suffix, as in V(512M) or V(4GiB).
                type: raw
              shared:
                description:
                  - Map it shared, as vhost-user devices need.
                type: bool
                default: false
              mergeable:
                description:
                  - Let the host merge equal pages (KSM).
                type: bool
                default: false
              prefault:
                description:
                  - Touch every page at start.
                type: bool
                default: false
          balloon:
            description:
              - Memory balloon.
            type: dict
            suboptions:
              size_bytes:
                description:
                  - Memory taken from the guest (the inflated amount).
                  - Bytes, or a number with a binary suffix, as in V(512M) or V(4GiB).
                type: raw
                default: 0
              deflate_on_oom:
                description:
                  - Give memory back when the guest runs out of it.
                type: bool
                default: false
              free_page_reporting:
                description:
                  - Let the guest tell the host which pages it does not use.
                type: bool
                default: false
      boot:
        description:
          - What the VM boots.
        type: dict
        suboptions:
          kernel_path:
            description:
              - Kernel on the host. Firecracker wants an uncompressed C(vmlinux); the others take a C(bzImage) too. If left out, the host's default,
                or the firmware.
            type: path
          initrd_path:
            description:
              - Initial RAM file system on the host.
            type: path
          kernel_args:
            description:
              - Kernel command line, taken verbatim. Only a missing C(root=) and C(ro)/C(rw) is added when there is a root device. If left out,
                arguments with a serial console.
            type: str
          firmware_path:
            description:
              - Firmware on the host, booted instead of a kernel.
            type: path
          igvm_path:
            description:
              - IGVM file on the host, booted instead of a kernel. Needs a Cloud Hypervisor built with that feature.
            type: path
      storage:
        description:
          - 'Disks. The list is complete: an entry left out is detached, its data is never deleted.'
        type: list
        elements: dict
        suboptions:
          path:
            description:
              - File or block device on the host. Each entry has one of O(config.storage[].path), O(config.storage[].image), O(config.storage[].disk),
                O(config.storage[].vhost_user_socket), or O(config.storage[].size) alone. It is written to by one VM at a time.
            type: path
          image:
            description:
              - Image of M(unkey.vmcp.vmcp_image), of which the disk is a copy-on-write clone, made and removed with the VM. Another image, or
                an image that has changed, needs O(allow_disruption=replace_data).
            type: str
          disk:
            description:
              - Disk of M(unkey.vmcp.vmcp_disk), which outlives the VM. It is written to by one VM at a time.
            type: str
          size:
            description:
              - Size of a clone, at least that of its image; or alone, with an id, of an empty disk that is made and removed with the VM. A larger
                size grows the disk, while the VM runs too where its backend can be told.
              - Bytes, or a number with a binary suffix, as in V(512M) or V(4GiB).
            type: str
          filesystem:
            description:
              - File system of an empty disk. None if left out.
            type: str
            choices:
              - ext4
              - xfs
              - btrfs
              - vfat
              - swap
          read_only:
            description:
              - The guest cannot write to it.
            type: bool
            default: false
          is_root_device:
            description:
              - The guest's root disk; attached first. At most one.
            type: bool
            default: false
          id:
            description:
              - Name of the disk in this VM. Made once from path or position if left out.
            type: str
          format:
            description:
              - Format of the image. V(raw) if left out; never guessed from guest-written data.
            type: str
            choices:
              - raw
              - qcow2
              - vhd
              - vhdx
          direct_io:
            description:
              - Bypass the host's page cache.
            type: bool
            default: false
          io_engine:
            description:
              - How the VMM does I/O; its own choice if left out.
            type: str
            choices:
              - sync
              - aio
              - io_uring
          serial:
            description:
              - Serial number shown to the guest, at most 20 characters.
            type: str
          num_queues:
            description:
              - Virtio queues. At most the number of virtual CPUs.
            type: int
          queue_size:
            description:
              - Entries of each queue, a power of two.
            type: int
          rate_limit:
            description:
              - I/O limits.
            type: dict
            suboptions:
              bandwidth:
                description:
                  - Limit in bytes.
                type: dict
                suboptions:
                  size:
                    description:
                      - Bytes that the bucket holds. The rate is O(ignore:size) per O(ignore:refill_ms).
                      - Bytes, or a number with a binary suffix, as in V(512M) or V(4GiB).
                    type: raw
                    required: true
                  refill_ms:
                    description:
                      - Milliseconds in which an empty bucket fills up.
                    type: int
                    required: true
                  burst:
                    description:
                      - Extra bytes at start, used once.
                      - Bytes, or a number with a binary suffix, as in V(512M) or V(4GiB).
                    type: raw
                    default: 0
              ops:
                description:
                  - Limit in operations.
                type: dict
                suboptions:
                  size:
                    description:
                      - Operations that the bucket holds. The rate is O(ignore:size) per O(ignore:refill_ms).
                    type: int
                    required: true
                  refill_ms:
                    description:
                      - Milliseconds in which an empty bucket fills up.
                    type: int
                    required: true
                  burst:
                    description:
                      - Extra tokens at start, used once.
                    type: int
                    default: 0
          vhost_user_socket:
            description:
              - Socket of a vhost-user block device, instead of a path. Needs O(config.memory.shared).
            type: path
      network:
        description:
          - 'Network interfaces. The list is complete: an entry left out is detached.'
        type: list
        elements: dict
        suboptions:
          id:
            description:
              - Name of the interface in this VM. Made once from its position if left out.
            type: str
          tap_device:
            description:
              - An existing tap, which is used as it is, or an existing bridge, on which a tap of ours is made. One of this, O(config.network[].network)
                and a vhost-user socket is required.
            type: str
          network:
            description:
              - A network of M(unkey.vmcp.vmcp_network). A tap of ours is made on it, and the interface gets addresses of its range.
            type: str
          address:
            description:
              - 'Address in the network: an IPv4 address, an IPv6 address, or a list of one of each; in the network''s range, and free. Chosen
                once and kept if left out.'
            type: str
          address_method:
            description:
              - 'How the guest learns its address. V(dhcp): from the network''s DHCP server. V(kernel): by C(ip=) on the kernel''s command line,
                behind what O(config.boot.kernel_args) says; IPv4, of one interface, for a VM that boots a kernel. V(cloud_init): from the first-boot
                data of O(cloud_init), unless these have a C(network_config) of their own. V(mmds): from Firecracker''s metadata service, under
                C(vmcp.network). V(none): not from us. V(auto): C(dhcp) where the network has it, else C(kernel) where a kernel is booted and
                no O(config.boot.kernel_args) are given, else V(cloud_init) where there are first-boot data, else V(mmds) where there is metadata,
                else V(none).'
            type: str
            choices:
              - auto
              - dhcp
              - kernel
              - mmds
              - cloud_init
              - none
            default: auto
          vlan:
            description:
              - VLAN of the interface, untagged for the guest, on a bridge that filters VLANs.
            type: int
          mac_address:
            description:
              - MAC address in the guest. Chosen once and kept if left out.
            type: str
          mtu:
            description:
              - MTU told to the guest.
            type: int
          num_queues:
            description:
              - Queue pairs. At most the number of virtual CPUs.
            type: int
          queue_size:
            description:
              - Entries of each queue, a power of two.
            type: int
          rate_limit_rx:
            description:
              - Limits of what the guest receives.
            type: dict
            suboptions:
              bandwidth:
                description:
                  - Limit in bytes.
                type: dict
                suboptions:
                  size:
                    description:
                      - Bytes that the bucket holds. The rate is O(ignore:size) per O(ignore:refill_ms).
                      - Bytes, or a number with a binary suffix, as in V(512M) or V(4GiB).
                    type: raw
                    required: true
                  refill_ms:
                    description:
                      - Milliseconds in which an empty bucket fills up.
                    type: int
                    required: true
                  burst:
                    description:
                      - Extra bytes at start, used once.
                      - Bytes, or a number with a binary suffix, as in V(512M) or V(4GiB).
                    type: raw
                    default: 0
              ops:
                description:
                  - Limit in operations.
                type: dict
                suboptions:
                  size:
                    description:
                      - Operations that the bucket holds. The rate is O(ignore:size) per O(ignore:refill_ms).
                    type: int
                    required: true
                  refill_ms:
                    description:
                      - Milliseconds in which an empty bucket fills up.
                    type: int
                    required: true
                  burst:
                    description:
                      - Extra tokens at start, used once.
                    type: int
                    default: 0
          rate_limit_tx:
            description:
              - Limits of what the guest sends.
            type: dict
            suboptions:
              bandwidth:
                description:
                  - Limit in bytes.
                type: dict
                suboptions:
                  size:
                    description:
                      - Bytes that the bucket holds. The rate is O(ignore:size) per O(ignore:refill_ms).
                      - Bytes, or a number with a binary suffix, as in V(512M) or V(4GiB).
                    type: raw
                    required: true
                  refill_ms:
                    description:
                      - Milliseconds in which an empty bucket fills up.
                    type: int
                    required: true
                  burst:
                    description:
                      - Extra bytes at start, used once.
                      - Bytes, or a number with a binary suffix, as in V(512M) or V(4GiB).
                    type: raw
                    default: 0
              ops:
                description:
                  - Limit in operations.
                type: dict
                suboptions:
                  size:
                    description:
                      - Operations that the bucket holds. The rate is O(ignore:size) per O(ignore:refill_ms).
                    type: int
                    required: true
                  refill_ms:
                    description:
                      - Milliseconds in which an empty bucket fills up.
                    type: int
                    required: true
                  burst:
                    description:
                      - Extra tokens at start, used once.
                    type: int
                    default: 0
          vhost_user_socket:
            description:
              - Socket of a vhost-user network device. Needs O(config.memory.shared).
            type: path
      console:
        description:
          - The first serial port.
        type: dict
        suboptions:
          enabled:
            description:
              - Give the guest a first serial port.
            type: bool
            default: true
          output:
            description:
              - Where its output goes. V(file) is kept, bounded, and read by M(unkey.vmcp.vmcp_console); V(tty) is a pty whose path is reported;
                V(null) (quote it in YAML) drops it.
            type: str
            choices:
              - file
              - tty
              - 'null'
              - socket
            default: file
          path:
            description:
              - 'Path of the file or socket, if it is not to be the VM''s own. A file is appended to, and bounded as the VM''s own is: past the
                host''s limit its oldest bytes become a hole (read as NUL characters; its size stays), or, on a file system without holes, it
                is emptied.'
            type: path
      rng:
        description:
          - Entropy device; the backend's own default if left out.
        type: dict
        suboptions:
          source:
            description:
              - Source of entropy on the host.
            type: path
            default: /dev/urandom
      vsock:
        description:
          - Socket device between host and guest.
        type: dict
        suboptions:
          cid:
            description:
              - Context id of the guest. Chosen once and kept if left out.
            type: int
          path:
            description:
              - Unix socket on the host side, where the backend has one. The VM's own if left out.
            type: path
      watchdog:
        description:
          - Watchdog device, which resets a guest that hangs.
        type: bool
      backend_options:
        description:
          - What only one backend has, in its own words. Other backends ignore it.
        type: dict
        suboptions:
          cloudhypervisor:
            description:
              - Merged last into the document of C(vm.create).
            type: dict
          firecracker:
            description:
              - Merged last into the document of C(--config-file).
            type: dict
          qemu:
            description:
              - Additions to QEMU's command line.
            type: dict
            suboptions:
              args:
                description:
                  - Words added to the end of QEMU's command line.
                type: list
                elements: str
              machine:
                description:
                  - Properties of C(-machine), C(type) and C(accel) among them. They win over ours.
                type: dict
  vcpus:
    description:
      - Virtual CPUs at boot.
      - The same as O(config.cpu.vcpu_count), short for the command line. Giving both with different values is an error.
    type: raw
  max_vcpus:
    description:
      - Virtual CPUs the VM can grow to.
      - The same as O(config.cpu.max_vcpu_count), short for the command line. Giving both with different values is an error.
    type: raw
  memory:
    description:
      - Memory at boot. Bytes, or a number with a binary suffix, as in V(512M) or V(4GiB).
      - The same as O(config.memory.size_bytes), short for the command line. Giving both with different values is an error.
    type: raw
  kernel:
    description:
      - Kernel on the host.
      - The same as O(config.boot.kernel_path), short for the command line. Giving both with different values is an error.
    type: str
  initrd:
    description:
      - Initial RAM file system on the host.
      - The same as O(config.boot.initrd_path), short for the command line. Giving both with different values is an error.
    type: str
  kernel_args:
    description:
      - Kernel command line.
      - The same as O(config.boot.kernel_args), short for the command line. Giving both with different values is an error.
    type: str
  firmware:
    description:
      - Firmware on the host.
      - The same as O(config.boot.firmware_path), short for the command line. Giving both with different values is an error.
    type: str
  disks:
    description:
      - Disks, each a path or a dictionary. The first is the root device, unless an entry gives C(is_root_device).
      - The same as O(config.storage), short for the command line. Giving both with different values is an error.
    type: list
    elements: raw
  networks:
    description:
      - Interfaces, each the name of a network, a tap or a bridge, or a dictionary.
      - The same as O(config.network), short for the command line. Giving both with different values is an error.
    type: list
    elements: raw
"""
