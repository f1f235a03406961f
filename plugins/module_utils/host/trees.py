# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories of root's and what is below them: made, handed over and removed without following links. Standard library only; on the no-change path.

Everything below a VM's C(data) directory can be written by the VM's uid, so a name in there may be a link to anything by the time root
looks at it. Such paths are opened component by component with O_NOFOLLOW, and removed through directory descriptors.
"""

from __future__ import annotations

import contextlib
import os
import stat
import typing as t

from ..errors import FailedPrecondition
from .files import os_errors, read_kernel, sync_dir


def ensure_dir(path: str, mode: int, *, uid: int = -1, gid: int = -1, sync: bool = True) -> bool:
    """Makes the directory and its parents (0755). Mode and owner of the last one are corrected through a descriptor. True when anything changed.

    C(sync) false: the caller sees to it that it is durable, or it does not outlive the host's boot."""
    made = False
    with os_errors(f"make the directory {path}"):
        parent = os.path.dirname(path)
        if parent and not os.path.isdir(parent):
            ensure_dir(parent, 0o755, sync=sync)
        try:
            os.mkdir(path, 0o700)
            made = True
        except FileExistsError:
            pass
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            status = os.fstat(fd)
            owner = (status.st_uid if uid == -1 else uid, status.st_gid if gid == -1 else gid)
            if owner != (status.st_uid, status.st_gid):
                os.fchown(fd, *owner)
                made = True
            if stat.S_IMODE(status.st_mode) != mode:
                os.fchmod(fd, mode)
                made = True
        finally:
            os.close(fd)
        if made and parent and sync:
            sync_dir(parent)
    return made


def give_below(root: str, uid: int) -> None:
    """Gives everything below C(root) to C(uid) and the gid of the same number. By descriptors, and never through a link: another uid made it."""
    with os_errors(f"give what is below {root} to uid {uid}"):
        for _path, directories, names, fd in os.fwalk(root, follow_symlinks=False):
            for name in (*directories, *names):
                os.chown(name, uid, uid, dir_fd=fd, follow_symlinks=False)


def open_beneath(root: str, relative: str, flags: int, mode: int = 0o600) -> int:
    """Opens a file below C(root) without following a link in any component. The descriptor is the caller's to close.

    FileNotFoundError when absent; FailedPrecondition for a link or for a path that would leave C(root)."""
    parts = relative.split("/")
    if not relative or any(part in ("", ".", "..") for part in parts):
        raise FailedPrecondition(f"{relative!r} is not a path below {root}. Give it without '..', '.' and leading or double '/'.")
    with os_errors(f"open {relative} in {root}"):
        directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            for part in parts[:-1]:
                inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory)
                os.close(directory)
                directory = inner
            return os.open(parts[-1], flags | os.O_CLOEXEC | os.O_NOFOLLOW, mode, dir_fd=directory)
        finally:
            os.close(directory)


def mount_points() -> tuple[str, ...]:
    """All of this namespace. A bind mount of the same file system has the same device number, so st_dev alone does not tell."""
    lines = read_kernel("/proc/self/mountinfo").splitlines()
    return tuple(line.split(" ", 5)[4].replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\") for line in lines)


def mounts_below(path: str, points: t.Optional[t.Sequence[str]] = None) -> list[str]:
    """Mount points at or below C(path), among C(points) where they have been read already."""
    if points is not None and not points:
        return []
    real = os.path.realpath(path)
    return [point for point in (mount_points() if points is None else points) if point == real or point.startswith(real + "/")]


def refuse_mounted(path: str, points: t.Optional[t.Sequence[str]]) -> None:
    """FailedPrecondition when something is mounted at or below C(path), which is to be removed: it is not ours. C(points): as for C(mounts_below)."""
    mounted = mounts_below(path, points)
    if mounted:
        raise FailedPrecondition(f"{mounted[0]} is a mount point, so {path} is not removed. Unmount it and run the task again.")


def remove_tree(path: str, *, sync: bool = True, points: t.Optional[t.Sequence[str]] = None) -> bool:
    """Removes a directory and all below it; links are removed, never followed. False when it was not there. C(sync) false: the caller sees to it that this
    is durable. C(points): as for C(mounts_below).

    FailedPrecondition when something is mounted at or below it: what is mounted there is not ours."""
    refuse_mounted(path, points)
    parent, base = os.path.split(path)
    with os_errors(f"remove {path}"):
        try:
            directory = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            try:
                status = os.stat(base, dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                return False
            _remove_entry(directory, base, status.st_dev, path)
            if sync:
                os.fsync(directory)
        finally:
            os.close(directory)
    return True


def remove_below(path: str, *, points: t.Optional[t.Sequence[str]] = None) -> None:
    """Removes all below a directory, and leaves the directory; that it is not there is fine. As C(remove_tree), not synced."""
    refuse_mounted(path, points)
    with os_errors(f"remove what is in {path}"), contextlib.suppress(FileNotFoundError):
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            _remove_entries(directory, os.fstat(directory).st_dev, path)
        finally:
            os.close(directory)


def _remove_entry(directory: int, name: str, device: int, shown: str) -> None:
    """Most are files: whether it is a directory is known by trying, which follows no link either."""
    with contextlib.suppress(FileNotFoundError):
        try:
            os.unlink(name, dir_fd=directory)
        except IsADirectoryError:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=directory)
            try:
                if os.fstat(inner).st_dev != device:
                    raise FailedPrecondition(f"{shown} is a mount point, so it is not removed. Unmount it and run the task again.") from None
                _remove_entries(inner, device, shown)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=directory)


def _remove_entries(directory: int, device: int, shown: str) -> None:
    for entry in os.listdir(directory):
        _remove_entry(directory, entry, device, f"{shown}/{entry}")


def name_in(directory: str, temporary: str, name: str, sync: bool) -> None:
    """Renames a file into a directory that is not ours, following no link to it. OSError as it comes."""
    place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.rename(temporary, name, dst_dir_fd=place)
        if sync:
            os.fsync(place)
    finally:
        os.close(place)
