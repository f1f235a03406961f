# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many VMs at once: waited for by one loop, worked on in order, followed from outside."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import threading
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import DeadlineExceeded
from ansible_collections.unkey.vmcp.plugins.module_utils.host.console_search import Searcher
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.runner import each as each_file
from ansible_collections.unkey.vmcp.plugins.module_utils.runner import waits
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.conditions import Condition, conditions
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.each import SLOW_S, each
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.progress import Progress
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.waits import Wait, wait_all
from ansible_collections.unkey.vmcp.tests.fakes.waited_vm import WaitedVm


def look(some: t.Sequence[Wait], waited_s: float) -> list[bool]:
    return [one.look(waited_s) for one in some]


def never() -> bool:
    return False


def test_all_are_waited_for_from_the_same_moment_and_one_that_fails_keeps_nobody() -> None:
    began = time.monotonic()
    soon = Condition("soon", lambda: time.monotonic() - began > 0.1)
    listed = [Wait(WaitedVm(f"soon-{index}"), [soon], 60) for index in range(50)]
    dead = Wait(WaitedVm("dead", lives=False), [Condition("never", never)], 60)
    late = Wait(WaitedVm("late"), [Condition("never", never)], 0.3)
    left: list[int] = []
    wait_all([*listed, dead, late], look, left.append)
    assert 0.3 <= time.monotonic() - began < 50
    assert all(one.failed is None and one.result()[0]["condition"] == "soon" for one in listed)
    assert dead.failed is not None and dead.failed.msg == "dead is dead"
    assert isinstance(late.failed, DeadlineExceeded) and "'never'" in late.failed.msg
    assert left[0] == 51 and left[-1] == 0


def test_a_guest_that_reboots_has_a_moment_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, "RESTART_S", 2)
    back = WaitedVm("back", lives=False, returns=True)
    gone = WaitedVm("gone", lives=False, returns=True)
    threading.Timer(0.05, lambda: setattr(back, "lives", True)).start()
    one, other = (Wait(guest, [Condition("up", guest.running)], 60) for guest in (back, gone))
    wait_all([one, other], look)
    assert one.failed is None and other.failed is not None


def test_a_port_is_waited_for_without_waiting_for_the_connection() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        (condition,) = conditions([{"tcp": port, "host": "127.0.0.1"}], WaitedVm("web"), Searcher())
        assert condition.holds() is False, "nobody listens"
        server.listen()
        deadline = time.monotonic() + 60
        while not condition.holds():
            assert time.monotonic() < deadline
    before = len(os.listdir("/proc/self/fd"))
    # An address that never answers (TEST-NET-1): no call takes longer than a moment, and only one connection is open.
    (silent,) = conditions([{"tcp": 9, "host": "192.0.2.1"}], WaitedVm("web"), Searcher())
    began = time.monotonic()
    assert [silent.holds() for _round in range(20)] == [False] * 20
    assert time.monotonic() - began < 15
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_what_is_quick_takes_no_threads_and_what_is_slow_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    here = threading.get_ident()
    together = threading.Barrier(8)

    def slow(item: int) -> int:
        time.sleep(2 * SLOW_S)
        if threading.get_ident() != here:
            # Goes on when eight are here at once.
            together.wait(60)
        return item

    assert each(range(17), slow, 8) == list(range(17))
    # On whatever busy a machine.
    monkeypatch.setattr(each_file, "SLOW_S", 60)
    assert set(each(range(100), lambda item: threading.get_ident(), 8)) == {here}
    with pytest.raises(ZeroDivisionError):
        each([1, 0], lambda item: 1 // item, 8)


def test_progress_can_be_followed_and_is_no_reason_to_fail(tmp_path: pathlib.Path) -> None:
    told: list[str] = []
    progress = Progress(Layout(str(tmp_path / "s"), str(tmp_path / "r")), 7, told.append)
    progress.say("start", 3, failed=1, note="x")
    progress.say("wait", 4, often=True)
    progress.close()
    (line,) = (json.loads(text) for text in pathlib.Path(progress.path).read_text().splitlines())
    assert {key: line[key] for key in ("task", "doing", "done", "total", "failed", "note")} == {
        "task": os.getpid(), "doing": "start", "done": 3, "total": 7, "failed": 1, "note": "x",
    }  # fmt: skip
    assert os.stat(progress.path).st_mode & 0o777 == 0o600
    (tmp_path / "file").write_text("")
    blocked = Progress(Layout(str(tmp_path / "s"), str(tmp_path / "file")), 7, told.append)
    blocked.say("start", 3)
    blocked.say("start", 4)
    assert len(told) == 1 and "cannot be followed" in told[0]
