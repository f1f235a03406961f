# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disks of this host that outlive VMs, as files: records, and the disks themselves. Standard library only. Writers hold the disk's lock.

A disk is made in a directory of another name, which gets the disk's name when all is there; it is set aside by the same name before it is removed.
Whatever is cut off between leaves nothing that could be taken for a disk."""

from __future__ import annotations

import os
import re
import typing as t

from ..errors import FailedPrecondition, NotFound, VmcpError
from ..model.disk_record import DiskRecord
from ..model.words import NAME_PATTERN
from . import tools
from .files import os_errors, read_text, remove, sync_dir, write_atomic
from .trees import ensure_dir, remove_tree

if t.TYPE_CHECKING:
    from .layout import DiskLayout, Layout

_NAME = re.compile(NAME_PATTERN)
# Beside the disk while it is made: which LVM volume is to be removed, should that be cut off.
_VOLUME = "volume"


class DiskStore:
    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def names(self) -> list[str]:
        with os_errors(f"list {self.layout.disks}"):
            try:
                entries = os.listdir(self.layout.disks)
            except FileNotFoundError:
                return []
        return sorted(name for name in entries if _NAME.fullmatch(name))

    def load(self, name: str) -> t.Optional[DiskRecord]:
        """None when there is no such disk. As C(DiskRecord.from_json) for one that cannot be read."""
        path = self.layout.disk(name).record
        try:
            return DiskRecord.from_json(read_text(path, trusted=True), path)
        except FileNotFoundError:
            return None

    def require(self, name: str) -> DiskRecord:
        """NotFound naming the nearest."""
        import difflib

        record = self.load(name)
        if record is None:
            near = difflib.get_close_matches(name, self.names(), n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}?" if near else "Make it with unkey.vmcp.vmcp_disk."
            raise NotFound(f"There is no disk {name!r} in {self.layout.disks}. {hint}")
        return record

    def has_remains(self, name: str) -> bool:
        """Whether something is there that is no whole disk."""
        disk = self.layout.disk(name)
        return os.path.lexists(disk.making) or (os.path.lexists(disk.dir) and not os.path.lexists(disk.record))

    def path_of_new(self, name: str, format_: str, volume: t.Optional[t.Mapping[str, str]]) -> str:
        if volume:
            return f"/dev/{volume['volume_group']}/{volume['name']}"
        return f"{self.layout.disk(name).dir}/disk.{'qcow2' if format_ == 'qcow2' else 'raw'}"

    def begin(self, disk: DiskLayout, volume: t.Optional[t.Mapping[str, str]]) -> None:
        """An empty directory to make a disk in. What a run that was cut off left of it is removed."""
        ensure_dir(self.layout.state_dir, 0o711)
        ensure_dir(self.layout.disks, 0o711)
        self.clear(disk)
        ensure_dir(disk.making, 0o711)
        if volume:
            write_atomic(f"{disk.making}/{_VOLUME}", f"{volume['volume_group']}/{volume['name']}\n")

    def finish(self, disk: DiskLayout, record: DiskRecord) -> None:
        """The disk gets its name, durably."""
        write_atomic(f"{disk.making}/disk.json", record.to_json())
        with os_errors(f"make {disk.dir}"):
            remove(f"{disk.making}/{_VOLUME}")
            os.rename(disk.making, disk.dir)
            sync_dir(self.layout.disks)

    def save(self, record: DiskRecord) -> None:
        write_atomic(self.layout.disk(record.name).record, record.to_json())

    def remove(self, name: str) -> bool:
        """The disk and what is left of it; its LVM volume too. True when there was anything."""
        disk = self.layout.disk(name)
        there = self.clear(disk)
        if os.path.lexists(disk.dir):
            self._note_volume(name, disk)
            with os_errors(f"remove {disk.dir}"):
                os.rename(disk.dir, disk.making)
                sync_dir(self.layout.disks)
            self.clear(disk)
            there = True
        return there

    def _note_volume(self, name: str, disk: DiskLayout) -> None:
        """So that a removal that is cut off is finished by the next one."""
        try:
            record = self.load(name)
        except VmcpError:
            # Without a record that can be read nothing tells of a volume.
            return
        if record and record.volume:
            write_atomic(f"{disk.dir}/{_VOLUME}", f"{record.volume['volume_group']}/{record.volume['name']}\n")

    def clear(self, disk: DiskLayout) -> bool:
        try:
            volume = read_text(f"{disk.making}/{_VOLUME}", trusted=True).strip()
        except FileNotFoundError:
            volume = ""
        if volume and _volume_is_there(volume):
            tools.run("lvremove", "-f", "-q", volume, doing=f"remove the LVM volume {volume}")
        # The note goes last: as long as it is there, this is repeated.
        return remove_tree(disk.making)

    def volume_is_free(self, volume: t.Mapping[str, str]) -> None:
        """FailedPrecondition when somebody has a volume of that name."""
        name = f"{volume['volume_group']}/{volume['name']}"
        if _volume_is_there(name):
            raise FailedPrecondition(f"There is an LVM volume {name} already, which is none of ours. Rename or remove it, or give the disk another name.")


def _volume_is_there(name: str) -> bool:
    said = tools.run("lvs", "--noheadings", "-o", "lv_full_name", name, doing=f"look for the LVM volume {name}", timeout_s=tools.SHORT_S, codes=(0, 5))
    return bool(said.strip())
