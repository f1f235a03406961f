# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pathlib
import resource
import subprocess
import sys
import threading
import time

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import DeadlineExceeded
from ansible_collections.unkey.vmcp.plugins.module_utils.host import locks
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout

ROOT = pathlib.Path(__file__).resolve().parents[3]
HOLD = """
import sys
from ansible_collections.unkey.vmcp.plugins.module_utils.host import locks
with locks.held(sys.argv[1], "holding for the test", 5):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def layout(tmp_path: pathlib.Path) -> Layout:
    return Layout(str(tmp_path / "state"), str(tmp_path / "run"))


def other_process(path: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_free_lock_is_taken_at_once_and_tells_who_holds_it(layout: Layout) -> None:
    path = layout.vm("web").lock
    assert locks.holder(path) is None
    with locks.held(path, "vmcp_vm web", 0) as taken:
        assert taken.waited_for is None
        assert taken.waited_s == 0.0
        holder = locks.holder(path)
        assert holder is not None
        assert (holder.pid, holder.what) == (os.getpid(), "vmcp_vm web")
    assert locks.holder(path) is None
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(layout.lock_dir).st_mode & 0o777 == 0o700


def test_the_second_taker_fails_at_its_deadline_and_names_the_first(layout: Layout) -> None:
    path = layout.vm("web").lock
    process = other_process(path)
    told: list[locks.Holder | None] = []
    try:
        began = time.monotonic()
        with (
            pytest.raises(DeadlineExceeded, match=rf"process {process.pid} \(holding for the test, since .*lock_timeout") as error,
            locks.held(path, "me", 0.2, told.append),
        ):
            raise AssertionError("held twice")
        assert 0.2 <= time.monotonic() - began < 50
        assert error.value.details["waited_for"]["pid"] == process.pid
        assert [h.pid for h in told if h] == [process.pid]
    finally:
        process.communicate(timeout=300)


def test_a_holder_that_is_killed_holds_no_longer(layout: Layout) -> None:
    path = layout.vm("web").lock
    process = other_process(path)
    inode = os.stat(path).st_ino
    process.kill()
    process.communicate(timeout=300)
    with locks.held(path, "me", 60):
        assert locks.holder(path).pid == os.getpid()
    assert os.stat(path).st_ino == inode


def test_a_waiting_taker_gets_it_and_knows_that_it_waited(layout: Layout) -> None:
    path = layout.vm("web").lock
    process = other_process(path)
    with locks.held(path, "me", 60, lambda holder: threading.Timer(0.2, process.stdin.close).start()) as taken:
        assert taken.waited_s >= 0.1
        assert taken.waited_for.pid == process.pid
    process.wait(timeout=300)
    process.stdout.close()


def test_several_are_taken_in_name_order(layout: Layout) -> None:
    with locks.vm_locks(layout, ["b", "a", "b"], "bulk", 1) as taken:
        assert list(taken) == ["a", "b"]
        with pytest.raises(DeadlineExceeded), locks.held(layout.vm("a").lock, "me", 0):
            raise AssertionError("held twice")


def test_a_failure_inside_releases(layout: Layout) -> None:
    with pytest.raises(ZeroDivisionError), locks.held(layout.host_lock, "me", 0):
        raise ZeroDivisionError
    with locks.held(layout.host_lock, "me", 0):
        pass


def test_more_files_than_usual_may_be_open_only_while_the_locks_are_held(layout: Layout) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        with locks.vm_locks(layout, [f"vm-{n}" for n in range(200)], "vms", 5):
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (200 + locks._OTHER_FILES, hard)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (128, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
