# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest's kernel is asked for, by options of its configuration. Standard library only."""

from __future__ import annotations

# What a microVM needs of its kernel, and the options that give it; several: all of them.
NEEDS = {
    "virtio_mmio": ("VIRTIO_MMIO",),
    "virtio_pci": ("VIRTIO_PCI",),
    "virtio_blk": ("VIRTIO_BLK",),
    "virtio_net": ("VIRTIO_NET",),
    "virtio_console": ("VIRTIO_CONSOLE",),
    "virtio_balloon": ("VIRTIO_BALLOON",),
    "virtio_rng": ("HW_RANDOM_VIRTIO",),
    "virtio_mem": ("VIRTIO_MEM",),
    "virtio_fs": ("VIRTIO_FS",),
    "vsock": ("VIRTIO_VSOCKETS",),
    "serial": ("SERIAL_8250_CONSOLE",),
    "ext4": ("EXT4_FS",),
    "squashfs": ("SQUASHFS",),
    "overlay": ("OVERLAY_FS",),
    "devtmpfs": ("DEVTMPFS",),
    "initrd": ("BLK_DEV_INITRD",),
    "pvh": ("PVH",),
    "acpi": ("ACPI",),
}
# Without these no disk can be the root: what is a module among them has to come from an initrd.
ROOT_NEEDS = ("virtio_blk", "ext4")
