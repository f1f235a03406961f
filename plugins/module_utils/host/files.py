# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of root's: written atomically, read and removed without following links. Standard library only; on the no-change path."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import typing as t

from ..errors import FailedPrecondition, Internal

_REMEDIES = {
    errno.EACCES: "Run the task with become: true, or choose a state_dir that you may write.",
    errno.EPERM: "Run the task with become: true, or choose a state_dir that you may write.",
    errno.ENOSPC: "Free space on that file system, or move state_dir to another one, and run the task again.",
    errno.EDQUOT: "Raise the quota or free space, and run the task again.",
    errno.EROFS: "Remount the file system writable, or choose another state_dir.",
    errno.ELOOP: "Root does not follow links there: replace the link by what it points to.",
}


@contextlib.contextmanager
def os_errors(doing: str) -> t.Iterator[None]:
    """Turns an OSError into FailedPrecondition with a remedy. C(doing) completes the sentence "Cannot …".

    FileNotFoundError passes through: absence is an answer that callers look for."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as exc:
        where = f" ({exc.filename})" if isinstance(exc.filename, str) else ""
        remedy = _REMEDIES.get(exc.errno or 0, "Look at the host's file system and run the task again.")
        raise FailedPrecondition(f"Cannot {doing}: {exc.strerror or exc}{where}. {remedy}") from exc


def write_atomic(path: str, data: str | bytes, *, mode: int = 0o600, uid: int = -1, gid: int = -1, sync: bool = True) -> None:
    """Replaces C(path) so that a reader sees the old file or the new one, also after a power failure (C(sync)). Mode and owner
    are set before the name appears."""
    temporary = write_temporary(path, data, mode=mode, uid=uid, gid=gid, sync=sync)
    with os_errors(f"write {path}"):
        try:
            os.rename(temporary, path)
        except OSError:
            remove(temporary)
            raise
        if sync:
            sync_dir(os.path.dirname(path))


def write_temporary(path: str, data: str | bytes, *, mode: int = 0o600, uid: int = -1, gid: int = -1, sync: bool = False) -> str:
    """The first half of C(write_atomic): a file beside C(path), whole, which only has to be renamed. Its name; nothing is left where it fails."""
    body = data.encode() if isinstance(data, str) else data
    parent, base = os.path.split(path)
    # The name is ours alone while we hold the VM's or the host's lock; O_EXCL refuses what somebody else planted.
    temporary = os.path.join(parent, f".{base}.{os.getpid()}.tmp")
    with os_errors(f"write {path}"):
        _remove_abandoned(parent, base)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                _write_all(fd, body)
                if uid != -1 or gid != -1:
                    os.fchown(fd, uid, gid)
                os.fchmod(fd, mode)
                if sync:
                    os.fsync(fd)
            finally:
                os.close(fd)
        except OSError:
            remove(temporary)
            raise
    return temporary


def write_plain(path: str, data: str) -> None:
    """Writes a small file of a VM's run time in one write, without a temporary name and without syncing."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _write_all(fd, data.encode())
    finally:
        os.close(fd)


def _remove_abandoned(parent: str, base: str) -> None:
    """Temporary files of writers of this file that were killed before they gave it its name, and one that has our own pid."""
    prefix = f".{base}."
    for name in os.listdir(parent):
        if name.startswith(prefix) and name.endswith(".tmp"):
            writer = name[len(prefix) : -len(".tmp")]
            if writer.isdecimal() and (int(writer) == os.getpid() or not os.path.exists(f"/proc/{writer}")):
                remove(os.path.join(parent, name))


def write_if_different(path: str, data: str, *, mode: int = 0o600, gid: int = -1) -> bool:
    """As C(write_atomic), but leaves a file alone that is equal, also in mode and group. True when written."""
    if is_as(path, data, mode, gid):
        return False
    write_atomic(path, data, mode=mode, gid=gid)
    return True


def is_as(path: str, data: str, mode: int, gid: int) -> bool:
    """Whether the file is there with this text, mode and (unless -1) group."""
    try:
        if read_text(path) != data:
            return False
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_IMODE(status.st_mode) == mode and gid in (-1, status.st_gid)


