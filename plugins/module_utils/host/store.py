# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The VMs of this host as files: definitions, secrets, and the run-time copies beside them. Standard library only; on the no-change path.

Reads take no lock. Writers hold the VM's lock (C(locks)).
"""

from __future__ import annotations

import json
import os
import re
import typing as t

from ..errors import FailedPrecondition, Internal, InvalidArgument, NotFound, Violation
from ..model.definition import Definition
from ..model.words import NAME_PATTERN
from .files import keep_former, os_errors, read_json, read_text, remove, write_atomic
from .following import definition_text
from .processes import current
from .trees import ensure_dir, give_below

if t.TYPE_CHECKING:
    from .layout import Layout, VmLayout

SECRETS_SCHEMA = 1
_NAME = re.compile(NAME_PATTERN)
# A directory that is being removed.
REMOVING = ".removing-"


class Store:
    """The definitions below one state directory. InvalidArgument for one that can be no path."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        # Looked at once a task, not for each of its VMs.
        self._has_top = False
        for option, path in (("state_dir", layout.state_dir), ("run_dir", layout.run_dir)):
            if "\0" in path:
                raise InvalidArgument.of([Violation(option, "contains a NUL character, so it can be no path. Remove it.")])

    # --- definitions ----------------------------------------------------------------------------------
    def names(self) -> list[str]:
        """Every VM that has a definition, readable or not, sorted."""
        with os_errors(f"list {self.layout.vms}"):
            try:
                entries = os.listdir(self.layout.vms)
            except FileNotFoundError:
                return []
        return sorted(name for name in entries if _NAME.fullmatch(name) and os.path.lexists(self.layout.vm(name).definition))

    def load(self, name: str) -> Definition | None:
        """None when there is no such VM. As C(Definition.from_json) for a torn or newer file; FailedPrecondition for one that another user can write."""
        return self.read(name, self.layout.vm(name).definition)

    def says_protected(self, name: str) -> bool:
        """Whether a definition that this version cannot read (a newer schema, a field of another shape) still says that its VM is protected."""
        try:
            body = json.loads(read_text(self.layout.vm(name).definition))
        except (FileNotFoundError, ValueError, RecursionError, FailedPrecondition):
            return False
        return isinstance(body, dict) and body.get("protected") is True

    def booted(self, name: str) -> Definition | None:
        """The definition with which the running process was started, where it is not the stored one; else None."""
        return self.read(name, self.layout.vm(name).booted)

    def in_force(self, name: str) -> tuple[str, ...]:
        """Files of the definitions that a VM goes by: what is stored, and what it was started with while that runs. What has ended has only left it behind."""
        vm = self.layout.vm(name)
        runs = os.path.exists(vm.booted) and current(vm) is not None
        return (vm.definition, vm.booted) if runs else (vm.definition,)

    def read(self, name: str, path: str) -> Definition | None:
        """A definition of the VM, in one of its files. As C(load)."""
        vm = self.layout.vm(name)
        try:
            text = definition_text(vm) if path == vm.definition else read_text(path, trusted=True)
        except FileNotFoundError:
            return None
        definition = Definition.from_json(text, path)
        if definition.name != name:
            raise Internal(f"{path} is the definition of a VM {definition.name!r}. Restore it from a backup, or remove the VM (state: absent).")
        return definition

    def has_remains(self, name: str) -> bool:
        """Whether anything of the VM is on the host, also what a killed run left half made or half removed."""
        vm = self.layout.vm(name)
        return any(os.path.lexists(path) for path in (vm.dir, vm.run, f"{self.layout.vms}/{REMOVING}{name}"))

    def has_only_data(self, name: str) -> bool:
        """Whether C(data) is all that there is of the VM, as after a removal that kept it."""
        vm = self.layout.vm(name)
        with os_errors(f"list {vm.dir}"):
            try:
                return os.listdir(vm.dir) == ["data"] and not os.path.lexists(vm.run)
            except FileNotFoundError:
                return False

    def nearest_names(self, name: str, count: int = 3) -> list[str]:
        """Existing names like this one, nearest first."""
        import difflib

        return difflib.get_close_matches(name, self.names(), n=count, cutoff=0.5)

    def not_found(self, name: str, doing: str) -> NotFound:
        """The error for a VM that is not there: the directory searched, the nearest name or those that there are, and when become would see more."""
        near = self.nearest_names(name)
        names = self.names()
        there = f"There are {', '.join(names[:10])}{' and more' if len(names) > 10 else ''}." if names else "There is none yet."
        hint = f"Did you mean {near[0]!r}?" if near else there
        hint += self._become()
        return NotFound(f"Cannot {doing} {name!r}: no such VM in {self.layout.vms}. {hint}", details={"searched": [self.layout.vms], "nearest": near})

    def searched(self) -> str:
        """Where VMs are looked for, and when become would see more, in a sentence or two."""
        return f"Searched {self.layout.vms}.{self._become()}"

    def _become(self) -> str:
        return " VMs made as root are seen with become: true only." if os.geteuid() != 0 and not self.layout.is_system else ""

    def save(self, definition: Definition) -> None:
        """Writes vm.json atomically, and makes the VM's directories where they are missing. The definition of a running process is kept as
        C(booted) until it ends."""
        vm = self.layout.vm(definition.name)
        self.ensure_dirs(vm, definition.generated.get("uid"))
        text = definition.to_json()
        self.keep_booted(definition.name, text)
        write_atomic(vm.definition, text)

    def keep_booted(self, name: str, text: str) -> None:
        """Before C(vm.json) becomes C(text): keeps, as C(booted), the definition of a process that runs."""
        vm = self.layout.vm(name)
        if current(vm) is not None:
            keep_former(vm.definition, vm.booted, text)

    def ensure_dirs(self, vm: VmLayout, uid: int | None, *, sync: bool = True) -> None:
        """0711, so that a uid reaches its own data and sees nothing else; C(data) belongs to the VM's uid alone. C(sync) as for C(ensure_dir)."""
        if not self._has_top:
            ensure_dir(self.layout.state_dir, 0o711)
            ensure_dir(self.layout.vms, 0o711)
            self._has_top = True
        ensure_dir(vm.dir, 0o711, sync=sync)
        owner = -1 if uid is None else uid
        before = os.stat(vm.data).st_uid if os.path.isdir(vm.data) else uid
        ensure_dir(vm.data, 0o700, uid=owner, gid=owner, sync=sync)
        if uid is not None and before != uid:
            give_below(vm.data, uid)

    # --- secrets --------------------------------------------------------------------------------------
    def secrets(self, name: str) -> dict[str, t.Any]:
        """The secret values of a VM (C(metadata), C(cloud_init)); {} when it has none. Never part of a result."""
        return dict(self._secrets_body(name).get("values", {}))

    def secrets_digest(self, name: str, values: t.Mapping[str, t.Any]) -> str | None:
        """Keyed digest of C(values) with this VM's key, to compare and report without the values. None when the VM has no key yet."""
        key = self._secrets_body(name).get("key")
        return _digest(key, values) if key else None

    def save_secrets(self, name: str, values: t.Mapping[str, t.Any]) -> str:
        """Writes the values, readable by root alone, and returns their digest."""
        vm = self.layout.vm(name)
        text, _digests = self.secrets_text(name, values)
        ensure_dir(vm.dir, 0o711)
        write_atomic(vm.secrets, text)
        return str(self.secrets_digest(name, values))

    def secrets_text(self, name: str, values: t.Mapping[str, t.Any]) -> tuple[str, dict[str, str]]:
        """What is to stand in C(VmLayout.secrets), and for each of the values its digest, as C(secrets_digest) gives it. The key is made once per VM and
        stays."""
        import secrets

        key = self._secrets_body(name).get("key") or secrets.token_hex(32)
        text = json.dumps({"schema": SECRETS_SCHEMA, "key": key, "values": dict(values)}, sort_keys=True) + "\n"
        return text, {name: _digest(key, {name: value}) for name, value in values.items()}

    def _secrets_body(self, name: str) -> dict[str, t.Any]:
        path = self.layout.vm(name).secrets
        try:
            body = read_json(path)
        except FileNotFoundError:
            return {}
        if not isinstance(body, dict) or not isinstance(body.get("schema"), int) or body["schema"] > SECRETS_SCHEMA:
            raise FailedPrecondition(f"{path} was written by a newer unkey.vmcp. Run the task with that version of the collection.")
        return body

    # --- the no-change path ---------------------------------------------------------------------------
    def satisfied(self, name: str) -> dict[str, t.Any] | None:
        """The cache of what was last found in agreement. It is only a cache: anything unreadable is None."""
        try:
            body = json.loads(read_text(self.layout.vm(name).satisfied))
        except (FileNotFoundError, ValueError, FailedPrecondition):
            return None
        return body if isinstance(body, dict) else None

    def save_satisfied(self, name: str, body: t.Mapping[str, t.Any] | None) -> None:
        """Writes the cache, or drops it (None). Not synced: it does not outlive the host's boot anyhow."""
        vm = self.layout.vm(name)
        if body is None:
            with os_errors(f"remove {vm.satisfied}"):
                remove(vm.satisfied)
            return
        ensure_dir(vm.run, 0o711, sync=False)
        write_atomic(vm.satisfied, json.dumps(dict(body), sort_keys=True) + "\n", sync=False)


def _digest(key: str, values: t.Mapping[str, t.Any]) -> str:
    import hashlib
    import hmac

    text = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hmac.new(bytes.fromhex(key), text.encode(), hashlib.sha256).hexdigest()


def unfinished(layout: Layout) -> list[str]:
    """Names of VMs whose removal is under way, or was cut off."""
    with os_errors(f"list {layout.vms}"):
        try:
            entries = os.listdir(layout.vms)
        except FileNotFoundError:
            return []
    return sorted(entry.removeprefix(REMOVING) for entry in entries if entry.startswith(REMOVING) and _NAME.fullmatch(entry.removeprefix(REMOVING)))
