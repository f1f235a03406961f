# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a C(path) of a VM's storage leads to, when that is a file of ours: a disk, an image's content, or a disk that is made with another VM.

Reads only, standard library only."""

from __future__ import annotations

import os
import typing as t

from ..errors import VmcpError
from ..host.block_devices import BlockDevices
from ..host.disks import DiskStore
from ..host.store import Store

# C((kind, name)): C(disk) and the disk's name, C(image) and the file's name, C(vm) and the VM's name.
Owner = tuple[str, str]


class ManagedFiles:
    """Each path is looked at once. Links are followed: a disk has as many names as somebody likes to give it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        layout = store.layout
        self._below = tuple((kind, os.path.realpath(path) + "/") for kind, path in (("disk", layout.disks), ("image", layout.images), ("vm", layout.vms)))
        self._seen: dict[str, t.Optional[Owner]] = {}
        self._devices = BlockDevices()
        self._volumes: t.Optional[dict[str, str]] = None

    def owner(self, path: str) -> t.Optional[Owner]:
        if path not in self._seen:
            # Devices may stand on a file of ours: a loop device, a partition of it.
            owners = (self._find(real) for real in self._devices.standing(path).paths)
            self._seen[path] = next((owner for owner in owners if owner is not None), None)
        return self._seen[path]

    def disk_of(self, entry: t.Mapping[str, t.Any]) -> t.Optional[str]:
        """Name of the disk of its own that an entry of storage uses, by its name or by its file."""
        if entry.get("disk") is not None:
            return str(entry["disk"])
        owner = self.owner(str(entry["path"])) if entry.get("path") is not None else None
        return owner[1] if owner is not None and owner[0] == "disk" else None

    def _find(self, path: str) -> t.Optional[Owner]:
        for kind, directory in self._below:
            if path.startswith(directory):
                first, _slash, rest = path[len(directory) :].partition("/")
                return (kind, rest if kind == "image" else first) if rest else None
        if not path.startswith("/dev/"):
            return None
        if self._volumes is None:
            self._volumes = self._read_volumes()
        return ("disk", self._volumes[path]) if path in self._volumes else None

    def _read_volumes(self) -> dict[str, str]:
        disks, found = DiskStore(self._store.layout), {}
        for name in disks.names():
            try:
                record = disks.load(name)
            except VmcpError:
                # vmcp_disk_info reports it.
                continue
            if record is not None and record.volume:
                found[os.path.realpath(record.path)] = name
        return found
