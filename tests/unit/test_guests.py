# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests of the tests, as files. That they run is shown by the contract tests."""

from __future__ import annotations

import pathlib
import shutil
import struct
import subprocess

import pytest

from ansible_collections.unkey.vmcp.tests import guests, linux_guest


@pytest.mark.parametrize("then", guests.THEN)
def test_a_loader_finds_the_entry_in_the_note(then: str) -> None:
    elf = guests.pvh_guest("hello, wörld", then)
    assert elf[:4] == b"\x7fELF"
    programs = [struct.unpack_from("<IIQQQQQQ", elf, 64 + 56 * index) for index in range(2)]
    (load_type, _flags, offset, _virtual, address, file_size, memory_size, _align), (note_type, _f, note_at, *_rest) = programs
    assert (load_type, offset, address, file_size) == (1, 0, 1 << 20, len(elf))
    assert memory_size > file_size
    assert note_type == 4
    name_size, value_size, kind, name, entry = struct.unpack_from("<III4sQ", elf, note_at)
    assert (name_size, value_size, kind, name) == (4, 8, 18, b"Xen\0")
    assert elf[entry - address] == 0xFA  # cli
    assert "hello, wörld\r\n\0".encode() in elf
    assert len(elf) < 2048


def test_an_archive_is_one_that_cpio_reads(tmp_path: pathlib.Path) -> None:
    archive = linux_guest._newc("dir", 0o040755) + linux_guest._newc("dir/file", 0o100644, b"five!") + linux_guest._newc("TRAILER!!!", 0)
    assert len(archive) % 4 == 0
    assert archive.count(b"070701") == 3
    cpio = shutil.which("cpio")
    if cpio is None:
        pytest.skip("there is no cpio to read the archive")
    subprocess.run([cpio, "-i", "--quiet"], input=archive, cwd=tmp_path, check=True, timeout=150)
    assert (tmp_path / "dir" / "file").read_bytes() == b"five!"


def test_modules_come_after_those_they_need(tmp_path: pathlib.Path) -> None:
    modules = tmp_path / "lib/modules/1/kernel/drivers"
    modules.mkdir(parents=True)
    for name, needs in {"virtio_blk": "virtio,virtio_ring", "virtio": "virtio_ring", "virtio_ring": ""}.items():
        (modules / f"{name}.ko").write_bytes(b"x\0depends=" + needs.encode() + b"\0y")
    found: dict[str, bytes] = {}
    linux_guest._collect_module(tmp_path, "virtio_blk", found)
    assert list(found) == ["virtio_ring.ko", "virtio.ko", "virtio_blk.ko"]
