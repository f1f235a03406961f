# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VMs name a disk, by their definitions and by those with which their processes were started. Reads only, standard library only."""

from __future__ import annotations

import typing as t

from ..capabilities.catalogue import grows_live
from ..errors import VmcpError
from ..host import processes
from ..host.files import read_text
from ..host.store import Store
from ..model.definition import Definition
from ..planner.disk_situation import DiskUser
from .managed_files import ManagedFiles


def users_of(
    store: Store, name: str, path: t.Optional[str] = None, *, format_: str = "raw", but: t.Collection[str] = (), files: t.Optional[ManagedFiles] = None
) -> tuple[DiskUser, ...]:
    """VMs with an entry C({disk: name}), or a C(path) that leads to its file, by name. C(but): VMs that do not count. A definition that cannot be read
    names nothing. C(files): of whoever asks for many disks."""
    found = []
    known = files or ManagedFiles(store)

    def uses(entry: t.Mapping[str, t.Any]) -> bool:
        return known.disk_of(entry) == name or (path is not None and entry.get("path") == path)

    for vm in store.names():
        if vm in but:
            continue
        user = _user(store, vm, uses, format_, mark_of(name))
        if user is not None:
            found.append(user)
    return tuple(found)


_Uses = t.Callable[[t.Mapping[str, t.Any]], bool]


def mark_of(disk: str) -> str:
    """What the mark of a restart says while a VM is down for its disk."""
    return f"disk {disk}"


def _user(store: Store, vm: str, uses: _Uses, format_: str, mark: str) -> t.Optional[DiskUser]:
    stored, booted = _read(store.load, vm), _read(store.booted, vm)
    runs = processes.current(store.layout.vm(vm)) is not None
    # What runs has what it was started with, whatever the definition has become.
    has = _entry(booted or stored, uses) if runs else None
    named = has or _entry(stored, uses)
    if named is None:
        return None
    running = booted or stored
    live = has is not None and running is not None and grows_live(running.backend, running.backend_version, format_)
    interrupted = not runs and _marked(store.layout.vm(vm).restarting) == mark
    return DiskUser(vm, str(named.get("id")), bool(named.get("read_only")), runs=has is not None, live=live, interrupted=interrupted)


def _marked(file: str) -> str:
    """What the mark says; one of another restart is none of ours to finish."""
    try:
        return read_text(file, trusted=True)
    except (OSError, VmcpError):
        return ""


def _read(load: t.Callable[[str], t.Optional[Definition]], vm: str) -> t.Optional[Definition]:
    try:
        return load(vm)
    except VmcpError:
        # vmcp_vm_info reports it.
        return None


def _entry(definition: t.Optional[Definition], uses: _Uses) -> t.Optional[dict[str, t.Any]]:
    for entry in (definition.config.get("storage") or []) if definition else []:
        if uses(entry):
            return dict(entry)
    return None
