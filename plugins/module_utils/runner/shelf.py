# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at what there is to make VMs' disks from: images, disks of their own, and what a VM has already.

Reads only; each is looked at once for all VMs of a task."""

from __future__ import annotations

import typing as t

from ..errors import VmcpError
from ..host import clones, tools
from ..host.disks import DiskStore
from ..host.store import Store
from ..model.definition import Definition
from ..model.resolving import is_ours
from ..model.words import REPLACES_LABEL
from ..planner.storage import DiskFact, FileFact, ImageFact, Shelf
from .disk_images import image_origin
from .managed_files import ManagedFiles
from .path_users import PathUsers, fresh_paths

# Of a VM, and of the one that it is to replace.
Names = tuple[str, t.Optional[str]]


class Shelves:
    """The shelves of the VMs of one task. Disks that a VM of this very task is given count as used by it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._files = ManagedFiles(store)
        self._paths = PathUsers(store)
        self._images: dict[str, t.Union[ImageFact, str]] = {}
        self._users: t.Optional[dict[str, list[tuple[str, bool]]]] = None
        self._shares: t.Optional[bool] = None

    def of(
        self, name: str, stored: t.Optional[Definition], given: t.Optional[t.Mapping[str, t.Any]], labels: t.Optional[t.Mapping[str, str]] = None
    ) -> t.Optional[Shelf]:
        """For the VM C(name). C(given): configuration of the task. C(labels): of the VM. None when no disk is ours, or another VM's too."""
        own = (name, (labels or {}).get(REPLACES_LABEL))
        had, wanted = (stored.config.get("storage") or []) if stored else [], (given or {}).get("storage") or []
        entries = [*had, *wanted]
        files = {**self._shared_of(own, fresh_paths(wanted, had)), **self._files_of(own, entries)}
        if not files and not any(is_ours(entry) for entry in entries):
            return None
        if self._shares is None:
            self._shares = clones.shares_extents(self._store.layout.vms)
        vm = self._store.layout.vm(name)
        images = {str(entry["image"]) for entry in entries if entry.get("image") is not None}
        disks = {str(entry["disk"]) for entry in entries if entry.get("disk") is not None}
        chosen = (stored.generated.get("disks") or {}) if stored else {}
        return Shelf(
            images={image: self._image(image) for image in images},
            disks={disk: self._disk(disk, own) for disk in disks},
            files=files,
            sizes={entry: clones.observed_size(vm, one) for entry, one in chosen.items() if "file" in one},
            data=vm.data,
            shares=self._shares,
            can_overlay=tools.find("qemu-img") is not None,
        )

    def claim(self, definition: Definition) -> None:
        """What a VM of this task is to have, no other of it can be given."""
        entries = definition.config.get("storage") or []
        self._paths.claim(definition.name, entries)
        for entry in entries:
            if (disk := self._files.disk_of(entry)) is not None:
                listed = self._all_users().setdefault(disk, [])
                if all(vm != definition.name for vm, _read_only in listed):
                    listed.append((definition.name, bool(entry.get("read_only"))))

    def _image(self, name: str) -> t.Union[ImageFact, str]:
        if name not in self._images:
            try:
                origin = image_origin(self._store, name)
                self._images[name] = ImageFact(str(origin.digest), origin.format, origin.size_bytes, origin.path)
            except VmcpError as exc:
                self._images[name] = exc.msg
        return self._images[name]

    def _shared_of(self, own: Names, paths: t.Iterable[str]) -> dict[str, FileFact]:
        """Those of the paths that another VM names too."""
        users = ((path, self._paths.others(path, *own)) for path in paths)
        return {path: FileFact("path", other[0].path, ((other[0].vm, other[0].read_only),)) for path, other in users if other}

    def _files_of(self, own: Names, entries: t.Iterable[t.Mapping[str, t.Any]]) -> dict[str, FileFact]:
        """Those of the entries' paths that lead to files of ours, but not to the VM's own."""
        found = {}
        for path in {str(entry["path"]) for entry in entries if entry.get("path") is not None}:
            kind, name = self._files.owner(path) or ("", "")
            if kind == "disk":
                found[path] = FileFact(kind, name, self._other_users(name, own))
            elif kind == "image" or (kind == "vm" and name != own[0] and name in self._store.names()):
                found[path] = FileFact(kind, name)
        return found

    def _disk(self, name: str, own: Names) -> t.Union[DiskFact, str]:
        try:
            record = DiskStore(self._store.layout).require(name)
        except VmcpError as exc:
            return exc.msg
        return DiskFact(record.path, record.file_format, record.backing, self._other_users(name, own))

    def _other_users(self, disk: str, own: Names) -> tuple[tuple[str, bool], ...]:
        return tuple(user for user in self._all_users().get(disk, []) if user[0] not in own)

    def _all_users(self) -> dict[str, list[tuple[str, bool]]]:
        if self._users is None:
            self._users = disk_users(self._store, self._files)
        return self._users


def disk_users(store: Store, files: ManagedFiles) -> dict[str, list[tuple[str, bool]]]:
    """Disk to the VMs whose definitions name it or its file, each with whether it only reads. What cannot be read names nothing: vmcp_vm_info reports it."""
    users: dict[str, list[tuple[str, bool]]] = {}
    for name in store.names():
        for path in store.in_force(name):
            try:
                definition = store.read(name, path)
            except VmcpError:
                continue
            for entry in (definition.config.get("storage") or []) if definition else []:
                disk, user = files.disk_of(entry), (name, bool(entry.get("read_only")))
                if disk is not None and user not in users.setdefault(disk, []):
                    users[disk].append(user)
    return users
