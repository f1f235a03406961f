# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plain supervisor with stub VMMs: starts, ends, records, restarts, faults."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import socket
import subprocess
import time

import pytest
from vms import Maker

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import LaunchSpec
from ansible_collections.unkey.vmcp.plugins.module_utils.host import events, processes
from ansible_collections.unkey.vmcp.plugins.module_utils.host.files import keep_former, write_atomic
from ansible_collections.unkey.vmcp.plugins.module_utils.host.launchfile import render_policy
from ansible_collections.unkey.vmcp.plugins.module_utils.host.port import Exit
from ansible_collections.unkey.vmcp.plugins.module_utils.host.supervisors.plain import PlainSupervisor
from ansible_collections.unkey.vmcp.tests.waiting import soon, until


def ended(maker: Maker, name: str) -> Exit:
    vm = maker.layout.vm(name)
    until(lambda: processes.recorded(vm) is None, "the pid file is gone")
    found = events.last_exit(events.read(vm))
    assert found is not None
    return found


def test_a_vm_starts_is_found_and_is_killed(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.define("web", maker.stub_spec("stay"))
    before = time.time()
    assert plain.start([vm], soon()) == {}
    process = processes.current(vm)
    assert process is not None
    assert before - 3 < process.started_at < time.time() + 3
    assert processes.memory_bytes(process.pid)
    until(lambda: pathlib.Path(vm.console_log).read_text() == "stub speaking: stay\n", "the console is written")
    until(lambda: "stub log" in pathlib.Path(vm.vmm_log).read_text(), "the log is written")
    assert [e["event"] for e in events.read(vm)] == ["start", "boot"]
    assert events.boot_duration_ms(events.read(vm), process.boot_id) is not None
    plain.kill(vm, soon())
    assert processes.current(vm) is None
    last = ended(maker, "web")
    assert (last.reason, last.code, last.signal, last.boot_id) == ("request", None, "SIGKILL", process.boot_id)
    assert not os.path.exists(vm.stopping)
    assert not os.path.exists(f"{vm.run}/supervisor")


def test_why_a_start_failed_is_told_when_the_console_goes_to_a_file_of_the_users(maker: Maker, plain: PlainSupervisor, tmp_path: pathlib.Path) -> None:
    vm = maker.define("web", LaunchSpec(argv=("/nonexistent/vmm",)), console_path=str(tmp_path / "console.log"))
    assert "/nonexistent/vmm is missing or not executable" in plain.start([vm], soon())["web"]


def test_starting_what_runs_changes_nothing(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.define("web", maker.stub_spec("stay"))
    plain.start([vm], soon())
    before = processes.current(vm)
    assert plain.start([vm], soon()) == {}
    assert processes.current(vm).pid == before.pid


def test_many_start_in_one_request(maker: Maker, plain: PlainSupervisor) -> None:
    vms = [maker.define(f"vm-{n}", maker.stub_spec("stay")) for n in range(20)]
    assert plain.start(vms, soon()) == {}
    assert all(processes.current(vm) for vm in vms)
    for vm in vms:
        plain.kill(vm, soon())


@pytest.mark.parametrize(
    ("words", "how"),
    [
        (("exit", "0"), ("guest", 0, None)),
        (("exit", "3"), ("crash", 3, None)),
        (("exit", "148"), ("crash", 148, None)),
        (("exit", "153"), ("crash", 153, None)),
        (("kill", "KILL"), ("crash", None, "SIGKILL")),
        (("kill", "SYS"), ("crash", None, "SIGSYS")),
    ],
)
def test_each_end_is_recorded(maker: Maker, plain: PlainSupervisor, words: tuple[str, ...], how: tuple[str, int | None, str | None]) -> None:
    vm = maker.define("web", maker.stub_spec(*words))
    assert plain.start([vm], soon()) == {}
    last = ended(maker, "web")
    assert (last.reason, last.code, last.signal) == how
    assert events.last_exit(events.read(vm)).at.endswith("Z")


def test_a_vmm_that_dies_before_its_socket_fails_the_start_with_its_last_words(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.define("web", LaunchSpec(argv=(str(maker.stub), "die", "7")))
    error = plain.start([vm], soon())["web"]
    assert "ended before it was ready" in error
    assert "code 7" in error
    assert "stub log" in error
    assert processes.recorded(vm) is None


def test_a_missing_binary_is_named(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.define("web", LaunchSpec(argv=("/nonexistent/vmm",)))
    assert "/nonexistent/vmm is missing or not executable" in plain.start([vm], soon())["web"]


def test_a_vmm_without_a_socket_fails_at_the_deadline(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.define(
        "web",
        LaunchSpec(argv=(str(maker.stub), "stay")),
    )
    assert re.search(r"has not made its socket vmm/api\.sock within \d+ s", plain.start([vm], soon(5))["web"])
    assert processes.recorded(vm) is None


def test_a_failing_command_after_the_start_ends_the_vmm(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.define("web", maker.stub_spec("stay", after_start=(("/bin/sh", "-c", "echo not today >&2; exit 4"),)), restart_policy={"on_crash": "restart"})
    error = plain.start([vm], soon())["web"]
    assert "code 4" in error
    assert "not today" in error
    assert processes.recorded(vm) is None
    assert not os.path.exists(f"{vm.run}/supervisor") or until(lambda: not os.path.exists(f"{vm.run}/supervisor"), "no restart of a failed start")


def test_a_stale_socket_is_no_socket(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.define("web", LaunchSpec(argv=(str(maker.stub), "die", "1")))
    os.makedirs(vm.sockets)
    with socket.socket(socket.AF_UNIX) as stale:
        here = os.getcwd()
        os.chdir(vm.run)
        try:
            stale.bind("vmm/api.sock")
        finally:
            os.chdir(here)
    assert "ended before it was ready" in plain.start([vm], soon())["web"]


def test_a_crash_is_restarted_up_to_the_bound(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.define("web", maker.stub_spec("up-then", "false"), restart_policy={"on_crash": "restart", "max_per_hour": 2})
    assert plain.start([vm], soon()) == {}
    until(lambda: any(e["event"] == "restart_limit" for e in events.read(vm)), "the bound is reached")
    seen = events.read(vm)
    assert [e["event"] for e in seen] == ["start", "boot", "exit"] * 3 + ["restart_limit"]
    assert len({e["boot_id"] for e in seen}) == 3


@pytest.mark.parametrize(("on_reboot", "starts"), [("restart", 2), ("stop", 1)])
def test_a_guest_reboot_that_ends_the_vmm_is_carried_out_by_policy(maker: Maker, plain: PlainSupervisor, on_reboot: str, starts: int) -> None:
    policy = {"on_reboot": on_reboot, "max_per_hour": 1}
    vm = maker.define("web", maker.stub_spec("up-then", "true", exit_zero_is_reboot=True), restart_policy=policy)
    assert plain.start([vm], soon()) == {}
    until(lambda: not os.path.exists(f"{vm.run}/supervisor"), "the supervisor is through")
    assert [e["event"] for e in events.read(vm)].count("start") == starts


def test_an_end_that_was_asked_for_is_never_restarted(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.define("web", maker.stub_spec("stay"), restart_policy={"on_crash": "restart"})
    plain.start([vm], soon())
    processes.mark_stopping(vm, "restart")
    plain.terminate(vm, soon())
    assert processes.current(vm) is None
    assert ended(maker, "web").reason == "restart"
    assert not os.path.exists(f"{vm.run}/supervisor")


def test_the_last_console_is_kept(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.define("web", maker.stub_spec("up-then", "true"))
    for dummy in range(2):
        plain.start([vm], soon())
        assert plain.wait_ended(vm, soon())
    assert pathlib.Path(vm.console_previous).read_text() == pathlib.Path(vm.console_log).read_text() == "stub speaking: up-then true\n"
    assert os.stat(vm.console_log).st_mode & 0o777 == 0o600


def test_a_guest_that_prints_for_ever_stays_bounded(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.define("web", maker.stub_spec("print"))
    plain.start([vm], soon())
    until(lambda: os.stat(vm.console_log).st_size > 40 << 20, "much was printed")
    # Bounded by what is printed within one interval; more than that has gone by now.
    until(lambda: os.stat(vm.console_log).st_blocks * 512 < os.stat(vm.console_log).st_size / 2, "holes were punched")
    process = processes.current(vm)
    os.kill(process.pid, signal.SIGSTOP)
    until(lambda: os.stat(vm.console_log).st_blocks * 512 <= 1 << 20, "the bound holds")
    assert pathlib.Path(vm.console_log).read_bytes()[:1] == b"\0"
    os.kill(process.pid, signal.SIGCONT)
    plain.kill(vm, soon())


# --- faults ---------------------------------------------------------------------------------------------


def supervisor_pid(maker: Maker, name: str) -> int:
    record = processes.parse_record(f"{maker.layout.vm(name).run}/supervisor")
    assert record is not None
    return record.pid


def test_a_killed_supervisor_leaves_a_vm_that_can_be_ended(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.define("web", maker.stub_spec("stay"))
    plain.start([vm], soon())
    os.kill(supervisor_pid(maker, "web"), signal.SIGKILL)
    assert processes.current(vm) is not None
    plain.kill(vm, soon())
    assert processes.recorded(vm) is None
    assert ended(maker, "web").reason == "request"


def test_a_killed_supervisor_is_replaced_by_one_that_watches_on(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.define("web", maker.stub_spec("stay"))
    plain.start([vm], soon())
    before = processes.current(vm)
    os.kill(supervisor_pid(maker, "web"), signal.SIGKILL)
    until(lambda: plain._is_abandoned(vm), "the supervisor is gone")
    assert plain.start([vm], soon()) == {}
    assert processes.current(vm).pid == before.pid
    os.kill(before.pid, signal.SIGKILL)
    assert ended(maker, "web").reason == "lost"


def test_supervisor_and_vmm_killed_together_are_cleared_up_by_the_next_start(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.define("web", maker.stub_spec("stay"))
    plain.start([vm], soon())
    process = processes.current(vm)
    os.kill(supervisor_pid(maker, "web"), signal.SIGKILL)
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: processes.current(vm) is None, "both are gone")
    assert events.last_exit(events.read(vm)).reason == "lost"
    assert plain.wait_ended(vm, soon())
    assert plain.start([vm], soon()) == {}
    assert processes.current(vm).boot_id != process.boot_id


def test_a_reused_pid_is_never_ours(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.define("web", maker.stub_spec("stay"))
    os.makedirs(vm.run)
    pathlib.Path(vm.pid).write_text(f"{os.getpid()} 1 0d4f9f3e-0000-0000-0000-000000000000 {processes.host_boot_id()}\n")
    assert processes.current(vm) is None
    assert processes.send(vm, signal.SIGKILL) is False
    plain.kill(vm, soon())
    assert processes.recorded(vm) is None


def test_the_host_going_down_is_an_end_of_its_own(maker: Maker, plain: PlainSupervisor) -> None:
    """TERM to the supervisor, as an init without systemd sends it."""
    vm = maker.define("web", maker.stub_spec("stay"), restart_policy={"on_crash": "restart"})
    plain.start([vm], soon())
    os.kill(supervisor_pid(maker, "web"), signal.SIGTERM)
    last = ended(maker, "web")
    assert (last.reason, last.signal) == ("request", "SIGTERM")
    until(lambda: not os.path.exists(f"{vm.run}/supervisor"), "the supervisor ends too")


def test_the_guest_is_asked_before_it_is_ended(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.define("web", maker.stub_spec("stay", stop=("/bin/sh", "-c", ": > asked")), shutdown_timeout_s=1)
    plain.start([vm], soon())
    os.kill(supervisor_pid(maker, "web"), signal.SIGTERM)
    assert ended(maker, "web").signal == "SIGTERM"
    assert os.path.exists(f"{vm.run}/asked")


@pytest.mark.parametrize(("mark", "reason"), [("request 999999999 1\n", "crash"), (f"request {os.getpid()} START\n", "request"), ("host\n", "host")])
def test_a_crash_long_after_a_killed_task_is_a_crash(maker: Maker, plain: PlainSupervisor, mark: str, reason: str) -> None:
    vm = maker.define("web", maker.stub_spec("stay"))
    assert plain.start([vm], soon()) == {}
    pathlib.Path(vm.stopping).write_text(mark.replace("START", str(processes.start_time(os.getpid()))))
    assert processes.send(vm, signal.SIGSEGV)
    until(lambda: processes.recorded(vm) is None, "the end is recorded")
    last = events.last_exit(events.read(vm))
    assert last is not None
    assert (last.reason, last.signal) == (reason, "SIGSEGV")


@pytest.mark.parametrize(("task", "recorded"), [("lives", False), ("was killed", True)])
def test_what_comes_after_a_vm_is_left_to_the_task_that_removes_it(maker: Maker, task: str, recorded: bool) -> None:
    """As a unit calls it: C(ExecStop=), then C(ExecStopPost=)."""
    vm = maker.define("web", maker.stub_spec("stay"), restart_policy={"on_crash": "restart"})
    os.makedirs(vm.run)
    pathlib.Path(vm.pid).write_text(f"999999999 1 0d4f9f3e-0000-0000-0000-000000000000 {processes.host_boot_id()}\n")
    pathlib.Path(vm.up).touch()
    processes.mark_removing(vm)
    if task == "was killed":
        pathlib.Path(vm.stopping).write_text("request 999999999 1\nremoving\n")
    for verb in (["stop"], ["ended", "abandoned"]):
        subprocess.run(["/bin/sh", vm.launch, *verb], check=not recorded, timeout=120, env={"EXIT_CODE": "killed", "EXIT_STATUS": "KILL"})
    assert (events.last_exit(events.read(vm)) is not None) == recorded
    assert os.path.exists(vm.pid) != recorded


# --- changed while it runs --------------------------------------------------------------------------------


def test_a_policy_counts_as_soon_as_it_is_written(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.define("web", maker.stub_spec("stay"))
    assert plain.start([vm], soon()) == {}
    before = processes.current(vm)
    assert before is not None
    write_atomic(vm.policy, render_policy({"on_crash": "restart"}))
    os.kill(before.pid, signal.SIGSEGV)
    after = until(lambda: (now := processes.current(vm)) is not None and now.boot_id != before.boot_id and now, "it was started again")
    write_atomic(vm.policy, render_policy({}))
    os.kill(after.pid, signal.SIGSEGV)
    assert ended(maker, "web").reason == "crash"
    until(lambda: not os.path.exists(vm.supervisor), "nothing starts it again")


def test_what_runs_is_asked_to_stop_in_the_words_of_its_own_launch_file(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.define("web", maker.stub_spec("stay", stop=("/bin/sh", "-c", ": > asked-as-before")), shutdown_timeout_s=1)
    assert plain.start([vm], soon()) == {}
    keep_former(vm.launch, vm.launch_running, "another")
    maker.define("web", maker.stub_spec("stay", stop=("/bin/sh", "-c", ": > asked-anew")), shutdown_timeout_s=1)
    subprocess.run(["/bin/sh", vm.launch, "stop"], check=True, timeout=120)
    assert ended(maker, "web").signal == "SIGTERM"
    assert os.path.exists(f"{vm.run}/asked-as-before") and not os.path.exists(f"{vm.run}/asked-anew")
    assert plain.start([vm], soon()) == {}
    assert not os.path.exists(vm.launch_running)
    subprocess.run(["/bin/sh", vm.launch, "stop"], check=True, timeout=120)
    assert os.path.exists(f"{vm.run}/asked-anew")


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.05, 0.31, 0.33, 0.36])
def test_nothing_comes_back_after_a_removal(maker: Maker, plain: PlainSupervisor, delay_s: float) -> None:
    """A VM that crashes every third of a second and is started again by policy, removed at any moment of that."""
    vm = maker.define("web", maker.stub_spec("up-then", "false"), restart_policy={"on_crash": "restart", "max_per_hour": 1000})
    assert plain.start([vm], soon()) == {}
    time.sleep(delay_s)
    plain.end([vm], soon())
    assert plain.remove([vm], soon()) == {}
    for dummy in range(25):
        assert processes.current(vm) is None
        supervisor = processes.parse_record(vm.supervisor)
        assert supervisor is None or not processes.is_live(supervisor)
        time.sleep(0.02)


def test_the_process_that_bounds_logs_goes_with_the_last_vm(maker: Maker, plain: PlainSupervisor) -> None:
    one, two = (maker.define(name, maker.stub_spec("stay")) for name in ("one", "two"))
    assert plain.start([one, two], soon()) == {}
    trimmer = until(lambda: processes.parse_record(maker.layout.trimmer_lock), "it says who it is")
    assert processes.is_live(trimmer)
    plain.end([one], soon())
    assert plain.remove([one], soon()) == {}
    assert processes.is_live(trimmer)
    pathlib.Path(maker.layout.run_dir, ".progress.jsonl").touch()
    plain.end([two], soon())
    assert plain.remove([two], soon()) == {}
    until(lambda: not processes.is_live(trimmer), "it is gone")


def test_the_process_that_bounds_logs_ends_when_no_vmm_is_left_whatever_files_are(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.define("web", maker.stub_spec("stay"))
    assert plain.start([vm], soon()) == {}
    trimmer = until(lambda: processes.parse_record(maker.layout.trimmer_lock), "it says who it is")
    process = processes.current(vm)
    assert process is not None
    os.kill(supervisor_pid(maker, "web"), signal.SIGKILL)
    os.kill(process.pid, signal.SIGKILL)
    assert os.path.exists(vm.pid)
    # Two rounds of a second each without a VMM.
    until(lambda: not processes.is_live(trimmer), "it is gone")
