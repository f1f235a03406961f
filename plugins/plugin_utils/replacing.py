# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one VM leaves to another one beside it that is to take its place. From what C(vmcp_vm_info) says of both. Pure.

A disk is written to by one VM, and an address belongs to one: the old VM gives them up before the new one can have them. Until there is no way back they
stand in labels of the new one, so that whoever takes it back knows them, also when the run was cut off that took them.
"""

from __future__ import annotations

import copy
import json
import typing as t

from .moving import as_entry, made_with

Tree = dict[str, t.Any]
_LABEL = "vmcp-replace-had"
# A label's text has no more room.
_PIECE = 255


def replacement(vm: t.Mapping[str, t.Any], new: t.Mapping[str, t.Any]) -> Tree:
    """C(storage), C(network): all that C(vm) has, with its MAC addresses and, on networks of ours, its addresses; C(labels): the same as text. C(stays): of its
    storage what both may have. C(disks): those that were made with it, each with the one of the C(new) VM (which may be empty) that is to have what is on it.
    C(secrets): kinds that nobody is told."""
    had = _kept(new.get("labels") or {})
    if had is None:
        had = {"storage": [_given(disk) for disk in vm["config"].get("storage") or []], "network": _network(vm)}
    text = json.dumps(had, sort_keys=True)
    return {
        **had,
        "labels": {f"{_LABEL}.{at // _PIECE}": text[at : at + _PIECE] for at in range(0, len(text), _PIECE)},
        "stays": [disk for disk in had["storage"] if disk.get("read_only") or not (disk.get("path") or disk.get("disk"))],
        "disks": list(_disks(vm, new)),
        "secrets": [kind for kind in ("metadata", "cloud_init") if vm.get(f"{kind}_digest") is not None],
    }


def _given(entry: t.Mapping[str, t.Any]) -> Tree:
    return copy.deepcopy({key: value for key, value in entry.items() if value is not None})


def _network(vm: t.Mapping[str, t.Any]) -> list[Tree]:
    addresses = {nic["id"]: list(nic.get("addresses") or []) for nic in vm.get("nics") or []}
    found = []
    for nic in as_entry(vm)["config"].get("network") or []:
        given = _given(nic)
        if given.get("network") and addresses.get(nic.get("id")):
            given["address"] = addresses[nic["id"]]
        found.append(given)
    return found


def _kept(labels: t.Mapping[str, str]) -> t.Optional[Tree]:
    """What C(replacement) wrote into labels; None where it has not."""
    pieces: list[str] = []
    while (piece := labels.get(f"{_LABEL}.{len(pieces)}")) is not None:
        pieces.append(piece)
    return t.cast("Tree", json.loads("".join(pieces))) if pieces else None


def _disks(vm: t.Mapping[str, t.Any], new: t.Mapping[str, t.Any]) -> t.Iterator[Tree]:
    there = made_with(new)
    for name, disk in made_with(vm).items():
        other = there.get(name)
        if other is not None and disk.get("path") and other.get("path"):
            alike = all(disk.get(key) == other.get(key) for key in ("format", "backing"))
            yield {
                "id": name,
                "path": disk["path"],
                "format": disk.get("format"),
                "new_path": other["path"],
                "new_format": other.get("format"),
                "alike": alike,
            }
