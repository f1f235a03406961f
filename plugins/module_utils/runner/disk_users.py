# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VMs name a disk, by their definitions and by those with which their processes were started. Reads only, standard library only."""

from __future__ import annotations

import typing as t

from ..capabilities.catalogue import grows_live
from ..errors import VmcpError
from ..host import processes
from ..host.store import Store
from ..model.definition import Definition
from ..planner.disks import DiskUser


def users_of(store: Store, name: str, path: t.Optional[str] = None, *, format_: str = "raw", but: t.Collection[str] = ()) -> tuple[DiskUser, ...]:
    """VMs with an entry C({disk: name}), or C({path: path}), by name. C(but): VMs that do not count. A definition that cannot be read names nothing."""
    found = []
    for vm in store.names():
        if vm in but:
            continue
        user = _user(store, vm, name, path, format_)
        if user is not None:
            found.append(user)
    return tuple(found)


def _user(store: Store, vm: str, name: str, path: t.Optional[str], format_: str) -> t.Optional[DiskUser]:
    stored, booted = _read(store.load, vm), _read(store.booted, vm)
    runs = processes.current(store.layout.vm(vm)) is not None
    # What runs has what it was started with, whatever the definition has become.
    has = _entry(booted or stored, name, path) if runs else None
    named = has or _entry(stored, name, path)
    if named is None:
        return None
    running = booted or stored
    live = has is not None and running is not None and grows_live(running.backend, running.backend_version, format_)
    return DiskUser(vm, str(named.get("id")), bool(named.get("read_only")), runs=has is not None, live=live)


def _read(load: t.Callable[[str], t.Optional[Definition]], vm: str) -> t.Optional[Definition]:
    try:
        return load(vm)
    except VmcpError:
        # vmcp_vm_info reports it.
        return None


def _entry(definition: t.Optional[Definition], name: str, path: t.Optional[str]) -> t.Optional[dict[str, t.Any]]:
    for entry in (definition.config.get("storage") or []) if definition else []:
        if entry.get("disk") == name or (path is not None and entry.get("path") == path):
            return dict(entry)
    return None
