# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A clock that jumps, as it does when the host first hears from its time server: what is measured is not measured by it, and what is recorded is doubted."""

from __future__ import annotations

import itertools
import os
import pathlib
import subprocess
import time

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import DeadlineExceeded
from ansible_collections.unkey.vmcp.plugins.module_utils.host import events, locks, processes
from ansible_collections.unkey.vmcp.plugins.module_utils.host.launch_ending import ENDED
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout, VmLayout

YEAR_S = 365 * 86400


@pytest.fixture
def vm(tmp_path: pathlib.Path) -> VmLayout:
    vm = Layout(str(tmp_path / "state"), str(tmp_path / "run")).vm("web")
    os.makedirs(vm.dir)
    os.makedirs(vm.run)
    return vm


@pytest.mark.parametrize("jump_s", [-20 * YEAR_S, -3600, 3600, 20 * YEAR_S])
def test_a_process_is_ours_whatever_the_clock_says(vm: VmLayout, monkeypatch: pytest.MonkeyPatch, jump_s: int) -> None:
    """The start time is in ticks of the kernel, which nobody sets."""
    pathlib.Path(vm.pid).write_text(f"{os.getpid()} {processes.start_time(os.getpid())} b {processes.host_boot_id()}\n")
    before = processes.current(vm)
    assert before is not None
    up_s = processes.uptime_s(before)
    now = time.time() + jump_s
    monkeypatch.setattr(time, "time", lambda: now)
    after = processes.current(vm)
    assert after is not None and after.pid == before.pid
    assert abs(processes.uptime_s(after) - up_s) < 60
    assert processes.uptime_s(before) >= 0, "found before the jump, shown after it"


def test_a_lock_is_waited_for_as_long_as_was_said(vm: VmLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = itertools.cycle((0.0, 1e9, -1e9))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    with locks.held(vm.lock, "holding", 1):
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"Waited \d\d?\.\d s"), locks.held(vm.lock, "waiting", 0.3):
            raise AssertionError("it was held already")
        assert 0.2 < time.monotonic() - began < 50


@pytest.mark.parametrize(
    ("start", "boot", "duration_ms"),
    [
        ("2026-01-01T00:00:00.000Z", "2026-01-01T00:00:00.120Z", 120),
        ("2026-01-01T00:00:00.000Z", "1970-01-01T00:00:09.000Z", None),
        ("1970-01-01T00:00:09.000Z", "2026-01-01T00:00:00.000Z", None),
        ("yesterday", "2026-01-01T00:00:00.000Z", None),
        ("2026-01-01", "2026-01-01T00:00:00.000Z", None),
    ],
)
def test_a_boot_that_the_clock_did_not_measure_has_no_duration(start: str, boot: str, duration_ms: int | None) -> None:
    history = [{"event": "start", "at": start, "boot_id": "b"}, {"event": "boot", "at": boot, "boot_id": "b"}]
    assert events.boot_duration_ms(history, "b") == duration_ms


def test_the_last_end_is_the_last_line_and_not_the_latest_time(vm: VmLayout) -> None:
    end = '{"event":"exit","at":"%s","boot_id":"%s","host_boot_id":"h","reason":"%s","code":0,"signal":null}\n'
    pathlib.Path(vm.events).write_text(end % ("2046-01-01T00:00:00.000Z", "b1", "crash") + end % ("2026-01-01T00:00:00.000Z", "b2", "guest"))
    last = events.last_exit(events.read(vm))
    assert last is not None and (last.boot_id, last.reason) == ("b2", "guest")


@pytest.mark.parametrize(
    ("stamps_s", "again"),
    [
        ((), True),
        ((-10,), True),
        ((-10, -20), False),
        ((-10, -4000), True),
        ((YEAR_S, YEAR_S, YEAR_S), True),
        ((-10, -20, YEAR_S), False),
    ],
)
def test_restarts_of_the_future_do_not_count_for_ever(vm: VmLayout, stamps_s: tuple[int, ...], again: bool) -> None:
    """C(max_per_hour) 2. Written before the clock was set back, they would have kept the VM down until it is as late again."""
    now = int(time.time())
    pathlib.Path(vm.dir, "restarts").write_text("".join(f"{now + stamp}\n" for stamp in stamps_s))
    script = f"record() {{ :; }}\n{ENDED}\nrestarts_left"
    done = subprocess.run(["/bin/sh", "-euc", script], env={"dir": vm.dir, "max_per_hour": "2", "PATH": os.environ["PATH"]}, check=False, timeout=300)
    assert (done.returncode == 0) is again
    kept = [int(line) for line in pathlib.Path(vm.dir, "restarts").read_text().split()]
    if again:
        assert max(kept) <= now + 10