def keep_former(path: str, kept: str, data: str) -> None:
    """Gives the file C(path) a second name before it becomes C(data), unless one before it has that name already."""
    with os_errors(f"keep {path}"):
        try:
            if read_text(path) != data:
                os.link(path, kept, follow_symlinks=False)
                sync_dir(os.path.dirname(kept))
        except (FileNotFoundError, FileExistsError):
            return


def _write_all(fd: int, body: bytes) -> None:
    view = memoryview(body)
    while view:
        view = view[os.write(fd, view) :]


def remove(path: str) -> None:
    """Removes a file; one that is not there is fine."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def listed(path: str) -> list[str]:
    """Names in a directory; none where there is no such directory."""
    with os_errors(f"list {path}"):
        try:
            return os.listdir(path)
        except FileNotFoundError:
            return []


def sync_dir(path: str) -> None:
    """Makes names in the directory durable."""
    _sync(path, os.O_DIRECTORY)


def sync_file(path: str) -> None:
    """Makes what is in the file durable."""
    _sync(path, os.O_NOFOLLOW)


def _sync(path: str, flags: int) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_bytes(path: str, *, max_bytes: int = 16 << 20, trusted: bool = False) -> bytes:
    """A regular file's bytes. C(trusted): what it says is acted on, so it must be ours or root's; FailedPrecondition otherwise.

    FileNotFoundError when absent; FailedPrecondition for a link, a directory, a FIFO (which would block), or more than C(max_bytes): none of our own
    files is that long."""
    with os_errors(f"read {path}"):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise FailedPrecondition(f"{path} is not a regular file, so it is none of unkey.vmcp's. Remove it and run the task again.")
            if trusted and status.st_uid not in (0, os.geteuid()):
                raise FailedPrecondition(
                    f"{path} belongs to uid {status.st_uid}, and what another user can write is not acted on. "
                    "Run the task as that user, or give the file to root."
                )
            chunks: list[bytes] = []
            left = max_bytes + 1
            while left > 0 and (chunk := os.read(fd, min(left, 1 << 16))):
                chunks.append(chunk)
                left -= len(chunk)
        finally:
            os.close(fd)
    if left <= 0:
        raise FailedPrecondition(f"{path} is longer than {max_bytes} bytes, so it is none of unkey.vmcp's. Remove it and run the task again.")
    return b"".join(chunks)


def read_text(path: str, *, max_bytes: int = 16 << 20, trusted: bool = False) -> str:
    """As C(read_bytes), decoded; undecodable bytes are replaced, because what reads it (JSON) then says what is wrong."""
    return read_bytes(path, max_bytes=max_bytes, trusted=trusted).decode("utf-8", "replace")


def read_kernel(path: str) -> str:
    """A file of /proc or /sys, whole. OSError as it comes: there an absent file or ESRCH is an answer."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(fd, 1 << 16):
            chunks.append(chunk)
    finally:
        os.close(fd)
    return b"".join(chunks).decode("utf-8", "surrogateescape")


def last_lines(path: str, count: int, *, max_bytes: int = 16384) -> list[str]:
    """The end of a log, for messages: at most C(count) lines out of the last C(max_bytes); [] when there is none to be read. Control characters that a
    guest may have printed are dropped, so that they cannot act on the user's terminal."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            size = os.fstat(fd).st_size
            body = os.pread(fd, max_bytes, max(0, size - max_bytes))
        finally:
            os.close(fd)
    except OSError:
        # A link, a socket, not ours to see: what the lines were to illustrate must be told all the same.
        return []
    text = body.lstrip(b"\0").decode("utf-8", "replace").replace("\r", "")
    lines = ["".join(c for c in line if c == "\t" or c.isprintable()) for line in text.split("\n")]
    return [line for line in lines if line.strip()][-count:]


def ensure_file(path: str, mode: int, uid: int) -> None:
    """Makes an empty file, or leaves the one that is there as it is but for its owner."""
    with os_errors(f"make the file {path}"):
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            if os.fstat(fd).st_uid != uid:
                os.fchown(fd, uid, uid)
        finally:
            os.close(fd)


def read_json(path: str) -> t.Any:
    """A JSON file of ours. FileNotFoundError when absent; Internal, naming the file, when it is torn."""
    import json

    try:
        return json.loads(read_text(path))
    except ValueError as exc:
        raise Internal(f"{path} is not readable JSON ({exc}). Restore it from a backup or remove it, and run the task again.") from exc
