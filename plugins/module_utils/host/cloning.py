# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy-on-write clones of files: shared extents where the file system has them, else only what holds data. By descriptors, standard library only.

The caller opens both files, so that root follows no link on the way."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import stat
import typing as t

from ..errors import FailedPrecondition
from .files import os_errors

FICLONE = 0x40049409
# What file systems say that cannot share extents, or not between these two files.
_CANNOT_SHARE = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM)
_CHUNK = 1 << 20
_QCOW2 = b"QFI\xfb"
# Bit 2 of the incompatible features: the data are in another file.
_EXTERNAL_DATA = 1 << 2


@dataclasses.dataclass(frozen=True)
class Cloned:
    """C(method): C(reflink) or C(copy). C(saved_bytes): of the clone's virtual size, what it does not take on the host."""

    method: str
    saved_bytes: int


def clone(source: int, target: int, *, doing: str, reflink: bool = True) -> Cloned:
    """The bytes of one open file in another, empty one; holes stay holes. FailedPrecondition when there is no room."""
    size = size_of(source)
    with os_errors(doing):
        if reflink and _share(source, target):
            return Cloned("reflink", size)
        _copy_data(source, target, size)
        os.ftruncate(target, size)
        return Cloned("copy", max(0, size - allocated(target)))


def size_of(fd: int) -> int:
    """Of a file or block device."""
    return os.lseek(fd, 0, os.SEEK_END)


def allocated(fd: int) -> int:
    return os.fstat(fd).st_blocks * 512


def _share(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError as exc:
        if exc.errno in _CANNOT_SHARE:
            return False
        raise
    return True


def _copy_data(source: int, target: int, size: int) -> None:
    position = 0
    while position < size:
        try:
            begin = os.lseek(source, position, os.SEEK_DATA)
            end = os.lseek(source, begin, os.SEEK_HOLE)
        except OSError as exc:
            if exc.errno == errno.ENXIO:  # only holes from here on
                return
            if exc.errno != errno.EINVAL:
                raise
            begin, end = position, size  # knows nothing of holes
        _copy_range(source, target, begin, min(end, size))
        position = end


def _copy_range(source: int, target: int, begin: int, end: int) -> None:
    in_kernel = True
    while begin < end:
        if in_kernel:
            try:
                copied = os.copy_file_range(source, target, min(end - begin, 64 * _CHUNK), begin, begin)
            except OSError as exc:
                if exc.errno not in _CANNOT_SHARE:
                    raise
                copied = 0
            if copied:
                begin += copied
                continue
            in_kernel = False
        body = os.pread(source, min(_CHUNK, end - begin), begin)
        if not body:
            return
        if body.count(0) < len(body):  # zeroes that somebody wrote out are a hole in the clone
            os.pwrite(target, body, begin)
        begin += len(body)


def write_sparse(fd: int, body: bytes) -> None:
    """A small file's bytes, zeroes as holes."""
    step = 4096
    for begin in range(0, len(body), step):
        piece = body[begin : begin + step]
        if piece.count(0) < len(piece):
            os.pwrite(fd, piece, begin)
    os.ftruncate(fd, len(body))


def require_regular(fd: int, path: str) -> None:
    """FailedPrecondition for what is no file, and for one that has a second name: whoever made that may have meant somebody else's file."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise FailedPrecondition(f"{path} is no regular file with one name, so it is none of unkey.vmcp's. Remove it and run the task again.")


def refuse_other_files(fd: int, path: str, backing: t.Optional[str] = None) -> None:
    """A qcow2 file must not lead to another one: whoever opens it would read that with their own rights. C(backing): the one file that it may.

    FailedPrecondition; also for what is no qcow2 file."""
    head = os.pread(fd, 104, 0)
    if head[:4] != _QCOW2 or len(head) < 72:
        raise FailedPrecondition(f"{path} is not a qcow2 image. Correct its format.")
    version, offset, length = (int.from_bytes(head[a:b], "big") for a, b in ((4, 8), (8, 16), (16, 20)))
    if offset:
        named = os.pread(fd, min(length, 1023), offset).decode("utf-8", "replace")
        if named != backing:
            shown = "".join(c if c.isprintable() else "?" for c in named)
            raise FailedPrecondition(
                f"{path} reads from another file ({shown}), and an image may lead to no other. Flatten it first: qemu-img convert -O qcow2 OLD NEW."
            )
    if version >= 3 and int.from_bytes(head[72:80], "big") & _EXTERNAL_DATA:
        raise FailedPrecondition(f"{path} keeps its data in another file, and an image may lead to no other. Put them into one: qemu-img convert.")


def virtual_size(fd: int, format_: str) -> int:
    """What a guest sees of it, in bytes."""
    return int.from_bytes(os.pread(fd, 8, 24), "big") if format_ == "qcow2" else size_of(fd)
