# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk as it is kept in C(disk.json). Standard library only.

The file carries a schema version, as definitions of VMs do: older ones are read, keys that this version does not know are kept, a newer one is refused."""

from __future__ import annotations

import dataclasses
import json
import typing as t

from ..errors import FailedPrecondition, Internal
from .words import COLLECTION_VERSION, DISK_FORMATS

SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class DiskRecord:
    """What a disk is, and how it was made. Never changed in place.

    C(path): absolute, of the file or of the LVM volume. C(format): one of C(DISK_FORMATS). C(size_bytes): virtual size, as last set by us.
    C(filesystem): C({type, label, uuid}) as we made it, None when we made none. C(source): C({kind, name, digest}) of what it was cloned from.
    C(content): the directory it was filled from. C(method): how it was made: C(blank), C(filled), C(reflink), C(overlay), C(snapshot), C(copy), C(convert).
    C(backing): the file that a qcow2 overlay reads what it does not have itself from, with C(backing_format).
    C(saved_bytes): of the virtual size, what making it did not take on the host. C(volume): C({volume_group, thin_pool, name}) of an LVM volume."""

    name: str
    path: str
    format: str
    size_bytes: int
    preallocated: bool = False
    filesystem: t.Optional[dict[str, t.Any]] = None
    source: t.Optional[dict[str, t.Any]] = None
    content: t.Optional[str] = None
    method: str = "blank"
    backing: t.Optional[str] = None
    backing_format: t.Optional[str] = None
    saved_bytes: int = 0
    volume: t.Optional[dict[str, str]] = None
    created_at: str = ""
    collection_version: str = COLLECTION_VERSION
    schema: int = SCHEMA
    extra: dict[str, t.Any] = dataclasses.field(default_factory=dict)

    @property
    def file_format(self) -> str:
        """C(raw) or C(qcow2): what a VMM is to read it as."""
        return "qcow2" if self.format == "qcow2" else "raw"

    @property
    def layering(self) -> str:
        """As C(model.resolving.layering): C(raw), C(qcow2), C(lvm), or C(overlay)."""
        return "overlay" if self.backing else self.format

    def to_json(self) -> str:
        body = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        body.update(body.pop("extra"))
        return json.dumps(body, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> DiskRecord:
        """Internal for a torn or foreign file, FailedPrecondition for a newer schema; C(where) is the file's path."""
        remedy = "Restore it from a backup, or remove the disk (state: absent, force: true)."
        try:
            body = json.loads(text)
            schema = body["schema"]
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            raise Internal(f"{where} is not a readable record of a disk ({type(exc).__name__}). {remedy}") from exc
        if isinstance(schema, int) and schema > SCHEMA:
            raise FailedPrecondition(f"{where} has schema {schema}; this is unkey.vmcp {COLLECTION_VERSION}, which reads up to {SCHEMA}. Use a newer version.")
        known = {field.name for field in dataclasses.fields(cls)} - {"extra"}
        try:
            made = cls(**{k: v for k, v in body.items() if k in known}, extra={k: v for k, v in body.items() if k not in known})
        except TypeError as exc:
            raise Internal(f"{where} lacks what the record of a disk must have: {exc}. {remedy}") from exc
        texts = all(isinstance(value, str) for value in (made.name, made.path, made.format))
        if not texts or made.format not in DISK_FORMATS or not isinstance(made.size_bytes, int) or not made.path.startswith("/"):
            raise Internal(f"{where} is not a record of ours. {remedy}")
        return made
