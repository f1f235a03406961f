# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was given to which VM, as the VMs' own files tell it: for a table of allocations that is lost or torn. Standard library only, reads only.

Every value is looked at for itself: a definition of a newer schema, or one that this version refuses for another reason, still says what its VM has.
"""

from __future__ import annotations

import json
import os
import typing as t

from ..errors import VmcpError
from .files import os_errors, read_text
from .store import REMOVING

if t.TYPE_CHECKING:
    from .layout import Layout

Record = dict[str, t.Any]


def records_of_vms(layout: Layout) -> tuple[dict[str, Record], list[str]]:
    """By name, C(uid), C(cid) and C(nics) (by id C(mac), and C(tap) where the VM has one of ours), each where it is known; and the names of VMs whose
    definition is there and cannot be read. Of these, and of data that a removal kept, the owner of C(data) tells the uid."""
    records: dict[str, Record] = {}
    unread = []
    for entry in _entries(layout.vms):
        # A directory that a removal has set aside holds files of the VM's uid until it is emptied.
        name = entry.removeprefix(REMOVING)
        directory = f"{layout.vms}/{entry}"
        body = _body(f"{directory}/vm.json")
        if body is None and os.path.lexists(f"{directory}/vm.json"):
            unread.append(name)
        # What a change that was cut off gave it is its own, too: it may have been made (see following).
        record = {**_owner(f"{directory}/data"), **_record(body or {}), **_record(_body(f"{directory}/vm.json.next") or {})}
        if record:
            records[name] = {**record, **records.get(name, {})}
    return records, unread


def _entries(directory: str) -> list[str]:
    with os_errors(f"list {directory}"):
        try:
            return sorted(os.listdir(directory), key=lambda entry: (entry.startswith(REMOVING), entry))
        except FileNotFoundError:
            return []


def _body(path: str) -> t.Optional[dict[str, t.Any]]:
    try:
        body = json.loads(read_text(path, trusted=True))
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError, VmcpError):
        # What is wrong with it is said by whoever needs the definition.
        return None
    return body if isinstance(body, dict) else None


def _owner(data: str) -> Record:
    """Of other users than root all VMs run as that user, who is nobody's to give."""
    if os.geteuid() != 0:
        return {}
    try:
        uid = os.stat(data, follow_symlinks=False).st_uid
    except OSError:
        # Not there: then no file is anybody's.
        return {}
    return {"uid": uid} if uid else {}


def _record(body: t.Mapping[str, t.Any]) -> Record:
    generated, security = _tree(body, "generated"), _tree(body, "security")
    record: Record = {}
    if _is_number(generated.get("uid")) and security.get("uid") is None:
        record["uid"] = generated["uid"]
    if _is_number(generated.get("cid")):
        record["cid"] = generated["cid"]
    macs, taps = _tree(generated, "macs"), _tree(generated, "taps")
    nics = {nic: {"mac": mac, **({"tap": taps[nic]} if isinstance(taps.get(nic), str) else {})} for nic, mac in macs.items() if isinstance(mac, str)}
    return {**record, "nics": nics} if record else record


def _tree(body: t.Mapping[str, t.Any], key: str) -> dict[str, t.Any]:
    value = body.get(key)
    return value if isinstance(value, dict) else {}


def _is_number(value: t.Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
