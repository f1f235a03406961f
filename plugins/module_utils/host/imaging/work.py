# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all steps in making an image share: a directory, bounds, a deadline, and somebody who is told how far it is. Standard library only."""

from __future__ import annotations

import dataclasses
import os
import time
import typing as t

from ...errors import DeadlineExceeded, FailedPrecondition
from ...model.units import format_size
from ..files import os_errors, remove

CHUNK_BYTES = 1 << 20
# What a hole is made of: the smallest that file systems allot, times what makes looking cheap.
_BLOCK_BYTES = 1 << 16
_ZEROS = bytes(_BLOCK_BYTES)

# A file's path, or a descriptor of it, which is read from its beginning.
Source = t.Union[str, int]


def _nobody(doing: str, done: int, total: int) -> None:
    """Nobody is told."""


@dataclasses.dataclass(frozen=True)
class Work:
    """C(deadline): a C(time.monotonic()) value for the whole task. C(tell): what is being done, and bytes done of total (0: not known)."""

    dir: str
    max_size: int
    deadline: float
    deadline_s: float
    tell: t.Callable[[str, int, int], None] = _nobody

    def path(self, name: str) -> str:
        return f"{self.dir}/{name}"

    def left_s(self, doing: str) -> float:
        """Seconds until the deadline. DeadlineExceeded when there are none."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded(f"{doing}: not done after {self.deadline_s:.0f} s. Raise 'timeout', or look at why it takes so long.")
        return left

    def beat(self, doing: str, total: int = 0) -> t.Callable[[int], None]:
        """To be called with the bytes done, now and then."""

        def beat(done: int) -> None:
            self.left_s(doing)
            self.tell(doing, done, total)

        return beat

    def refuse_over(self, size: int, what: str) -> None:
        """FailedPrecondition when it is larger than C(max_size)."""
        if size > self.max_size:
            raise FailedPrecondition(
                f"{what} is {format_size(size)}, more than max_size allows ({format_size(self.max_size)}). Raise max_size if you trust where it comes from."
            )

    def require_room(self, size: int, what: str) -> None:
        """FailedPrecondition where the file system has less than C(size) bytes free."""
        status = os.statvfs(self.dir)
        free = status.f_bavail * status.f_frsize
        if size > free:
            where = "the file system of images" if self.dir == "." else self.dir
            raise FailedPrecondition(
                f"{what} takes {format_size(size)}, and {where} has {format_size(free)} free. Free space there, or move state_dir to another file system."
            )


def opened(source: Source) -> t.BinaryIO:
    """To be read from the beginning, unbuffered. OSError as it comes."""
    if isinstance(source, int):
        os.lseek(source, 0, os.SEEK_SET)
        return t.cast("t.BinaryIO", open(source, "rb", buffering=0, closefd=False))
    return t.cast("t.BinaryIO", open(source, "rb", buffering=0))


class SparseWriter:
    """A new file in which blocks of zeros are holes. Never longer than the work's C(max_size). Removed again when its with-block fails."""

    def __init__(self, path: str, work: Work, what: str) -> None:
        self.path = path
        self.size = 0
        self._work = work
        self._what = what
        self._fd = -1

    def __enter__(self) -> SparseWriter:
        with os_errors(f"write {self.path}"):
            remove(self.path)
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        return self

    def write(self, data: t.Union[bytes, memoryview]) -> None:
        view = memoryview(data)
        self._work.refuse_over(self.size + len(view), f"{self._what}, unpacked,")
        with os_errors(f"write {self.path}"):
            while view:
                # To the next block's border, so that blocks fall on those of the file system whatever pieces come in.
                piece = view[: _BLOCK_BYTES - self.size % _BLOCK_BYTES]
                if piece != _ZEROS[: len(piece)]:
                    self._write_at(piece)
                self.size += len(piece)
                view = view[len(piece) :]

    def _write_at(self, piece: memoryview) -> None:
        position = self.size
        while piece:
            written = os.pwrite(self._fd, piece, position)
            piece, position = piece[written:], position + written

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        try:
            if kind is None:
                with os_errors(f"write {self.path}"):
                    os.ftruncate(self._fd, self.size)
        finally:
            os.close(self._fd)
            if kind is not None:
                remove(self.path)


def copy_file(source: str, target: str, work: Work, doing: str) -> None:
    """A copy with holes where there are zeros. C(source) may be somebody else's file: what does not end at max_size (a device) does not go on for ever.

    FileNotFoundError when it is not there."""
    with os_errors(f"read {source}"), open(source, "rb", buffering=0) as stream, SparseWriter(target, work, source) as out:
        beat = work.beat(doing, os.fstat(stream.fileno()).st_size)
        while chunk := stream.read(CHUNK_BYTES):
            out.write(chunk)
            beat(out.size)
