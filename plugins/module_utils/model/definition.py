# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The definition of a VM as it is kept in C(vm.json). Standard library only: the no-change path reads it.

The file carries a schema version. Readers accept every older version and migrate in memory; the file is rewritten only when the VM
changes; keys that this version does not know are kept (C(extra)). A newer schema is refused with the version that it needs.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t

from ..errors import FailedPrecondition, Internal
from .jsontext import key_a_line
from .words import BACKENDS, COLLECTION_VERSION

SCHEMA = 1

_TEXTS = ("name", "backend", "backend_version", "binary", "supervisor", "backend_reason", "created_at", "collection_version")
_TREES = ("config", "helpers", "labels", "restart_policy", "security", "generated")
_SWITCHES = ("autostart", "protected")


@dataclasses.dataclass(frozen=True)
class Definition:
    """What a VM should be, and what was chosen for it once. Never changed in place: C(dataclasses.replace).

    C(config): the full tree, defaults of creation written in, sizes in bytes (JSON values; C(VmConfig) reads it).
    C(generated): what we or the VMM chose once: C(uid), C(cid), C(macs) and C(taps) by NIC id, C(qemu_machine). Never reported as a change.
    C(binary): absolute path of the pinned VMM binary; C(helpers): others by role (C(jailer), C(ch-remote)).
    C(group): the name pattern of the group of identical VMs that it was made in; it ends with the group when that shrinks.
    C(labels) …: see DESIGN; C(metadata_digest), C(cloud_init_digest): keyed digests of the secrets, never the secrets.
    """

    name: str
    backend: str
    backend_version: str
    binary: str
    config: dict[str, t.Any]
    helpers: dict[str, str] = dataclasses.field(default_factory=dict)
    workload: t.Optional[str] = None
    labels: dict[str, str] = dataclasses.field(default_factory=dict)
    autostart: bool = True
    protected: bool = False
    restart_policy: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    security: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    supervisor: str = "plain"
    generated: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    metadata_digest: t.Optional[str] = None
    cloud_init_digest: t.Optional[str] = None
    backend_reason: str = ""
    group: t.Optional[str] = None
    created_at: str = ""
    collection_version: str = COLLECTION_VERSION
    schema: int = SCHEMA
    extra: dict[str, t.Any] = dataclasses.field(default_factory=dict)

    @property
    def names_networks(self) -> bool:
        """Whether an interface is to be on a network of ours."""
        return any(nic.get("network") for nic in self.config.get("network") or [])

    @property
    def on_networks(self) -> bool:
        """Whether an interface was given a place on one."""
        return bool(self.generated.get("nics"))

    def to_json(self) -> str:
        """The text of C(vm.json): sorted keys, so that equal definitions are equal bytes."""
        body = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        body.update(body.pop("extra"))
        return key_a_line(body)

    @classmethod
    def from_json(cls, text: str, where: str) -> Definition:
        """Reads any schema up to ours. C(where) is the file's path, for messages.

        FailedPrecondition for a newer schema; Internal for a torn or foreign file (the remedy is in the message)."""
        try:
            body = json.loads(text)
            schema = body["schema"]
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            raise Internal(
                f"{where} is not a readable definition ({type(exc).__name__}: {exc}). Restore it from a backup, or remove the VM (state: absent)."
            ) from exc
        if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
            raise Internal(f"{where} is not a definition of ours: its schema is {schema!r:.60}. Restore it from a backup, or remove the VM (state: absent).")
        if schema > SCHEMA:
            raise FailedPrecondition(
                f"{where} has schema {schema}, written by unkey.vmcp {body.get('collection_version', 'of a newer version')}; this is {COLLECTION_VERSION}, "
                f"which reads up to schema {SCHEMA}. Run the task with that version of the collection or a newer one."
            )
        known = {f.name for f in dataclasses.fields(cls)} - {"extra"}
        extra = {k: v for k, v in body.items() if k not in known}
        try:
            made = cls(**{k: v for k, v in body.items() if k in known}, extra=extra)
        except TypeError as exc:
            raise Internal(f"{where} lacks what a definition must have: {exc}. Restore it from a backup, or remove the VM (state: absent).") from exc
        made._require_kinds(where)
        return made

    def _require_kinds(self, where: str) -> None:
        """Whoever reads a definition may rely on its kinds of values: an edited file is told from ours here, and not by a crash far away."""
        wrong = [key for key in _TEXTS if not isinstance(getattr(self, key), str)]
        wrong += [key for key in _TREES if not isinstance(getattr(self, key), dict)]
        wrong += [key for key in _SWITCHES if not isinstance(getattr(self, key), bool)]
        if "config" not in wrong and not all(_are_entries(self.config.get(key)) for key in ("storage", "network")):
            wrong.append("config")
        wrong += ["group"] if not isinstance(self.group, (str, type(None))) else []
        if self.backend not in BACKENDS and "backend" not in wrong:
            wrong.append("backend")
        if wrong:
            shown = ", ".join(f"{key} is {getattr(self, key)!r:.60}" for key in sorted(wrong))
            raise Internal(f"{where} is not a definition of ours: {shown}. Restore it from a backup, or remove the VM (state: absent).")


def _are_entries(value: t.Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(entry, dict) for entry in value))
