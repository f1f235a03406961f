# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an ELF file says of itself, as far as VMMs ask. Standard library only."""

from __future__ import annotations

import struct
import typing as t

from ...errors import FailedPrecondition
from ..files import os_errors

_MACHINES = {62: "x86_64", 183: "aarch64"}
_PT_NOTE = 4
# XEN_ELFNOTE_PHYS32_ENTRY: the 32-bit entry by which Firecracker, Cloud Hypervisor and QEMU start a kernel without a boot loader (PVH).
_XEN_PHYS32_ENTRY = 18
_NOTES_MAX_BYTES = 1 << 20


class Elf(t.NamedTuple):
    architecture: str
    pvh: bool


def read(path: str, what: str) -> Elf:
    """FailedPrecondition for one of another machine, or a torn one."""
    with os_errors(f"read {path}"), open(path, "rb") as stream:
        try:
            head = stream.read(64)
            if head[4] != 2 or head[5] != 1:
                raise FailedPrecondition(f"{what} is an ELF, but not one of 64 bits, little-endian.")
            machine = struct.unpack_from("<H", head, 18)[0]
            table, size, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<HH", head, 54)
            if machine not in _MACHINES:
                raise FailedPrecondition(f"{what} is an ELF of another machine (number {machine}), not of x86_64 or aarch64.")
            notes = []
            for index in range(count):
                stream.seek(table + index * size)
                header = stream.read(56)
                if struct.unpack_from("<I", header)[0] == _PT_NOTE:
                    notes.append((struct.unpack_from("<Q", header, 8)[0], struct.unpack_from("<Q", header, 32)[0]))
            return Elf(_MACHINES[machine], any(_has_pvh(stream, offset, length) for offset, length in notes))
        except (struct.error, IndexError, OverflowError) as exc:
            raise FailedPrecondition(f"{what} is an ELF that ends too early. Fetch it again, and give its checksum.") from exc


def _has_pvh(stream: t.BinaryIO, offset: int, length: int) -> bool:
    stream.seek(offset)
    body = stream.read(min(length, _NOTES_MAX_BYTES))
    position = 0
    while position + 12 <= len(body):
        name_size, data_size, kind = struct.unpack_from("<III", body, position)
        name = body[position + 12 : position + 12 + name_size]
        if kind == _XEN_PHYS32_ENTRY and name.rstrip(b"\0") == b"Xen":
            return True
        position += 12 + (name_size + 3) // 4 * 4 + (data_size + 3) // 4 * 4
    return False
