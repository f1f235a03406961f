# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of images: kinds, sources, formats, and which go with which. Standard library only."""

from __future__ import annotations

KINDS = ("disk", "rootfs", "kernel", "initrd", "firmware")
STATES = ("present", "absent")
SOURCES = ("url", "path", "src", "container", "package")
CONTAINER_TRANSPORTS = ("docker://", "oci:", "oci-archive:")

# What a disk's content may be in, by qemu-img's names (vpc: VHD), and what is stored. Raw is what all backends take; Cloud Hypervisor and QEMU take the
# others too.
DISK_SOURCE_FORMATS = ("raw", "qcow2", "vmdk", "vdi", "vhdx", "vpc")
DISK_FORMATS = ("raw", "qcow2", "vhdx")
# vmlinux: an ELF on x86_64, an Image on arm64, which all backends boot. original: as it came.
KERNEL_FORMATS = ("vmlinux", "original")
FILESYSTEMS = ("ext4", "squashfs")
FORMATS = (*DISK_FORMATS, *KERNEL_FORMATS)

FORMATS_OF = {"disk": DISK_FORMATS, "rootfs": ("raw",), "kernel": KERNEL_FORMATS, "initrd": ("raw",), "firmware": ("raw",)}
SOURCES_OF = {
    "disk": ("url", "path", "src"),
    "rootfs": ("url", "path", "src", "container"),
    "kernel": ("url", "path", "src", "package"),
    "initrd": ("url", "path", "src"),
    "firmware": ("url", "path", "src"),
}
