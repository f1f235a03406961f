#!/usr/bin/python
# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vmcp_disk
short_description: Make, clone, grow and remove disks that outlive VMs
description:
  - Makes a disk of its own, which VMs name in O(unkey.vmcp.vmcp_vm#module:config.storage[].disk). It is removed by this module alone, never with a VM.
  - A disk can be empty, have a new file system, be filled from a directory (without mounting it), or be a copy-on-write clone of an image, another
    disk or a file. Which way of cloning was taken, and what it saved, is in the result.
  - What is on a disk is touched by nothing but its removal. Options that would need it made anew are refused.
version_added: 0.1.0
author:
  - unkey.vmcp contributors (@unkeyed)
extends_documentation_fragment:
  - unkey.vmcp.vmcp
  - unkey.vmcp.vmcp.lock
  - unkey.vmcp.vmcp.attributes
options:
  name:
    description: Name of the disk, unique on the host.
    type: str
    required: true
  state:
    description: Whether the disk is to be there. V(absent) is refused while a VM names it, unless O(force).
    type: str
    choices: [present, absent]
    default: present
  size:
    description:
      - Size as the guest sees it, in bytes or with a binary suffix (V(512M), V(20G)).
      - Required for a new disk, unless it has a O(source), whose size it then has at least.
      - A larger size grows the disk, while a VM runs with it too where its backend can be told. Where it cannot, that needs a restart of the VM; see
        O(allow_disruption) and O(apply).
      - A smaller size is refused without O(force), and below what the file system takes in any case.
    type: raw
  format:
    description:
      - How a new disk is kept. V(raw) if left out, a file that takes only what is written to it.
      - V(qcow2) is taken by QEMU and Cloud Hypervisor. A clone of an image in this format is an overlay over the image.
      - V(lvm) is a thin volume in O(thin_pool) of O(volume_group).
    type: str
    choices: [raw, qcow2, lvm]
  preallocate:
    description: Whether all space of a raw disk is taken on the host at once. Can be switched on later too.
    type: bool
  volume_group:
    description: Volume group of a disk with O(format=lvm).
    type: str
  thin_pool:
    description: Thin pool of a disk with O(format=lvm).
    type: str
  filesystem:
    description:
      - File system of a new disk, on the whole of it, by its type (V(ext4), V(xfs), V(btrfs), V(vfat) or V(swap)), or as a dictionary with
        C(type), C(label), C(uuid) and C(grow).
      - With C(grow), the file system follows when the disk grows and no VM runs with it. ext4 and swap can. The others grow only where they are
        mounted, in the guest.
      - With a O(source), only C(type) and C(grow) are allowed, and say which file system it brings.
    type: raw
  content:
    description: Directory on the host with which a new file system is filled, owners and modes kept where it has them. For ext4, btrfs and vfat.
    type: path
  source:
    description:
      - What a new disk is cloned from.
    type: dict
    suboptions:
      image:
        description: Name of an image of M(unkey.vmcp.vmcp_image).
        type: str
      disk:
        description: Name of another disk. Refused while a VM runs that writes to it.
        type: str
      path:
        description: File or block device on the host.
        type: str
      format:
        description: Format of the file at O(source.path). A qcow2 file that reads from other files is refused.
        type: str
        choices: [raw, qcow2]
        default: raw
  force:
    description: Remove the disk although VMs name it, or shrink it as far as what is on it allows.
    type: bool
    default: false
  allow_disruption:
    description:
      - The most that this task may do to VMs that run with the disk, in the words of M(unkey.vmcp.vmcp_vm).
      - When the VMM of one of them cannot be told of the new size, V(none) refuses. V(restart), and what is beyond it, shuts that VM down, grows the disk and
        starts the VM again as it is defined. Changes that wait for its next boot come with that.
    type: str
    choices: [none, restart, recreate, replace_data]
    default: none
  apply:
    description:
      - V(next_boot) grows the disk beneath the VMs that run with it and tells none of them. RV(pending) names those, which see the new size when they start
        next. A qcow2 file cannot be grown so.
    type: str
    choices: [now, next_boot]
    default: now
  shutdown_timeout:
    description: Seconds the guest of a VM that is restarted gets to shut down before its VMM is ended by force. V(0) ends it at once. 30 if left out.
    type: int
notes:
  - Tools of the distribution do the work, and are named with their package where they are missing. They are C(e2fsprogs), C(xfsprogs),
    C(btrfs-progs), C(dosfstools), C(mtools), C(util-linux), C(qemu-img) and C(lvm2), each only for what it is needed for.
seealso:
  - module: unkey.vmcp.vmcp_disk_info
  - module: unkey.vmcp.vmcp_vm
"""

EXAMPLES = r"""
- name: A data disk with a file system
  unkey.vmcp.vmcp_disk:
    name: web-data
    size: 20G
    filesystem: {type: ext4, label: data, grow: true}

- name: Grow it, while its VM runs
  unkey.vmcp.vmcp_disk:
    name: web-data
    size: 40G

- name: Grow it, and restart the VM if that is what it takes
  unkey.vmcp.vmcp_disk:
    name: web-data
    size: 60G
    allow_disruption: restart

- name: A disk filled from a directory
  unkey.vmcp.vmcp_disk:
    name: site
    size: 256M
    filesystem: ext4
    content: /srv/site

- name: A copy-on-write clone of another disk
  unkey.vmcp.vmcp_disk:
    name: web-data-copy
    source: {disk: web-data}

- name: A thin volume of LVM
  unkey.vmcp.vmcp_disk:
    name: db
    size: 100G
    format: lvm
    volume_group: vg0
    thin_pool: vms

- name: No longer needed
  unkey.vmcp.vmcp_disk:
    name: site
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be, in order.
  returned: success
  type: list
  elements: str
  sample: [make]
disk:
  description:
    - The disk. Keys are C(name), C(state), C(path), C(format), C(size_bytes), C(actual_bytes) (outside check mode), C(preallocated),
      C(filesystem), C(source), C(content), C(method), C(saved_bytes), C(backing_chain), C(users) and C(created_at).
    - C(method) is how it was made, C(blank), C(filled), C(reflink), C(overlay), C(snapshot), C(copy) or C(convert). C(saved_bytes) is what of its
      size making it did not take on the host.
  returned: success
  type: dict
  sample: {name: web-data, state: present, format: raw, size_bytes: 21474836480, method: blank, saved_bytes: 21300000000}
disruption:
  description: The most that was done, or would be, to a VM that runs. V(none) or V(restart).
  returned: success
  type: str
  sample: none
restarts:
  description: VMs that were stopped for the disk to grow, or would be, and started again.
  returned: success
  type: list
  elements: str
  sample: []
pending:
  description: VMs that see the new size when they start next.
  returned: success
  type: list
  elements: str
  sample: []
would_need:
  description: What the host lacks for this, each with its remedy.
  returned: in check mode
  type: list
  elements: dict
  sample: []
"""

from ansible_collections.unkey.vmcp.plugins.module_utils.argument_specs import DISK, HOST, LOCK
from ansible_collections.unkey.vmcp.plugins.module_utils.bootstrap import core, run


def main() -> None:
    run({**HOST, **LOCK, **DISK}, core("runner.disk", "run_disk"))


if __name__ == "__main__":
    main()
