# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration as a backend is told it: clones and disks of their own as paths with a format. Standard library only, pure.

What each stands for was settled when the VM was defined, and is kept in C(Definition.generated["disks"]), by id of the entry:

- of a clone or an empty disk made with the VM: C(file) (its name in the VM's data directory), C(format), and of a clone C(image), C(digest), C(backing);
- of a disk of its own: C(disk), C(path), C(format), C(backing).
"""

from __future__ import annotations

import typing as t

from .cloud_init import SEED_FILE

if t.TYPE_CHECKING:
    from .definition import Definition

# Keys of an entry that only we understand.
OURS = ("image", "disk", "size", "filesystem")


def is_ours(entry: t.Mapping[str, t.Any]) -> bool:
    """Whether what the entry stands for is settled by us."""
    return any(entry.get(key) is not None for key in OURS)


def resolved(definition: Definition, data: str) -> dict[str, t.Any]:
    """The tree of C(definition.config), which it shares as far as it is the same. C(data): the VM's data directory."""
    told = resolve(definition.config, definition.generated.get("disks") or {}, data)
    if definition.generated.get("cloud_init") != "nocloud":
        return told
    storage = told.get("storage") or []
    return {**told, "storage": [*storage, {"id": _seed_id(storage), "path": f"{data}/{SEED_FILE}", "read_only": True, "format": "raw"}]}


def _seed_id(storage: t.Sequence[t.Mapping[str, t.Any]]) -> str:
    taken = {entry.get("id") for entry in storage}
    return next(name for name in ("cloud-init", *(f"cloud-init-{number}" for number in range(2, len(taken) + 3))) if name not in taken)


def resolve(config: t.Mapping[str, t.Any], chosen: t.Mapping[str, t.Mapping[str, t.Any]], data: str) -> dict[str, t.Any]:
    storage = config.get("storage") or []
    if not any(is_ours(entry) for entry in storage):
        return dict(config)
    return {**config, "storage": [_entry(entry, chosen.get(str(entry.get("id"))) or {}, data) if is_ours(entry) else entry for entry in storage]}


def _entry(entry: t.Mapping[str, t.Any], chosen: t.Mapping[str, t.Any], data: str) -> dict[str, t.Any]:
    told = {key: value for key, value in entry.items() if key not in OURS}
    return {**told, "path": path_of(chosen, data) if chosen else f"{data}/{entry.get('id')}", "format": chosen.get("format", "raw")}


def layering(chosen: t.Mapping[str, t.Any]) -> str:
    """The disk's format as far as growing goes: C(overlay) for a qcow2 file over another one."""
    return "overlay" if chosen.get("backing") else str(chosen.get("format", "raw"))


def path_of(chosen: t.Mapping[str, t.Any], data: str) -> str:
    return str(chosen["path"]) if "path" in chosen else f"{data}/{chosen['file']}"
