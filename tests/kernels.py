# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernels that are none: files which carry the marks of a kernel, packed in every way in which distributions pack theirs."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import subprocess

VERSION = "6.1.0-99-test-amd64"
CONFIG = "# CONFIG_A is not set\nCONFIG_VIRTIO_BLK=m\nCONFIG_EXT4_FS=y\nCONFIG_PVH=y\nCONFIG_HW_RANDOM_VIRTIO=y\n"
BY_PYTHON = ("gzip", "bzip2", "lzma", "xz")
# The kernel's own build calls these programs so (scripts/Makefile.lib).
BY_PROGRAM = {"lz4": ("lz4", "-l", "-9", "-c", "-"), "lzo": ("lzop", "-9", "-c"), "zstd": ("zstd", "-22", "--ultra", "-q", "-c")}


def body(version: str = VERSION, config: str = "") -> bytes:
    """What every kernel holds somewhere: its version, and perhaps its configuration."""
    packed = b"IKCFG_ST" + gzip.compress(config.encode()) + b"IKCFG_ED" if config else b""
    return b"Linux version %s\0" % b"%s" + f"Linux version {version} (builder@host) #1 SMP\n\0".encode() + packed + bytes(range(256)) * 512


def vmlinux(version: str = VERSION, *, pvh: bool = True, machine: int = 62, config: str = "") -> bytes:
    """An ELF of 64 bits with one segment and, perhaps, a PVH note."""
    note = struct.pack("<III", 4, 8, 18 if pvh else 1) + b"Xen\0" + struct.pack("<Q", 0x1000000)
    content = body(version, config)
    start = 64 + 2 * 56
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = identity + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0x1000000, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    notes = struct.pack("<IIQQQQQQ", 4, 4, start, 0, 0, len(note), len(note), 4)
    load = struct.pack("<IIQQQQQQ", 1, 5, start + len(note), 0x1000000, 0x1000000, len(content), len(content), 4096)
    return header + notes + load + note + content


def arm64_image(version: str = VERSION) -> bytes:
    head = bytearray(64)
    head[0:2], head[0x38:0x3C] = b"MZ", b"ARMd"
    return bytes(head) + body(version)


def compress(content: bytes, how: str) -> bytes:
    """As the kernel's build does it, without the length that it appends."""
    if how in BY_PROGRAM:
        return subprocess.run(BY_PROGRAM[how], input=content, capture_output=True, check=True).stdout
    return {
        "gzip": lambda: gzip.compress(content, mtime=0),
        "bzip2": lambda: bz2.compress(content),
        "lzma": lambda: lzma.compress(content, format=lzma.FORMAT_ALONE),
        "xz": lambda: lzma.compress(content, check=lzma.CHECK_CRC32, filters=[{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "dict_size": 1 << 25}]),
        "none": lambda: content,
    }[how]()


def _payload(content: bytes, how: str) -> bytes:
    """Gzip ends with the length itself; what is not compressed needs none."""
    return compress(content, how) + (b"" if how in ("gzip", "none") else struct.pack("<I", len(content)))


def bzimage(content: bytes, how: str, *, version: str = VERSION, setup_sectors: int = 15, protocol: int = 0x20F) -> bytes:
    """The layout of the x86 boot protocol: setup code with a header, then code that unpacks, in which the payload lies."""
    setup = bytearray((setup_sectors + 1) * 512)
    payload = _payload(content, how)
    before = b"\x90" * 777
    setup[0:2] = b"MZ"
    setup[0x1F1] = setup_sectors
    setup[0x1FE:0x200] = b"\x55\xaa"
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, protocol)
    struct.pack_into("<H", setup, 0x20E, 0x1000 - 0x200)
    struct.pack_into("<II", setup, 0x248, len(before), len(payload))
    text = f"{version} (builder@host) #1 SMP\0".encode()
    setup[0x1000 : 0x1000 + len(text)] = text
    return bytes(setup) + before + payload + b"\xcc" * 999


def zboot(content: bytes, how: str) -> bytes:
    """An EFI program that unpacks an arm64 kernel (the kernel's zboot-header.S)."""
    payload = _payload(content, how)
    head = bytearray(0x400)
    head[0:2], head[4:8] = b"MZ", b"zimg"
    struct.pack_into("<II", head, 8, len(head), len(payload))
    head[24 : 24 + len(how)] = how.encode()
    return bytes(head) + payload + b"\xcc" * 333
