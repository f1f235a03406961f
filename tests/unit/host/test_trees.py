# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pathlib
import subprocess

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition
from ansible_collections.unkey.vmcp.plugins.module_utils.host import trees


def test_below_a_directory_no_component_may_be_a_link(tmp_path: pathlib.Path) -> None:
    data = tmp_path / "data"
    (data / "disks").mkdir(parents=True)
    (data / "disks" / "a").write_text("mine")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "shadow").write_text("root's")
    (data / "escape").symlink_to(tmp_path / "etc")
    (data / "shadow").symlink_to(tmp_path / "etc" / "shadow")
    fd = trees.open_beneath(str(data), "disks/a", os.O_RDONLY)
    assert os.read(fd, 10) == b"mine"
    os.close(fd)
    for path in ("escape/shadow", "shadow"):
        with pytest.raises(FailedPrecondition):
            trees.open_beneath(str(data), path, os.O_RDONLY)
    for path in ("../etc/shadow", "/etc/shadow", "disks//a", "", "disks/../../etc/shadow"):
        with pytest.raises(FailedPrecondition, match="not a path below"):
            trees.open_beneath(str(data), path, os.O_RDONLY)


def test_removal_takes_links_and_not_what_they_name(tmp_path: pathlib.Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_text("keep")
    doomed = tmp_path / "doomed"
    (doomed / "deep" / "deeper").mkdir(parents=True)
    (doomed / "deep" / "link").symlink_to(outside)
    (doomed / "deep" / "deeper" / "file").write_text("x")
    os.mkfifo(doomed / "fifo")
    assert trees.remove_tree(str(doomed)) is True
    assert trees.remove_tree(str(doomed)) is False
    assert (outside / "keep").read_text() == "keep"
    assert not doomed.exists()


def test_a_link_in_place_of_the_directory_is_removed_as_a_link(tmp_path: pathlib.Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "keep").write_text("keep")
    (tmp_path / "doomed").symlink_to(tmp_path / "outside")
    trees.remove_tree(str(tmp_path / "doomed"))
    assert (tmp_path / "outside" / "keep").exists()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts")
def test_removal_stops_at_a_mount_point_of_the_same_file_system(tmp_path: pathlib.Path) -> None:
    outside = tmp_path / "out side"
    outside.mkdir()
    (outside / "keep").write_text("keep")
    point = tmp_path / "doomed" / "a b"
    point.mkdir(parents=True)
    subprocess.run(["mount", "--bind", str(outside), str(point)], check=True, timeout=50)
    try:
        with pytest.raises(FailedPrecondition, match="a b is a mount point"):
            trees.remove_tree(str(tmp_path / "doomed"))
        assert (outside / "keep").exists()
    finally:
        subprocess.run(["umount", str(point)], check=True, timeout=50)
    assert trees.remove_tree(str(tmp_path / "doomed"))
    assert (outside / "keep").exists()


def test_directories_get_the_mode_asked_for(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a" / "b"
    assert trees.ensure_dir(str(path), 0o711)
    assert path.stat().st_mode & 0o777 == 0o711
    assert not trees.ensure_dir(str(path), 0o711)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(FailedPrecondition):
        trees.ensure_dir(str(tmp_path / "link"), 0o700)
