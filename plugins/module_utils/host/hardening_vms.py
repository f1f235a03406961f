# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the VMs of a host stand: what hardening.py asks of the host, asked of them. Looks at definitions and directories; standard library only."""

from __future__ import annotations

import collections
import os
import typing as t

from ..errors import VmcpError
from .hardening import NOT_OK, OK, UNKNOWN

if t.TYPE_CHECKING:
    from ..model.definition import Definition
    from .store import Store

_SHOWN = 5


def audit_vms(store: Store) -> list[dict[str, t.Any]]:
    """In the form of C(hardening.audit); C(by_role) is always false: VMs are their users'. Empty without VMs."""
    definitions: list[Definition] = []
    unread: list[str] = []
    for name in store.names():
        try:
            definition = store.load(name)
        except VmcpError:
            unread.append(name)
            continue
        if definition is not None:
            definitions.append(definition)
    if not definitions and not unread:
        return []
    return [
        _item("vm_jail", "a VMM that was taken over sees its own files only", *_without(definitions, unread, "jail"), "Leave out security.jail=false."),
        _item(
            "vm_seccomp", "a VMM that was taken over asks little of the kernel", *_without(definitions, unread, "seccomp"), "Leave out security.seccomp=false."
        ),
        _item("vm_uids", "VMs cannot touch each other's files", *_uids(definitions, unread), "Run tasks as root, and leave out security.uid."),
        _item(
            "vm_directories",
            "root reads nothing that a VM can write",
            *_directories(store, [d.name for d in definitions] + unread),
            "Remove write access of others and of the group from it.",
        ),
    ]


def _item(name: str, good_for: str, status: str, why: str, remedy: str) -> dict[str, t.Any]:
    return {"item": name, "status": status, "why": why, "remedy": "" if status == OK else remedy, "good_for": good_for, "by_role": False}


def _named(names: t.Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _verdict(wrong: t.Sequence[str], unread: t.Sequence[str], text: str, good: str) -> tuple[str, str]:
    if wrong:
        return NOT_OK, text.format(_named(wrong))
    if unread:
        return UNKNOWN, f"The definitions of {_named(unread)} cannot be read."
    return OK, good


def _without(definitions: t.Sequence[Definition], unread: t.Sequence[str], field: str) -> tuple[str, str]:
    wrong = [d.name for d in definitions if d.security.get(field) is False]
    return _verdict(wrong, unread, f"Without {field}, as their definitions say: {{}}.", f"No VM is without {field}.")


def _uids(definitions: t.Sequence[Definition], unread: t.Sequence[str]) -> tuple[str, str]:
    counted = collections.Counter(d.generated.get("uid") for d in definitions)
    wrong = [d.name for d in definitions if (uid := d.generated.get("uid")) in (None, 0) or counted[uid] > 1]
    return _verdict(wrong, unread, "Without a uid of their own: {}.", "Every VM has a uid of its own.")


def _directories(store: Store, names: t.Sequence[str]) -> tuple[str, str]:
    wrong = []
    for name in names:
        try:
            status = os.lstat(store.layout.vm(name).dir)
        except OSError:
            # Removed meanwhile.
            continue
        if status.st_mode & 0o022 or status.st_uid != os.geteuid():
            wrong.append(name)
    return _verdict(wrong, (), "Others than we can write the directories of: {}.", "The directories of VMs are ours alone to write.")
