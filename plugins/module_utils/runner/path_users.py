# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VMs name which files and devices of the user's by C(path): a disk is written to by one VM at a time, whoever made it, and whatever part of it.

Definitions are gone through once for all VMs of a task, and only where one of them gets a path that it has not had. Reads only, standard library only."""

from __future__ import annotations

import itertools
import json
import typing as t

from ..errors import VmcpError
from ..host.block_devices import BlockDevices, Standing
from ..host.files import read_bytes
from ..host.store import Store

Entries = t.Iterable[t.Mapping[str, t.Any]]


class Other(t.NamedTuple):
    """Another VM that has the same bytes. C(path): by which name it has them."""

    vm: str
    read_only: bool
    path: str


class PathUsers:
    """What C(claim) is told counts as well as what is stored. C(but): VMs that do not count."""

    def __init__(self, store: Store, but: t.Container[str] = (), devices: t.Optional[BlockDevices] = None) -> None:
        self._store = store
        self._but = but
        self._devices = devices or BlockDevices()
        self._standings: dict[str, Standing] = {}
        # Users in order, by what they name, and by all that stands below it; those that write come first.
        self._users: dict[tuple[bool, str], list[Other]] = {}
        self._above: dict[tuple[bool, str], list[Other]] = {}
        self._claimed: list[tuple[str, Entries]] = []
        self._is_read = False

    def others(self, path: str, *but: t.Optional[str]) -> tuple[Other, ...]:
        """Other VMs than C(but) that name the same file or device, a part of it, or what it is a part of: one that writes, where there is one, else one that
        reads."""
        if not self._is_read:
            self._is_read = True
            self._read()
        while self._claimed:
            self._add(*self._claimed.pop())
        one = self._standing(path)
        for reads in (False, True):
            named = (self._users.get((reads, what), ()) for what in (one.identity, *sorted(one.below)))
            for user in itertools.chain(*named, self._above.get((reads, one.identity), ())):
                if user.vm not in but:
                    return (user,)
        return ()

    def claim(self, vm: str, entries: Entries) -> None:
        """No file is looked at until somebody asks."""
        self._claimed.append((vm, entries))

    def _add(self, vm: str, entries: Entries) -> None:
        for entry in entries:
            if entry.get("path") is not None:
                user = Other(vm, bool(entry.get("read_only")), str(entry["path"]))
                one = self._standing(user.path)
                self._users.setdefault((user.read_only, one.identity), []).append(user)
                for what in one.below:
                    self._above.setdefault((user.read_only, what), []).append(user)

    def _standing(self, path: str) -> Standing:
        if path not in self._standings:
            self._standings[path] = self._devices.standing(path)
        return self._standings[path]

    def _read(self) -> None:
        for name in (name for name in self._store.names() if name not in self._but):
            for path in self._store.in_force(name):
                self._add(name, _storage(path))


def fresh_paths(entries: Entries, had: Entries) -> set[str]:
    """Paths of C(entries) that were not among those that the VM C(had), or may be written to now and were not before."""
    had = list(had)
    written = {entry.get("path") for entry in had if not entry.get("read_only")}
    read = {entry.get("path") for entry in had}
    named = [entry for entry in entries if entry.get("path") is not None and entry["path"] not in written]
    return {str(entry["path"]) for entry in named if not (entry.get("read_only") and entry["path"] in read)}


def _storage(file: str) -> list[dict[str, t.Any]]:
    """Without judging the rest of the definition, which takes longer; one that cannot be read names nothing, and vmcp_vm_info reports it."""
    try:
        config = json.loads(read_bytes(file, trusted=True))["config"]
        return [entry for entry in config.get("storage") or [] if isinstance(entry, dict)]
    except (FileNotFoundError, VmcpError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return []
