# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import time

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.host import events, processes
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout, VmLayout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.port import Exit


@pytest.fixture
def vm(tmp_path: pathlib.Path) -> VmLayout:
    vm = Layout(str(tmp_path / "state"), str(tmp_path / "run")).vm("web")
    os.makedirs(vm.dir)
    os.makedirs(vm.run)
    return vm


def write_pid(vm: VmLayout, pid: int, start_time: int | None = None, host_boot_id: str | None = None) -> None:
    start = processes.start_time(pid) if start_time is None else start_time
    pathlib.Path(vm.pid).write_text(f"{pid} {start} boot-1 {host_boot_id or processes.host_boot_id()}\n")


def test_a_live_process_is_ours_when_all_agrees(vm: VmLayout) -> None:
    assert processes.current(vm) is None
    write_pid(vm, os.getpid())
    process = processes.current(vm)
    assert process is not None
    assert (process.pid, process.boot_id) == (os.getpid(), "boot-1")
    assert 0 <= processes.uptime_s(process) < 86400
    assert process.started_at <= time.time()
    memory = processes.memory_bytes(os.getpid())
    assert memory is not None
    assert memory > 1 << 20


@pytest.mark.parametrize("line", ["", "\n", "12", "x y z w", "1 2 3"])
def test_a_torn_pid_file_is_none(vm: VmLayout, line: str) -> None:
    pathlib.Path(vm.pid).write_text(line)
    assert processes.recorded(vm) is None
    assert processes.current(vm) is None


def test_a_reused_pid_and_an_earlier_boot_of_the_host_are_not_ours(vm: VmLayout) -> None:
    write_pid(vm, os.getpid(), start_time=1)
    assert processes.current(vm) is None
    assert processes.send(vm, signal.SIGKILL) is False
    write_pid(vm, os.getpid(), host_boot_id="00000000-0000-0000-0000-000000000000")
    assert processes.current(vm) is None
    assert processes.send(vm, signal.SIGKILL) is False


def test_a_process_may_call_itself_what_it_likes(vm: VmLayout, tmp_path: pathlib.Path) -> None:
    binary = tmp_path / ") Z 1 (\n"
    binary.symlink_to("/bin/sleep")
    with subprocess.Popen([str(binary), "600"]) as child:
        write_pid(vm, child.pid)
        assert processes.current(vm) is not None
        child.kill()


def test_a_zombie_is_gone_and_waiting_for_it_returns(vm: VmLayout) -> None:
    with subprocess.Popen(["sleep", "600"]) as child:
        write_pid(vm, child.pid)
        record = processes.recorded(vm)
        assert record is not None
        assert processes.wait_gone(record, time.monotonic() + 0.05) is False
        assert processes.send(vm, signal.SIGTERM) is True
        assert processes.wait_gone(record, time.monotonic() + 60) is True
        assert processes.current(vm) is None
        assert processes.memory_bytes(child.pid) is None


def test_the_first_reason_to_stop_stays(vm: VmLayout) -> None:
    processes.mark_stopping(vm, "request")
    assert not os.path.exists(vm.stopping)
    write_pid(vm, os.getpid())
    processes.mark_stopping(vm, "restart")
    processes.mark_stopping(vm, "request")
    assert pathlib.Path(vm.stopping).read_text() == f"restart {os.getpid()} {processes.start_time(os.getpid())}\n"


def test_the_mark_of_a_task_that_is_gone_gives_way(vm: VmLayout) -> None:
    write_pid(vm, os.getpid())
    pathlib.Path(vm.stopping).write_text("restart 999999999 1\n")
    processes.mark_stopping(vm, "request")
    assert pathlib.Path(vm.stopping).read_text().startswith("request ")


def test_a_mark_is_taken_back_by_whoever_made_it(vm: VmLayout) -> None:
    processes.unmark_stopping(vm)
    write_pid(vm, os.getpid())
    processes.mark_stopping(vm, "request")
    processes.unmark_stopping(vm)
    assert not os.path.exists(vm.stopping)
    processes.mark_removing(vm)
    processes.unmark_stopping(vm)
    assert not os.path.exists(vm.stopping)
    # Of the host that goes down, and of another task.
    for other in ("host\n", f"request {os.getppid()} {processes.start_time(os.getppid())}\n", f"request {os.getpid()} 1\n"):
        pathlib.Path(vm.stopping).write_text(other)
        processes.unmark_stopping(vm)
        assert os.path.exists(vm.stopping)


def test_a_removal_is_an_end_that_was_asked_for(vm: VmLayout) -> None:
    """The first line is what launch files of every version read."""
    processes.mark_removing(vm)
    assert not os.path.exists(vm.stopping)
    write_pid(vm, os.getpid())
    processes.mark_removing(vm)
    mark = f"request {os.getpid()} {processes.start_time(os.getpid())}\nremoving\n"
    assert pathlib.Path(vm.stopping).read_text() == mark
    processes.mark_stopping(vm, "restart")
    assert pathlib.Path(vm.stopping).read_text() == mark


# --- events ----------------------------------------------------------------------------------------------

START = '{"event":"start","at":"2026-01-01T00:00:00.000Z","boot_id":"b1","host_boot_id":"h1"}\n'
BOOT = '{"event":"boot","at":"2026-01-01T00:00:00.120Z","boot_id":"b1","host_boot_id":"h1"}\n'
EXIT = '{"event":"exit","at":"2026-01-01T00:01:00.000Z","boot_id":"b1","host_boot_id":"h1","reason":"crash","code":null,"signal":"SIGSEGV"}\n'


def test_the_last_end_is_read(vm: VmLayout) -> None:
    assert events.last_exit(events.read(vm)) is None
    pathlib.Path(vm.events).write_text(START + BOOT + EXIT)
    assert events.last_exit(events.read(vm)) == Exit("b1", "crash", None, "SIGSEGV", "2026-01-01T00:01:00.000Z")
    assert events.boot_duration_ms(events.read(vm), "b1") == 120
    assert events.boot_duration_ms(events.read(vm), "b2") is None


def test_a_start_without_an_end_is_lost(vm: VmLayout) -> None:
    pathlib.Path(vm.events).write_text(START + BOOT + EXIT + START.replace("b1", "b2"))
    last = events.last_exit(events.read(vm))
    assert last is not None
    assert (last.boot_id, last.reason, last.code, last.signal) == ("b2", "lost", None, None)


def test_torn_and_foreign_lines_are_left_out(vm: VmLayout) -> None:
    pathlib.Path(vm.events).write_text(START + "[]\n" + "null\n" + BOOT + EXIT[:40])
    assert [e["event"] for e in events.read(vm)] == ["start", "boot"]


def test_an_event_of_ours_belongs_to_the_running_boot(vm: VmLayout) -> None:
    write_pid(vm, os.getpid())
    events.append(vm, "ready", condition="tcp")
    (event,) = events.of_boot(events.read(vm), "boot-1")
    assert (event["event"], event["condition"], event["host_boot_id"]) == ("ready", "tcp", processes.host_boot_id())
    assert os.stat(vm.events).st_mode & 0o777 == 0o600
