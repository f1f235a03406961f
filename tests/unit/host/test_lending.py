# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who reads what somebody else has made: never root, whatever the file's mode is, and without giving the file away."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition
from ansible_collections.unkey.vmcp.plugins.module_utils.host import disk_making, tools
from ansible_collections.unkey.vmcp.plugins.module_utils.host.lending import convert
from ansible_collections.unkey.vmcp.plugins.module_utils.model.disk_record import DiskRecord
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.disks import Origin

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up"),
    pytest.mark.skipif(shutil.which("qemu-img") is None, reason="there is no qemu-img"),
]
MIB = 1 << 20


@pytest.fixture
def image(tmp_path: pathlib.Path) -> pathlib.Path:
    """A qcow2 file of 4 MiB that begins with a word."""
    raw, made = tmp_path / "raw", tmp_path / "theirs.qcow2"
    raw.write_bytes(b"word".ljust(4 * MIB, b"\0"))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(made)], check=True)
    return made


class Watched:
    """Runs the tool, and keeps who was to run it."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.users: list[t.Optional[int]] = []
        self.directory = directory
        self.beside: list[list[str]] = []

    def __call__(self, tool: str, *words: str, user: t.Optional[int], **more: t.Any) -> object:
        self.users.append(user)
        self.beside.append(sorted(os.listdir(self.directory)))
        return tools.run(tool, *words, user=user, **more)


def converted(source: pathlib.Path, directory: pathlib.Path, format_: str = "qcow2") -> Watched:
    directory.mkdir(mode=0o700)
    (directory / "made").touch(0o600)
    watched = Watched(directory)
    with open(source, "rb") as stream:
        convert(stream.fileno(), format_, str(directory / "made"), "raw", doing="try", scratch=str(directory), run=watched)
    return watched


def test_nobody_reads_it_whatever_its_mode_is(image: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for mode, beside in ((0o644, ["made"]), (0o600, ["made", "source.qcow2"]), (0o640, ["made", "source.qcow2"])):
        os.chmod(image, mode)
        before = os.stat(image)
        watched = converted(image, tmp_path / f"{mode:o}")
        assert watched.users == [tools.NOBODY] and watched.beside == [beside], oct(mode)
        made = tmp_path / f"{mode:o}" / "made"
        assert made.read_bytes()[:8] == b"word\0\0\0\0" and made.stat().st_size == 4 * MIB
        assert os.listdir(made.parent) == ["made"] and made.stat().st_uid == 0, "no copy is left, and nobody has it any more"
        after = os.stat(image)
        assert (after.st_mode, after.st_uid, after.st_ctime_ns) == (before.st_mode, before.st_uid, before.st_ctime_ns), "theirs is as it was"


def test_a_copy_goes_also_where_the_tool_fails(tmp_path: pathlib.Path) -> None:
    torn = tmp_path / "torn"
    torn.write_bytes(b"QFI\xfb" + bytes(200))
    torn.chmod(0o600)
    with pytest.raises(FailedPrecondition, match="qemu-img says"):
        converted(torn, tmp_path / "work")
    assert os.listdir(tmp_path / "work") == ["made"]


def test_a_private_source_becomes_a_disk_in_each_format(image: pathlib.Path, tmp_path: pathlib.Path) -> None:
    image.chmod(0o600)
    origin = Origin(str(image), "qcow2", 4 * MIB)
    for format_ in ("raw", "qcow2"):
        directory = tmp_path / f"as-{format_}"
        directory.mkdir(mode=0o700)
        record = DiskRecord("d", f"/disks/d/disk.{format_}", format_, 8 * MIB, source={"kind": "path", "name": str(image)})
        made = disk_making.make(record, str(directory), origin, None)
        (file,) = os.listdir(directory)
        said = json.loads(subprocess.run(["qemu-img", "info", "--output=json", "-f", format_, str(directory / file)], check=True, capture_output=True).stdout)
        assert made.method == "convert" and said["virtual-size"] == 8 * MIB and os.stat(directory / file).st_uid == 0
