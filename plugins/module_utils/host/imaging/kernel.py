# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes the kernel itself out of what distributions wrap it in, so that every VMM can boot it. Standard library only.

x86: a bzImage is a small program before a compressed ELF (C(vmlinux)); its header says where that lies (Linux, Documentation/arch/x86/boot.rst).
arm64: an C(Image), which may be compressed whole, or packed as an EFI program (C(zboot): drivers/firmware/efi/libstub/zboot-header.S).
"""

from __future__ import annotations

import dataclasses
import os
import re
import struct

from ...errors import FailedPrecondition
from ..files import os_errors, remove
from . import kernel_elf
from .unpack import compression, read_head, unpack
from .work import CHUNK_BYTES, SparseWriter, Work

_VERSION = re.compile(rb"Linux version ([0-9][!-~]{0,127}) ")
_HEADER_BYTES = 1 << 16
# In the order of what is tried when a bzImage does not say where its payload is (boot protocol before 2.08).
_OVERLAP = 256


@dataclasses.dataclass(frozen=True)
class Kernel:
    """C(format): C(elf), C(arm64-image), C(bzimage). C(version): C(6.1.0-44-cloud-amd64), empty where it is not to be found. C(packed): how it was packed."""

    format: str
    architecture: str
    version: str
    pvh: bool
    packed: str = ""


def extract(path: str, target: str, work: Work, what: str) -> Kernel:
    """Writes the uncompressed kernel in C(path) to the new file C(target), and says what it is.

    FailedPrecondition for what is no Linux kernel of x86_64 or arm64."""
    packed = _peel(path, target, work, what)
    return dataclasses.replace(describe(target, what), packed=packed)


def _peel(path: str, target: str, work: Work, what: str) -> str:
    """Unwraps what is wrapped, at most twice (an EFI program in a gzip file). The names of the wrappings, for people."""
    head = read_head(path, _HEADER_BYTES)
    how = compression(head)
    if how and not _is_kernel(head):
        inner = work.path("kernel.inner")
        unpack(path, inner, how, work, what)
        try:
            return f"{how} {_peel_once(inner, target, work, what)}".strip()
        finally:
            remove(inner)
    return _peel_once(path, target, work, what)


def _peel_once(path: str, target: str, work: Work, what: str) -> str:
    head = read_head(path, _HEADER_BYTES)
    if _is_kernel(head):
        _copy_range(path, 0, os.path.getsize(path), target, work, what)
        return ""
    if head[0x202:0x206] == b"HdrS":
        start, length = _bzimage_payload(head, what)
        outer = "bzimage"
    elif head[:2] == b"MZ" and head[4:8] == b"zimg":
        start, length = struct.unpack_from("<II", head, 8)
        outer = "efi-zboot"
    else:
        raise FailedPrecondition(
            f"{what} is no kernel: neither an ELF, nor a bzImage, nor an arm64 Image, also not compressed. Is it a kernel of x86_64 or arm64, and not a disk?"
        )
    payload = work.path("kernel.payload")
    _copy_range(path, start, length, payload, work, what)
    try:
        return f"{outer} {_unpack_payload(payload, target, work, what)}".strip()
    finally:
        remove(payload)


def _bzimage_payload(head: bytes, what: str) -> tuple[int, int]:
    protocol = struct.unpack_from("<H", head, 0x206)[0]
    if protocol < 0x208:
        raise FailedPrecondition(f"{what} is a bzImage of a kernel before 2.6.26, which says not where its payload is. Take a newer kernel.")
    setup_sectors = head[0x1F1] or 4
    offset, length = struct.unpack_from("<II", head, 0x248)
    return (setup_sectors + 1) * 512 + offset, length


def _unpack_payload(payload: str, target: str, work: Work, what: str) -> str:
    head = read_head(payload)
    how = compression(head)
    if not how:
        if _is_kernel(read_head(payload, _HEADER_BYTES)):
            _copy_range(payload, 0, os.path.getsize(payload), target, work, what)
            return ""
        raise FailedPrecondition(f"{what} holds a kernel compressed by something unknown ({head[:6].hex()}).")
    if how != "gzip":
        # The build appends the length of what comes out, which only gzip's own format ends with.
        with os_errors(f"write {payload}"), open(payload, "r+b") as stream:
            stream.truncate(max(0, os.path.getsize(payload) - 4))
    unpack(payload, target, how, work, what)
    if not _is_kernel(read_head(target, _HEADER_BYTES)):
        remove(target)
        raise FailedPrecondition(f"What {what} holds ({how}) is no kernel.")
    return how


def _copy_range(path: str, start: int, length: int, target: str, work: Work, what: str) -> None:
    with os_errors(f"read {path}"), open(path, "rb") as stream, SparseWriter(target, work, what) as out:
        stream.seek(start)
        while out.size < length and (chunk := stream.read(min(CHUNK_BYTES, length - out.size))):
            work.left_s(f"reading {what}")
            out.write(chunk)
        if out.size < length:
            raise FailedPrecondition(f"{what} ends too early: its kernel of {length} bytes is cut off. Fetch it again, and give its checksum.")


def _is_kernel(head: bytes) -> bool:
    return head.startswith(b"\x7fELF") or head[0x38:0x3C] == b"ARMd"


def describe(path: str, what: str) -> Kernel:
    """What kernel the file is, also one that is packed still. FailedPrecondition for none."""
    head = read_head(path, _HEADER_BYTES)
    if head.startswith(b"\x7fELF"):
        elf = kernel_elf.read(path, what)
        return Kernel("elf", elf.architecture, _find_version(path), elf.pvh)
    if head[0x38:0x3C] == b"ARMd":
        return Kernel("arm64-image", "aarch64", _find_version(path), False)
    if head[0x202:0x206] == b"HdrS":
        return Kernel("bzimage", "x86_64", _bzimage_version(head), False, "bzimage")
    if compression(head) or head[4:8] == b"zimg":
        return Kernel("arm64-image", "aarch64", "", False, compression(head) or "efi-zboot")
    raise FailedPrecondition(f"{what} is no kernel.")


def _bzimage_version(head: bytes) -> str:
    offset = struct.unpack_from("<H", head, 0x20E)[0] + 0x200
    text = head[offset : offset + 200].split(b"\0")[0].decode("latin-1")
    return text.split(" ")[0] if text.isprintable() else ""


def _find_version(path: str) -> str:
    """As the kernel prints it first of all."""
    tail = b""
    with os_errors(f"read {path}"), open(path, "rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            match = _VERSION.search(tail + chunk)
            if match:
                return match[1].decode("latin-1")
            tail = chunk[-_OVERLAP:]
    return ""
