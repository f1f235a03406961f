# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole Debian for tests of root file systems: the debootstrapped tree of the test hosts as a tarball, and what makes it speak on its console."""

from __future__ import annotations

import pathlib
import subprocess
import typing as t

from ansible_collections.unkey.vmcp.tests.hosts import nspawn

# Half of the tree, which no boot reads.
_LEFT_OUT = ("var/cache", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man", "usr/share/i18n", "usr/lib/python3*", "usr/share/perl")
# Takes its name from the seed disk as cloud-init would, and then tells of each new size of its own disk.
_SPEAK = """#!/bin/sh
exec >/dev/console 2>&1
mkdir -p /run/seed
if mount -t iso9660 -o ro /dev/vdb /run/seed; then
    hostname "$(sed -n 's/.*"local-hostname": "\\(.*\\)".*/\\1/p' /run/seed/meta-data)"
fi
echo "root is $(findmnt -n -o FSTYPE,OPTIONS / | cut -d, -f1)"
. /etc/os-release
size=$(cat /sys/block/vda/size)
echo "$ID $VERSION_ID on $(hostname), formerly $(cat /etc/hostname), boot $(echo >>/boots; wc -l </boots), sectors=$size"
while sleep 0.5; do
    now=$(cat /sys/block/vda/size)
    [ "$now" = "$size" ] || echo "grown to sectors=$now"
    size=$now
done
"""
_UNIT = "[Unit]\nDefaultDependencies=no\nAfter=systemd-remount-fs.service\n[Service]\nExecStart=/usr/local/sbin/speak\n"
_WANTED = "[Unit]\nWants=speak.service\n"
FILES: list[dict[str, t.Any]] = [
    {"path": "/usr/local/sbin/speak", "content": _SPEAK, "mode": "0755"},
    {"path": "/etc/systemd/system/speak.service", "content": _UNIT},
    {"path": "/etc/systemd/system/sysinit.target.d/speak.conf", "content": _WANTED},
]


def debian_tarball(path: pathlib.Path) -> None:
    """Raises HostUnavailable where there can be no such tree."""
    nspawn.check_possible()
    tree = nspawn.base_tree()
    words = ["tar", "--create", "--one-file-system", f"--directory={tree}", f"--file={path}", *(f"--exclude=./{name}" for name in _LEFT_OUT), "."]
    subprocess.run(words, check=True, timeout=600)
