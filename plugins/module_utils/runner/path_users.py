# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VMs name which files and devices of the user's by C(path): a disk is written to by one VM at a time, whoever made it.

Definitions are gone through once for all VMs of a task, and only where one of them gets a path that it has not had. Reads only, standard library only."""

from __future__ import annotations

import json
import os
import stat
import typing as t

from ..errors import VmcpError
from ..host.files import read_bytes
from ..host.store import Store

Entries = t.Iterable[t.Mapping[str, t.Any]]


class PathUsers:
    """What C(claim) is told counts as well as what is stored. C(but): VMs that do not count."""

    def __init__(self, store: Store, but: t.Container[str] = ()) -> None:
        self._store = store
        self._but = but
        self._identities: dict[str, str] = {}
        # VMs by what they name, in order: those that write, and all.
        self._writers: dict[str, dict[str, None]] = {}
        self._users: dict[str, dict[str, None]] = {}
        self._claimed: list[tuple[str, Entries]] = []
        self._is_read = False

    def others(self, path: str, *but: t.Optional[str]) -> tuple[tuple[str, bool], ...]:
        """Other VMs than C(but) that name the same file or device, each with whether it only reads: one that writes, where there is one, else one that
        reads."""
        if not self._is_read:
            self._is_read = True
            self._read()
        while self._claimed:
            self._add(*self._claimed.pop())
        what = self._identity(path)
        for users, only_reads in ((self._writers, False), (self._users, True)):
            for other in users.get(what, ()):
                if other not in but:
                    return ((other, only_reads),)
        return ()

    def claim(self, vm: str, entries: Entries) -> None:
        """No file is looked at until somebody asks."""
        self._claimed.append((vm, entries))

    def _add(self, vm: str, entries: Entries) -> None:
        for entry in entries:
            if entry.get("path") is not None:
                what = self._identity(str(entry["path"]))
                self._users.setdefault(what, {})[vm] = None
                if not entry.get("read_only"):
                    self._writers.setdefault(what, {})[vm] = None

    def _identity(self, path: str) -> str:
        if path not in self._identities:
            self._identities[path] = identity(path)
        return self._identities[path]

    def _read(self) -> None:
        for name in (name for name in self._store.names() if name not in self._but):
            for path in self._store.in_force(name):
                self._add(name, _storage(path))


def identity(path: str) -> str:
    """The same for all names of a file or device: links of both kinds, and nodes of one device. What is not there yet is known by its name."""
    real = os.path.realpath(path)
    try:
        found = os.stat(real)
    except OSError:
        return real
    return f"device {found.st_rdev}" if stat.S_ISBLK(found.st_mode) else f"file {found.st_dev} {found.st_ino}"


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
