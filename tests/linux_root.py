# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Linux that lives on a disk: a tree for a root file system, of busybox alone, and an initramfs that goes over to it. See C(linux_guest)."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil

from ansible_collections.unkey.vmcp.tests import linux_guest

# What takes the initramfs to the root disk, and lets the root read its seed disk.
_MODULES = ("virtio_pci", "virtio_mmio", "virtio_blk", "ext4", "crc32c_generic", "isofs", "button", "evdev")
_SWITCH = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /modules/order); do /bin/busybox insmod /modules/$module; done
tries=0
until [ -b /dev/vda ] || [ $tries -gt 50 ]; do tries=$((tries + 1)); /bin/busybox sleep 0.1; done
/bin/busybox mount -t ext4 -o rw /dev/vda /root || echo "no root disk"
exec /bin/busybox switch_root /root /sbin/init
"""
# Says what it found, counts its boots on its own disk, and then tells of each new size of that disk.
_INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
echo boot >> /boots
/bin/busybox sync
echo "root on $(/bin/busybox grep ' / ext4' /proc/mounts)"
if [ -b /dev/vdb ] && /bin/busybox mount -t iso9660 -o ro /dev/vdb /seed; then
    /bin/busybox hostname "$(/bin/busybox sed -n 's/.*"local-hostname": "\\(.*\\)".*/\\1/p' /seed/meta-data)"
    echo "seed $(/bin/busybox head -n 1 /seed/user-data)"
fi
echo "hostname $(/bin/busybox hostname)"
size=$(/bin/busybox cat /sys/block/vda/size)
echo "up with boots=$(/bin/busybox wc -l < /boots) sectors=$size"
while :; do
    now=$(/bin/busybox cat /sys/block/vda/size)
    [ "$now" = "$size" ] || echo "grown to sectors=$now"
    size=$now
    /bin/busybox sleep 0.5
done
"""


@dataclasses.dataclass(frozen=True)
class LinuxRoot:
    """C(tree): what is to be on the root disk."""

    kernel: pathlib.Path
    initrd: pathlib.Path
    tree: pathlib.Path


def linux_root(directory: pathlib.Path) -> LinuxRoot:
    """Raises GuestUnavailable where no Linux guest can be made."""
    guest = to_the_root(directory)
    tree = directory / "root"
    for name in ("bin", "sbin", "dev", "proc", "sys", "seed"):
        (tree / name).mkdir(parents=True)
    shutil.copy(_busybox(), tree / "bin/busybox")
    (tree / "sbin/init").write_text(_INIT)
    (tree / "sbin/init").chmod(0o755)
    return LinuxRoot(guest.kernel, guest.initrd, tree)


def to_the_root(directory: pathlib.Path) -> linux_guest.LinuxGuest:
    """A guest that goes over to the ext4 on its first disk, and becomes what is C(/sbin/init) there. Raises GuestUnavailable."""
    guest = linux_guest.linux_guest(linux_guest.cache_directory())
    modules: dict[str, bytes] = {}
    for name in _MODULES:
        linux_guest._collect_module(_packages(), name, modules)
    # In the order in which they are to be loaded: each behind what it depends on.
    modules["order"] = "\n".join(modules).encode() + b"\n"
    initrd = directory / "to-the-root"
    initrd.write_bytes(_archive(_busybox().read_bytes(), modules))
    return dataclasses.replace(guest, initrd=initrd)


def _packages() -> pathlib.Path:
    return linux_guest.cache_directory() / "packages"


def _busybox() -> pathlib.Path:
    return next(path for path in (_packages() / "bin/busybox", _packages() / "usr/bin/busybox") if path.exists())


def _archive(busybox: bytes, modules: dict[str, bytes]) -> bytes:
    entries = [linux_guest._newc(name, 0o040755) for name in ("bin", "dev", "root", "modules")]
    entries += [linux_guest._newc("dev/console", 0o020600, device=(5, 1)), linux_guest._newc("bin/busybox", 0o100755, busybox)]
    entries += [linux_guest._newc(f"modules/{name}", 0o100644, body) for name, body in modules.items()]
    entries.append(linux_guest._newc("init", 0o100755, _SWITCH.encode()))
    return b"".join(entries) + linux_guest._newc("TRAILER!!!", 0)
