# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import bz2
import dataclasses
import gzip
import lzma
import os
import pathlib
import shutil
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import DeadlineExceeded, FailedPrecondition
from ansible_collections.unkey.vmcp.plugins.module_utils.host import tools as host_tools
from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging import tools
from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging.unpack import compression, unpack
from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging.work import Work
from ansible_collections.unkey.vmcp.tests import kernels

CONTENT = os.urandom(100_000) + bytes(3 << 20) + b"end"
LIBRARY: dict[str, t.Callable[[bytes], bytes]] = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}
PROGRAMS = [pytest.param(how, marks=pytest.mark.skipif(not shutil.which(how), reason=f"the program {how} is not installed")) for how in ("zstd", "lz4")]


def pack(content: bytes, how: str) -> bytes:
    return LIBRARY[how](content) if how in LIBRARY else kernels.compress(content, how)


def unpacked(work: Work, packed: bytes) -> bytes:
    path, target = pathlib.Path(work.path("given")), pathlib.Path(work.path("target"))
    path.write_bytes(packed)
    unpack(str(path), str(target), compression(packed), work, "given")
    return target.read_bytes()


@pytest.mark.parametrize("how", [*LIBRARY, *PROGRAMS])
def test_what_was_packed_comes_out(work: Work, how: str) -> None:
    packed = pack(CONTENT, how)
    assert compression(packed) == how
    assert unpacked(work, packed) == CONTENT
    # Where there are zeros there is nothing.
    assert os.stat(work.path("target")).st_blocks * 512 < 300_000


@pytest.mark.parametrize("how", LIBRARY)
def test_several_streams_and_padding(work: Work, how: str) -> None:
    assert unpacked(work, pack(b"one", how) + pack(CONTENT, how) + bytes(512)) == b"one" + CONTENT


@pytest.mark.parametrize("how", [*LIBRARY, *PROGRAMS])
def test_what_is_cut_off_or_damaged_leaves_nothing(work: Work, how: str) -> None:
    packed = pack(CONTENT, how)
    # The lz4 format of kernels carries no checksum.
    damaged = [packed[:50_000] + b"damage" * 10 + packed[50_060:]] if how != "lz4" else []
    for spoiled in (packed[:-20], packed[: len(packed) // 2], *damaged):
        with pytest.raises(FailedPrecondition, match=r"ends too early|damaged|(zstd|lz4) ended with \d+"):
            unpacked(work, spoiled)
        assert not os.path.exists(work.path("target"))


@pytest.mark.parametrize("how", [*LIBRARY, *PROGRAMS])
def test_a_bomb_is_stopped(work: Work, how: str) -> None:
    with pytest.raises(FailedPrecondition, match=r"given, unpacked, is .* more than max_size allows \(8MiB\)"):
        unpacked(work, pack(bytes(16 << 20), how))
    assert not os.path.exists(work.path("target"))


def test_a_dictionary_of_gigabytes_is_refused(work: Work) -> None:
    # Only what the decoder would have to keep is changed: 4 GiB less one byte.
    packed = lzma.compress(b"x" * 100, format=lzma.FORMAT_ALONE)
    path = pathlib.Path(work.path("given"))
    path.write_bytes(packed[:1] + b"\xff\xff\xff\xff" + packed[5:])
    with pytest.raises(FailedPrecondition, match=r"damaged: Memory usage limit"):
        unpack(str(path), work.path("target"), "lzma", work, "given")


def test_a_missing_program_is_named(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_tools, "_PATH", ("/nowhere",))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(FailedPrecondition, match=r"program zstd is missing on this host. Install the package zstd\."):
        unpacked(work, b"\x28\xb5\x2f\xfd" + bytes(100))
    with pytest.raises(FailedPrecondition, match=r"Install the package qemu-utils \(Debian"):
        tools.find("qemu-img")


def test_a_program_that_hangs_is_ended(work: Work) -> None:
    hurried = dataclasses.replace(work, deadline=time.monotonic() + 0.3, deadline_s=0.3)
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"waiting: (sleep was )?not done after"):
        tools.run(["sleep", "60"], hurried, "waiting")
    with pytest.raises(DeadlineExceeded), open("/dev/null", "rb") as nothing:
        list(tools.stream(["sleep", "60"], dataclasses.replace(work, deadline=time.monotonic() + 0.3), "waiting", nothing))
    assert time.monotonic() - began < 50


def test_a_program_that_fails_is_quoted(work: Work) -> None:
    with pytest.raises(FailedPrecondition, match=r"looking: ls ended with 2: .*/nowhere/at/all.*No such file"):
        tools.run(["ls", "/nowhere/at/all"], work, "looking")
