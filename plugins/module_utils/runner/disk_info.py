# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(vmcp_disk_info): what disks exist, how they are and who uses them. Reads only, standard library only."""

from __future__ import annotations

import typing as t

from ..call import Call, Outcome
from ..errors import VmcpError
from ..host import filesystems, tools
from ..host.disks import DiskStore
from ..host.layout import Layout
from ..host.store import Store
from ..model.disk_record import DiskRecord
from .disk_look import describe_disk, file_size
from .disk_users import users_of
from .managed_files import ManagedFiles


def run_disk_info(call: Call) -> Outcome:
    options = call.options
    layout = Layout.resolve(options.get("state_dir"), options.get("run_dir"), call.environ, call.uid)
    store, disks = Store(layout), DiskStore(layout)
    there = disks.names()
    wanted = options.get("names")
    files = ManagedFiles(store)
    listed = [_element(store, disks, name, files) for name in there if wanted is None or name in wanted]
    return Outcome({"changed": False, "disks": listed, "missing": [name for name in wanted or () if name not in there], "disks_dir": layout.disks})


def _element(store: Store, disks: DiskStore, name: str, files: ManagedFiles) -> dict[str, t.Any]:
    """A disk that cannot be read is reported as such; the others are reported all the same."""
    try:
        record = disks.require(name)
        element = describe_disk(record, users_of(store, name, record.path, format_=record.layering, files=files))
        return {**element, **_looked_at(record)}
    except VmcpError as exc:
        return {"name": name, "error": exc.msg}


def _looked_at(record: DiskRecord) -> dict[str, t.Any]:
    """What the file itself says: a guest may have made another file system on it."""
    found: dict[str, t.Any] = {}
    try:
        found["size_bytes"] = file_size(record.path, record.file_format)
    except FileNotFoundError:
        return {"error": f"{record.path} is gone. Remove the disk (state: absent) and make it anew, or restore the file."}
    if record.file_format == "raw" and tools.find("blkid"):
        there = filesystems.probe(record.path)
        found["filesystem"] = {key: there.get(key) for key in ("type", "label", "uuid")} if there.get("type") else None
        found["partition_table"] = there.get("table")
    return found
