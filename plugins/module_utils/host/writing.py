# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are written together, of one VM or of many, durably and in order. Standard library only.

All are written beside their names first and synced; then those of rank 0 get their names, which is synced, and then those of rank 1. After a power
failure each file is the old one or the new one, and one of rank 1 (a definition) is new only when all of rank 0 (what follows from it) are. For many
files one C(syncfs) does what an C(fsync) for each would.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t

from .files import is_as, os_errors, remove, sync_dir, sync_file, write_temporary

# An fsync takes some tenths of a millisecond, syncfs tens of them, and it waits for what others have written too.
FEW_FILES = 16
RANKS = (0, 1)


@dataclasses.dataclass(frozen=True)
class FileText:
    """A file as it is to be. C(gid) -1: whatever group new files get."""

    path: str
    text: str
    mode: int = 0o600
    gid: int = -1


class Writing:
    """The files of one VM. Nothing has its name before C(commit)."""

    def __init__(self) -> None:
        self.temporaries: dict[int, list[tuple[str, str]]] = {rank: [] for rank in RANKS}
        self.late: list[tuple[str, str]] = []

    def add(self, file: FileText, rank: int = 0, until: t.Optional[str] = None) -> None:
        """C(until): the name that it has until all have theirs; a loss of power may leave it that, so somebody else must know it by it."""
        self.temporaries[rank].append((write_temporary(file.path, file.text, mode=file.mode, gid=file.gid), until or file.path))
        if until is not None:
            self.late.append((until, file.path))

    def add_if_different(self, file: FileText) -> None:
        if not is_as(file.path, file.text, file.mode, file.gid):
            self.add(file)

    def abandon(self) -> None:
        for listed in self.temporaries.values():
            for temporary, _path in listed:
                remove(temporary)


def are_few(files: int) -> bool:
    """Whether so many files are better synced one by one."""
    return files <= FEW_FILES


def commit(writings: t.Sequence[Writing], root: str) -> None:
    """C(root): a directory of the file system on which all of it is. FailedPrecondition when that has no room or fails; nothing of a rank has its name then
    unless all before it have."""
    listed = {rank: [pair for writing in writings for pair in writing.temporaries[rank]] for rank in RANKS}
    few = are_few(sum(len(pairs) for pairs in listed.values()))
    with os_errors(f"write below {root}"):
        try:
            _sync([temporary for pairs in listed.values() for temporary, _path in pairs], sync_file, root, few)
            for pairs in listed.values():
                for temporary, path in pairs:
                    os.rename(temporary, path)
                if pairs:
                    _sync(sorted({os.path.dirname(path) for _temporary, path in pairs}), sync_dir, root, few)
        except OSError:
            for writing in writings:
                writing.abandon()
            raise
        for writing in writings:
            for until, path in writing.late:
                # Whoever knows it by that name may have given it its own by now.
                with contextlib.suppress(FileNotFoundError):
                    os.rename(until, path)


def _sync(paths: t.Sequence[str], sync_one: t.Callable[[str], None], root: str, few: bool) -> None:
    if not paths:
        return
    if few or not sync_file_system(root):
        for path in paths:
            sync_one(path)


def sync_file_system(root: str) -> bool:
    """Makes all that was written to the file system of C(root) durable. False where the C library has no syncfs."""
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "syncfs"):
        return False
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if library.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), root)
    finally:
        os.close(fd)
    return True
