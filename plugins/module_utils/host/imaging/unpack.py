# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes off what a file is compressed with, by what it begins with and not by its name. Standard library, else the distribution's tool."""

from __future__ import annotations

import bz2
import lzma
import typing as t
import zlib

from ...errors import FailedPrecondition
from ..files import os_errors
from . import tools
from .work import CHUNK_BYTES, Source, SparseWriter, Work, opened

_MAGICS = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\x04\x22\x4d\x18", "lz4"),
    # The format of the lz4 tool's first years, which kernels are packed in still.
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"\x89LZO\x00\x0d\x0a\x1a\x0a", "lzo"),
    # The old .lzma has no magic number: its most common settings do (lc/lp/pb by default, a dictionary of a power of two).
    (b"\x5d\x00\x00", "lzma"),
)
_TOOLS = {"zstd": ("zstd", "-q", "-d", "-c", "--long=31"), "lz4": ("lz4", "-q", "-d", "-c"), "lzo": ("lzop", "-q", "-d", "-c")}
HEAD_BYTES = 64


def compression(head: bytes) -> str:
    """C(gzip), C(xz)…, empty for what is not compressed. C(head): the first bytes of a file."""
    return next((name for magic, name in _MAGICS if head.startswith(magic)), "")


def read_head(path: Source, size: int = HEAD_BYTES) -> bytes:
    with os_errors(f"read {path}"), opened(path) as stream:
        return stream.read(size)


def unpacked(path: Source, how: str, work: Work, what: str) -> t.Iterator[bytes]:
    """The content, piece by piece. FailedPrecondition where it ends too early or is not what it seemed."""
    doing = f"unpacking {what} ({how})"
    with os_errors(f"read {path}"), opened(path) as source:
        if how in _TOOLS:
            yield from tools.stream(_TOOLS[how], work, doing, source)
        else:
            yield from _by_library(source, how, work, doing)


def _by_library(source: t.BinaryIO, how: str, work: Work, doing: str) -> t.Iterator[bytes]:
    """Any number of streams one after the other, as gzip, xz and bzip2 allow; zeros may follow the last."""
    decoder, is_begun, has_any = _decoder(how), False, False
    while rest := source.read(CHUNK_BYTES):
        while rest:
            work.left_s(doing)
            if not is_begun:
                rest = rest.lstrip(b"\0") if has_any else rest
                if not rest:
                    break
            try:
                piece = decoder.decompress(rest, CHUNK_BYTES)
                is_begun, has_any = True, True
                if piece:
                    yield piece
                rest = yield from _drain(decoder, how)
            except (zlib.error, lzma.LZMAError, OSError, EOFError) as exc:
                raise FailedPrecondition(f"{doing}: it is damaged: {exc}. Fetch it again, and give its checksum.") from exc
            if decoder.eof:
                rest, decoder, is_begun = decoder.unused_data, _decoder(how), False
    if is_begun or not has_any:
        raise FailedPrecondition(f"{doing}: it ends too early. Fetch it again, and give its checksum.")


def _drain(decoder: t.Any, how: str) -> t.Generator[bytes, None, bytes]:
    """What the decoder has still to give of the input that it took. C(b""): it took all."""
    while not decoder.eof:
        if how == "gzip":
            if not decoder.unconsumed_tail:
                break
            piece = decoder.decompress(decoder.unconsumed_tail, CHUNK_BYTES)
        else:
            if decoder.needs_input:
                break
            piece = decoder.decompress(b"", CHUNK_BYTES)
        if piece:
            yield piece
    return b""


def _decoder(how: str) -> t.Any:
    if how == "gzip":
        return zlib.decompressobj(wbits=31)
    if how == "bzip2":
        return bz2.BZ2Decompressor()
    # Bounded: a hostile header may ask for gigabytes.
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ if how == "xz" else lzma.FORMAT_ALONE, memlimit=1 << 30)


def unpack(path: str, target: str, how: str, work: Work, what: str) -> None:
    """Writes the content of C(path) to the new file C(target), with holes where there are zeros."""
    with SparseWriter(target, work, what) as out:
        beat = work.beat(f"unpacking {what}")
        for piece in unpacked(path, how, work, what):
            out.write(piece)
            beat(out.size)
