# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What guests have written is looked at and resized by tools without rights."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition
from ansible_collections.unkey.vmcp.plugins.module_utils.host import filesystems, tools

MIB = 1 << 20


@pytest.fixture
def ext4(tmp_path: pathlib.Path) -> str:
    needed("mke2fs")
    path = tmp_path / "disk.raw"
    path.touch(mode=0o600)
    os.truncate(path, 64 * MIB)
    subprocess.run([tools.find("mke2fs") or "", "-q", "-t", "ext4", "-L", "data", str(path)], check=True)
    return str(path)


def needed(tool: str) -> None:
    if tools.find(tool) is None:
        pytest.skip(f"{tool} is not installed (package {tools.PACKAGES[tool]})")


def test_a_tool_for_what_is_not_trusted_has_no_rights() -> None:
    said = tools.run("cat", "/proc/self/status", "/proc/self/limits", doing="look", user=tools.NOBODY)
    status = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
    assert status["NoNewPrivs"] == "1"
    assert any(line.startswith("Max address space") and "4294967296" in line for line in said.splitlines())
    if os.geteuid() == 0:
        assert set(status["Uid"].split()) == {"65534"} == set(status["Gid"].split()) and not status["Groups"].strip()
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapAmb"], 16) == 0


def test_looking_needs_no_right_to_the_disk(ext4: str) -> None:
    needed("blkid")
    before = os.stat(ext4)
    found = filesystems.probe(ext4)
    assert found["type"] == "ext4" and found["label"] == "data"
    assert os.stat(ext4)[:8] == before[:8] and os.stat(ext4).st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("size", [0, 1, 5000, 3 * MIB])
def test_small_and_empty_disks_can_be_looked_at(tmp_path: pathlib.Path, size: int) -> None:
    needed("blkid")
    path = tmp_path / "disk.raw"
    path.write_bytes(b"x" * size)
    assert filesystems.probe(str(path)) == {}


def test_a_disk_that_is_resized_is_lent_and_comes_back(ext4: str) -> None:
    needed("resize2fs")
    os.truncate(ext4, 96 * MIB)
    filesystems.resize(ext4, {"type": "ext4"})
    status = os.stat(ext4)
    assert (status.st_uid, status.st_mode & 0o777) == (os.geteuid(), 0o600)
    subprocess.run([tools.find("e2fsck") or "", "-f", "-n", ext4], check=True, capture_output=True)
    filesystems.resize(ext4, {"type": "ext4"}, 64 * MIB)
    assert filesystems.least_bytes(ext4, "ext4") == used(ext4)


def used(path: str) -> int:
    """As dumpe2fs says."""
    said = subprocess.run([shutil.which("dumpe2fs") or "/sbin/dumpe2fs", "-h", path], check=True, capture_output=True, text=True).stdout
    fields = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    return (int(fields["Block count"]) - int(fields["Free blocks"])) * int(fields["Block size"])


def test_what_does_not_fit_is_refused_before_anything_is_changed(ext4: str) -> None:
    needed("resize2fs")
    with pytest.raises(FailedPrecondition, match="takes at least"):
        filesystems.resize(ext4, {"type": "ext4"}, 5 * MIB)
    subprocess.run([tools.find("e2fsck") or "", "-f", "-n", ext4], check=True, capture_output=True)


def test_what_is_broken_is_said(tmp_path: pathlib.Path) -> None:
    needed("e2fsck")
    path = tmp_path / "disk.raw"
    path.write_bytes(os.urandom(2 * MIB))
    with pytest.raises(FailedPrecondition, match="superblock cannot be read"):
        filesystems.least_bytes(str(path), "ext4")
    with pytest.raises(FailedPrecondition, match="e2fsck says"):
        filesystems.resize(str(path), {"type": "ext4"})
    assert os.stat(path).st_uid == os.geteuid(), "it came back though the tool failed"
