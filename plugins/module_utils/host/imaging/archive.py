# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads tar archives as a stream, compressed or not, however hostile. Standard library, and the distribution's tools for what that cannot unpack."""

from __future__ import annotations

import contextlib
import tarfile
import typing as t

from ...errors import FailedPrecondition
from ..files import os_errors
from .tree import Tree
from .unpack import compression, read_head, unpacked
from .work import CHUNK_BYTES, Source, Work
from .work import opened as opened_file

_HEADERS_MAX_BYTES = 8 << 20
_HEADERS = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_BLOCK_BYTES = 512
HEAD_BYTES = 2048


class _Entry(tarfile.TarInfo):
    """Some entries are but long names and attributes of the next one, which tarfile reads whole into memory. Their length is judged as the header is read,
    when its type is set, which follows its size: what reads a header is a private matter of tarfile, and another one since its repairs of 2026."""

    _type = tarfile.REGTYPE

    @property
    def type(self) -> bytes:
        return self._type

    @type.setter
    def type(self, value: bytes) -> None:
        if self.size < 0 or (value in _HEADERS and self.size > _HEADERS_MAX_BYTES):
            raise FailedPrecondition(f"It has an entry whose name or attributes take {self.size} bytes, so it is refused.")
        self._type = value


class _Stream:
    """A file to be read once, of pieces."""

    def __init__(self, pieces: t.Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int) -> bytes:
        parts, left = [self._rest], size - len(self._rest)
        while left > 0 and (piece := next(self._pieces, b"")):
            parts.append(piece)
            left -= len(piece)
        body = b"".join(parts)
        self._rest = body[size:]
        return body[:size]


def beginning(path: str, how: str, work: Work, what: str) -> bytes:
    """The first bytes of what a compressed file holds."""
    pieces = unpacked(path, how, work, what)
    try:
        body = b""
        while len(body) < HEAD_BYTES and (piece := next(pieces, b"")):
            body += piece
        return body[:HEAD_BYTES]
    finally:
        t.cast("t.Any", pieces).close()


def is_tar_head(head: bytes) -> bool:
    """Whether what begins so is a tar archive, by its first header."""
    if head[257:262] == b"ustar":
        return True
    try:
        tarfile.TarInfo.frombuf(head[:_BLOCK_BYTES], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


@contextlib.contextmanager
def opened(path: Source, work: Work, what: str) -> t.Iterator[tarfile.TarFile]:
    """The archive, to be gone through once from its beginning. FailedPrecondition for what is none."""
    how = compression(read_head(path))
    pieces = unpacked(path, how, work, what) if how else _plain(path)
    try:
        # Errors are errors, also those that tarfile would pass over.
        with tarfile.open(fileobj=t.cast("t.Any", _Stream(pieces)), mode="r|", errorlevel=2, tarinfo=_Entry) as archive:
            yield archive
    except (tarfile.TarError, EOFError, ValueError) as exc:
        raise FailedPrecondition(f"{what} is no tar archive, or a damaged one: {exc}. Fetch it again, and give its checksum.") from exc
    finally:
        t.cast("t.Any", pieces).close()


def _plain(path: Source) -> t.Iterator[bytes]:
    with os_errors(f"read {path}"), opened_file(path) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def forget(archive: tarfile.TarFile) -> None:
    """What tarfile keeps of each entry for a later look at it, which nobody takes: hostile archives have many."""
    t.cast("t.Any", archive).members = []


def unpack_tree(path: Source, tree: Tree, work: Work, what: str) -> None:
    """All entries of an archive into the tree."""
    with opened(path, work, what) as archive:
        for member in archive:
            tree.add(member, archive)
            forget(archive)
    tree.finish()
