# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition, NotFound
from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging.checksums import look_up

ONE, TWO = "1" * 64, "a" * 64


@pytest.mark.parametrize(
    "line",
    [
        f"{ONE}  disk.raw",
        f"{ONE} *disk.raw",
        f"{ONE.upper()}  ./disk.raw",
        f"SHA256 (disk.raw) = {ONE}",
        f"SHA256(images/disk.raw)= {ONE}",
        f"{ONE}  images/disk.raw\r",
        ONE,
    ],
)
def test_lines_as_the_tools_write_them(line: str) -> None:
    assert look_up(f"-----BEGIN PGP SIGNED MESSAGE-----\n\n{line}\n", "disk.raw", "u") == f"sha256:{ONE}"


def test_a_name_with_odd_characters() -> None:
    assert look_up(f"\\{ONE}  a\\\\b\\nc", "a\\b\nc", "u") == f"sha256:{ONE}"
    assert look_up(f"{ONE}  two words.img\n{TWO}  words.img", "two words.img", "u") == f"sha256:{ONE}"


def test_an_exact_name_beats_one_in_a_directory() -> None:
    assert look_up(f"{ONE}  disk.raw\n{TWO}  other/disk.raw", "disk.raw", "u") == f"sha256:{ONE}"


def test_what_is_not_listed() -> None:
    with pytest.raises(NotFound, match=r"http://x has no checksum of 'c'. It lists a, b\. Give checksum: sha256"):
        look_up(f"{ONE}  a\n{TWO}  d/b", "c", "http://x")
    with pytest.raises(NotFound, match="It lists no SHA-256 or SHA-512 checksum"):
        look_up("<html>", "c", "http://x")
    # Half a SHA-512 is none.
    with pytest.raises(NotFound):
        look_up(f"{ONE}{TWO[:40]}  c", "c", "http://x")


def test_lists_of_sha512() -> None:
    for line in (f"{ONE}{TWO}  c", f"SHA512 (c) = {ONE}{TWO}"):
        assert look_up(line, "c", "http://x") == f"sha512:{ONE}{TWO}"


def test_two_checksums_for_a_name() -> None:
    with pytest.raises(FailedPrecondition, match="different checksums"):
        look_up(f"{ONE}  a/c\n{TWO}  b/c", "c", "http://x")
    assert look_up(f"{ONE}  c\n{ONE}  c", "c", "http://x") == f"sha256:{ONE}"
