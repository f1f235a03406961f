#!/usr/bin/python
# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vmcp_image
short_description: Bring what VMs boot from to a host, verified and ready to use
description:
  - Fetches a disk image, a root file system, a kernel, an initrd or a firmware, checks it, and makes of it what VMs take.
    Disks become raw, kernels become uncompressed, container images and tarballs become a file system.
  - The content is stored once, however many names it has, and a second run of the same task fetches nothing.
  - Where the new content turns out to be wrong, the old image stays.
  - Sources are not trusted. Disk images that reach for other files are refused, entries of archives stay in their directory, and all sizes are bounded
    by O(max_size).
  - Check mode fetches and writes nothing, and says what would be done in RV(steps).
version_added: 0.1.0
author:
  - unkey.vmcp contributors (@unkeyed)
extends_documentation_fragment:
  - unkey.vmcp.vmcp
  - unkey.vmcp.vmcp.lock
  - unkey.vmcp.vmcp.attributes
options:
  name:
    description: Name of the image. 1 to 63 characters of a-z, 0-9 and C(-).
    type: str
    required: true
  state:
    description:
      - V(present) makes the image, or makes it again when its source or the options are others than before.
      - V(absent) removes it. Refused while a VM or a disk uses it.
    type: str
    choices: [present, absent]
    default: present
  kind:
    description:
      - V(disk) is a whole disk with partitions, V(rootfs) one file system.
      - A V(kernel) is also put under C(/opt/vmcp/kernels/NAME/VERSION/), with what its package has beside it.
    type: str
    choices: [disk, rootfs, kernel, initrd, firmware]
    default: disk
  url:
    description:
      - Where to fetch it from, by C(http), C(https) or C(file). A download that was cut off goes on where it ended.
      - Exactly one of O(url), O(path), O(src), O(container) and O(package) is needed.
    type: str
  path:
    description: A file on the host; for O(kind=rootfs) also a tarball or a directory.
    type: str
  src:
    description:
      - A file on the controller, looked for as M(ansible.builtin.copy) does. It is transferred only when the host does not have its content yet.
      - For O(kind=rootfs) also a directory. What in it belongs to whoever runs Ansible becomes root's, and times are left out, so that a fresh checkout of the
        same content is the same image.
    type: str
  container:
    description:
      - For O(kind=rootfs), a container image, as C(docker://NAME:TAG), C(oci:/DIRECTORY:TAG) or C(oci-archive:/FILE:TAG).
      - The first needs the program C(skopeo) on the host.
    type: str
  package:
    description:
      - For O(kind=kernel), a package of the distribution that is a kernel or depends on one, such as V(linux-image-cloud-amd64).
      - It is fetched by apt, or by dnf where there is no apt, and not installed.
      - With dnf it takes the programs C(rpmkeys), C(rpm2cpio) and C(cpio), and a distribution's key that rpm knows. This way was written by the manuals of
        these programs; it has not been seen on a host of Red Hat's family yet.
    type: str
  checksum:
    description:
      - V(sha256:...) or V(sha512:...), of the file as it is fetched. Or the URL of a list of such checksums (C(SHA256SUMS), GNU or BSD), in which the file
        is looked up by its name.
      - Without it, only the transport vouches for what was fetched.
    type: str
  format:
    description:
      - What is stored. For disks V(raw), which all backends take and which is the default, V(qcow2) or V(vhdx).
      - For kernels V(vmlinux), which all backends boot and which is the default, or V(original), as it came.
    type: str
    choices: [raw, qcow2, vhdx, vmlinux, original]
  source_format:
    description: What format a disk comes in. Found out if left out.
    type: str
    choices: [raw, qcow2, vmdk, vdi, vhdx, vpc]
  unpack:
    description:
      - Whether gzip, xz, zstd, bzip2, lz4 and lzop are taken off. V(true) if left out, V(false) for O(kind=initrd), which kernels unpack themselves.
    type: bool
  max_size:
    description:
      - The most that a download, an unpacked file, a disk as its guest sees it, or the content of an archive may have.
      - Bytes, or a number with a suffix (V(512M), V(4GiB)).
    type: raw
    default: 64G
  filesystem:
    description: What O(kind=rootfs) is made into, V(ext4) if left out. An image that is a file system already is stored as it is.
    type: str
    choices: [ext4, squashfs]
  size:
    description: Size of the ext4 file system. As large as its content needs if left out; a VM's clone of it can be larger.
    type: raw
  label:
    description: Label of the ext4 file system.
    type: str
  init:
    description:
      - What becomes C(/sbin/init) of the root file system. A script that begins with C(#!), or the absolute path of a program on the host.
      - V(container) makes one that runs what the container image says, and powers off after it. It needs a shell and C(mount) in the image.
    type: str
  files:
    description: Files to put into the root file system.
    type: list
    elements: dict
    suboptions:
      path:
        description: Where, as the guest sees it. Missing directories are made.
        type: str
        required: true
      content:
        description: The text. Either this or O(files[].source).
        type: str
      source:
        description: A file on the host.
        type: str
      mode:
        description: Octal, in quotes.
        type: str
        default: "0644"
      owner:
        description: Number, or name of a user in the image.
        type: str
        default: "0"
      group:
        description: Number, or name of a group in the image.
        type: str
        default: "0"
  hostname:
    description: What C(/etc/hostname) of the root file system says.
    type: str
  ssh_keys:
    description: Public keys by user of the image, added to C(.ssh/authorized_keys) in the user's home.
    type: dict
  proxy:
    description: URL of a proxy, for URLs, registries and apt. As the environment says (C(http_proxy), C(https_proxy), C(no_proxy)) if left out, none if empty.
    type: str
  headers:
    description: Headers of the requests, for example C(Authorization). They are not sent to another host that the server may redirect to.
    type: dict
  validate_certs:
    description: Whether the server's certificate must hold.
    type: bool
    default: true
  ca_path:
    description: File of certificates that are trusted instead of the host's.
    type: path
  authfile:
    description: File of credentials for registries, as C(skopeo login) writes it.
    type: path
  retries:
    description: How often a fetch is tried again after it failed in a way that may pass.
    type: int
    default: 4
  idle_timeout:
    description: Seconds without a byte after which a server is given up.
    type: int
    default: 30
  timeout:
    description: Seconds for everything.
    type: int
    default: 3600
  refresh:
    description:
      - Whether a server, a registry, apt or dnf is asked if it has something newer under the same name.
      - Nothing is asked if the image is there and this is V(false).
    type: bool
    default: false
  force:
    description:
      - Make the image again though nothing says that it must be.
      - With O(state=absent), forget the name though the content is used, which then stays until nobody needs it.
    type: bool
    default: false
  uploaded:
    description: Set by the collection's action plugin. Not for playbooks.
    type: dict
seealso:
  - module: unkey.vmcp.vmcp_image_info
  - module: unkey.vmcp.vmcp_vm
"""

EXAMPLES = r"""
- name: Debian's cloud image, checked against Debian's list
  unkey.vmcp.vmcp_image:
    name: debian-12
    url: https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-genericcloud-amd64.qcow2
    checksum: https://cloud.debian.org/images/cloud/bookworm/latest/SHA512SUMS

- name: A kernel of the distribution, for every backend
  unkey.vmcp.vmcp_image:
    name: debian
    kind: kernel
    package: linux-image-cloud-amd64
  register: kernel

- name: A container image as a root file system
  unkey.vmcp.vmcp_image:
    name: redis
    kind: rootfs
    container: docker://docker.io/library/redis:7
    init: container
    hostname: cache
    size: 1G

- name: A tarball of the controller's, with a key for root
  unkey.vmcp.vmcp_image:
    name: appliance
    kind: rootfs
    src: appliance.tar.zst
    filesystem: squashfs
    ssh_keys:
      root:
        - "{{ lookup('file', '~/.ssh/id_ed25519.pub') }}"

- name: Forget an image
  unkey.vmcp.vmcp_image:
    name: debian-11
    state: absent
"""

RETURN = r"""
image:
  description:
    - The image as it is stored. C(path) is the content, C(digest) its SHA-256, C(size_bytes) what a guest sees, C(stored_bytes) what it takes on the host.
    - C(facts) of a kernel are its C(version), C(format) (V(elf), V(arm64-image), V(bzimage)), whether it has a C(pvh) note, and the C(kernel_path)
      under its name and version.
    - Where a configuration can be read, they say for each thing that a microVM C(needs) whether it is V(built_in), a V(module) or V(missing). What is
      in C(needs_initrd_for) has to come from an initrd.
    - Of a root file system, C(unprivileged) says whether it was unpacked and made without any right of root's, and C(skipped_devices) lists devices of the
      source that could not be put in.
  returned: when there is one, in check mode the one before
  type: dict
  sample:
    name: debian
    kind: kernel
    digest: sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
    format: elf
    size_bytes: 53243444
    stored_bytes: 53248000
    path: /var/lib/vmcp/images/.content/sha256-2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
    facts:
      version: 6.1.0-44-cloud-amd64
      pvh: true
      kernel_path: /opt/vmcp/kernels/debian/6.1.0-44-cloud-amd64/vmlinux
      needs: {virtio_blk: module, ext4: built_in}
      needs_initrd_for: [virtio_blk]
    users: []
actions:
  description: What was done, or would be.
  returned: success
  type: list
  elements: str
  sample: [fetch, make, publish]
reason:
  description: Why, in half a sentence. Empty when nothing was to be done.
  returned: success
  type: str
  sample: there is no such image
steps:
  description: The actions with what they would work on.
  returned: in check mode
  type: list
  elements: dict
  sample: [{action: fetch, from: "https://example.com/debian.qcow2", max_size: 68719476736}]
"""

from ansible_collections.unkey.vmcp.plugins.module_utils.argument_specs import HOST, IMAGE, IMAGE_LARGE, LOCK
from ansible_collections.unkey.vmcp.plugins.module_utils.bootstrap import core, run


def main() -> None:
    run({**HOST, **LOCK, **IMAGE}, core("runner.image", "run_image"), large=IMAGE_LARGE)


if __name__ == "__main__":
    main()
