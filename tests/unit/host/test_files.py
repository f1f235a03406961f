# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pathlib
import socket

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition
from ansible_collections.unkey.vmcp.plugins.module_utils.host import files


def test_a_write_replaces_the_whole_file_with_its_mode(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "vm.json"
    files.write_atomic(str(path), "one", mode=0o644)
    files.write_atomic(str(path), b"two")
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["vm.json"]


def test_a_write_does_not_follow_a_link(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "target"
    target.write_text("untouched")
    (tmp_path / "vm.json").symlink_to(target)
    files.write_atomic(str(tmp_path / "vm.json"), "new")
    assert target.read_text() == "untouched"
    assert not (tmp_path / "vm.json").is_symlink()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "vm.json"
    path.write_text("old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FailedPrecondition, match=r"Cannot write .*vm\.json: No space left on device\. Free space"):
        files.write_atomic(str(path), "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["vm.json"]


def test_equal_content_is_left_alone(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "unit")
    assert files.write_if_different(path, "a")
    assert not files.write_if_different(path, "a")
    assert files.write_if_different(path, "b")


def test_what_is_no_file_of_ours_is_not_read(tmp_path: pathlib.Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(FailedPrecondition, match="does not follow links"):
        files.read_text(str(tmp_path / "link"))
    for name in ("fifo", "."):
        with pytest.raises(FailedPrecondition, match="not a regular file"):
            files.read_text(str(tmp_path / name))
    with pytest.raises(FailedPrecondition, match="longer than 3 bytes"):
        files.read_text(str(tmp_path / "secret"), max_bytes=3)
    with pytest.raises(FileNotFoundError):
        files.read_text(str(tmp_path / "absent"))


def test_the_last_lines_come_without_what_acts_on_a_terminal(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "console.log"
    path.write_bytes(b"\0" * 4096 + b"first\r\n\x1b[2Jsecond\r\n\r\nthi\xffrd")
    assert files.last_lines(str(path), 2) == ["[2Jsecond", "thi\ufffdrd"]
    assert files.last_lines(str(path), 10, max_bytes=9)[-1] == "thi\ufffdrd"
    assert files.last_lines(str(tmp_path / "absent"), 2) == []


def test_a_log_that_is_no_file_has_no_last_lines(tmp_path: pathlib.Path) -> None:
    """They go into messages of failures, in whose place another failure would be told."""
    (tmp_path / "link").symlink_to(tmp_path)
    with socket.socket(socket.AF_UNIX) as console:
        console.bind(str(tmp_path / "console.sock"))
        for name in ("link", "console.sock"):
            assert files.last_lines(str(tmp_path / name), 2) == []
