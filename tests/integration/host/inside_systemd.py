# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The systemd supervisor, run by test_systemd.py on a host of its own (it writes to /etc and /var/lib): not collected by name."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import time
import typing as t

import pytest
from vms import STUB, Maker

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import FileUse, Isolation, LaunchSpec
from ansible_collections.unkey.vmcp.plugins.module_utils.host import events, processes
from ansible_collections.unkey.vmcp.plugins.module_utils.host.launchfile import sandbox_paths
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout, VmLayout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.store import Store
from ansible_collections.unkey.vmcp.plugins.module_utils.host.supervisors.systemd import SystemdSupervisor
from ansible_collections.unkey.vmcp.tests.removals import remove_vm
from ansible_collections.unkey.vmcp.tests.waiting import soon, until

LAYOUT = Layout("/var/lib/vmcp", "/run/vmcp")
ISOLATED = Isolation(uid=70001, jail=True, seccomp=True)


@pytest.fixture
def systemd_maker(request: pytest.FixtureRequest) -> t.Iterator[Maker]:
    stub = pathlib.Path("/usr/local/bin/stub vmm")
    stub.write_text(STUB)
    stub.chmod(0o755)
    yield Maker(LAYOUT, stub)
    supervisor = SystemdSupervisor(LAYOUT)
    for name in Store(LAYOUT).names():
        remove_vm(LAYOUT, name, supervisor=supervisor)


@pytest.fixture
def systemd() -> SystemdSupervisor:
    return SystemdSupervisor(LAYOUT)


def systemctl(*words: str) -> str:
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, timeout=30, check=False).stdout.strip()


def state(vm: VmLayout) -> str:
    return systemctl("show", "--property=ActiveState", "--value", f"vmcp-vm@{vm.name}.service")


def test_units_are_installed_once(systemd: SystemdSupervisor) -> None:
    systemd.ensure_installed()
    assert systemd.ensure_installed() is False
    unit = pathlib.Path("/etc/systemd/system/vmcp-vm@.service")
    before = unit.read_text()
    unit.write_text(before + "# changed\n")
    assert systemd.ensure_installed() is True
    assert unit.read_text() == before
    checked = subprocess.run(
        ["systemd-analyze", "verify", "vmcp-vm@x.service", "vmcp.target", "vmcp-console.timer"], capture_output=True, text=True, timeout=60, check=False
    )
    assert [line for line in checked.stderr.splitlines() if "vmcp" in line] == []


def test_a_vm_runs_in_its_unit_alone(systemd_maker: Maker, systemd: SystemdSupervisor) -> None:
    vm = systemd_maker.define("web-1", systemd_maker.stub_spec("stay"), ISOLATED)
    assert systemd.start([vm], soon()) == {}
    process = until(lambda: processes.current(vm), "the VM runs")
    assert systemctl("show", "--property=MainPID", "--value", "vmcp-vm@web-1.service") == str(process.pid)
    assert systemctl("show", "--property=Slice", "--value", "vmcp-vm@web-1.service") == "vmcp.slice"
    cgroup = next(line for line in pathlib.Path(f"/proc/{process.pid}/cgroup").read_text().splitlines() if ":name=systemd:" in line or line.startswith("0::/"))
    assert "vmcp-vm@web-1.service" in cgroup
    shown = systemctl("status", "--no-pager", "vmcp-vm@web-1.service")
    assert "Tasks: 1" in shown or str(process.pid) in shown
    assert systemd.start([vm], soon()) == {}
    assert processes.current(vm).pid == process.pid
    systemd.kill(vm, soon())
    last = events.last_exit(events.read(vm))
    assert (last.reason, last.signal) == ("request", "SIGKILL")
    until(lambda: state(vm) == "inactive", "no failed unit after an end that was asked for")


def test_many_start_in_one_request(systemd_maker: Maker, systemd: SystemdSupervisor) -> None:
    vms = [systemd_maker.define(f"vm-{n}", systemd_maker.stub_spec("stay")) for n in range(20)]
    broken = systemd_maker.define("broken", LaunchSpec(argv=("/nonexistent/vmm",)))
    failures = systemd.start([*vms, broken], soon())
    assert list(failures) == ["broken"]
    assert "/nonexistent/vmm is missing" in failures["broken"]
    assert all(processes.current(vm) for vm in vms)


def test_a_failed_start_tells_its_reason(systemd_maker: Maker, systemd: SystemdSupervisor) -> None:
    vm = systemd_maker.define("web", LaunchSpec(argv=(str(systemd_maker.stub), "die", "7")))
    error = systemd.start([vm], soon())["web"]
    assert "ended before it was ready" in error
    assert "code 7" in error
    vm = systemd_maker.define("api", systemd_maker.stub_spec("stay", after_start=(("/bin/sh", "-c", "echo not today >&2; exit 4"),)))
    assert "not today" in systemd.start([vm], soon())["api"]
    until(lambda: processes.recorded(vm) is None, "it is cleared up")


@pytest.mark.parametrize(
    ("words", "how"),
    [(("exit", "0"), ("guest", 0, None)), (("exit", "153"), ("crash", 153, None)), (("kill", "XFSZ"), ("crash", None, "SIGXFSZ"))],
)
def test_each_end_is_recorded(systemd_maker: Maker, systemd: SystemdSupervisor, words: tuple[str, ...], how: tuple[str, int | None, str | None]) -> None:
    vm = systemd_maker.define("web", systemd_maker.stub_spec(*words))
    assert systemd.start([vm], soon()) == {}
    until(lambda: events.last_exit(events.read(vm)).reason != "lost", "the end is recorded")
    last = events.last_exit(events.read(vm))
    assert (last.reason, last.code, last.signal) == how


def test_policy_restarts_a_guest_that_reboots_and_a_crash(systemd_maker: Maker, systemd: SystemdSupervisor) -> None:
    policy = {"on_reboot": "restart", "on_crash": "restart", "max_per_hour": 2}
    reboots = systemd_maker.define("reboots", systemd_maker.stub_spec("up-then", "true", exit_zero_is_reboot=True), restart_policy=policy)
    crashes = systemd_maker.define("crashes", systemd_maker.stub_spec("up-then", "false"), restart_policy=policy)
    assert systemd.start([reboots, crashes], soon()) == {}
    for vm in (reboots, crashes):
        until(lambda vm=vm: any(e["event"] == "restart_limit" for e in events.read(vm)), "the bound is reached")
        assert [e["event"] for e in events.read(vm)] == ["start", "boot", "exit"] * 3 + ["restart_limit"]


def test_what_is_removed_is_neither_recorded_nor_started_again(systemd_maker: Maker, systemd: SystemdSupervisor) -> None:
    vms = [systemd_maker.define(f"vm-{n}", systemd_maker.stub_spec("stay"), restart_policy={"on_crash": "restart"}) for n in range(5)]
    assert systemd.start(vms, soon()) == {}
    systemd.end(vms, soon())
    assert systemd.remove(vms, soon()) == {}
    for vm in vms:
        assert [event["event"] for event in events.read(vm)] == ["start", "boot"]
        assert state(vm) == "inactive" and processes.current(vm) is None


def test_systemctl_stop_asks_the_guest_and_is_never_restarted(systemd_maker: Maker, systemd: SystemdSupervisor) -> None:
    spec = systemd_maker.stub_spec("stay", stop=("/bin/sh", "-c", ": > asked"))
    vm = systemd_maker.define("web", spec, restart_policy={"on_crash": "restart"}, shutdown_timeout_s=1)
    assert systemd.start([vm], soon()) == {}
    systemctl("stop", "vmcp-vm@web.service")
    assert os.path.exists(f"{vm.run}/asked")
    last = events.last_exit(events.read(vm))
    assert (last.reason, last.signal) == ("request", "SIGTERM")
    assert state(vm) == "inactive"


def test_files_reach_the_vm_and_access_is_taken_back(systemd_maker: Maker, systemd: SystemdSupervisor, tmp_path: pathlib.Path) -> None:
    disk = tmp_path / "disk"
    disk.write_text("only for the vm\n")
    disk.chmod(0o600)
    vm = LAYOUT.vm("web")
    uses = [FileUse(str(disk), "disk", writable=True)]
    paths = sandbox_paths(vm, uses, ISOLATED, jailed=False)
    systemd_maker.define("web", systemd_maker.stub_spec("read", paths.files["disk"], files=tuple(uses)), ISOLATED)
    assert systemd.start([vm], soon()) == {}
    until(lambda: "only for the vm" in pathlib.Path(vm.console_log).read_text(), "the file was read")
    assert "/run/vmcp" not in pathlib.Path("/proc/self/mountinfo").read_text()
    systemd.kill(vm, soon())
    assert "user:70001" not in subprocess.run(["getfacl", "-cEp", str(disk)], capture_output=True, text=True, timeout=10, check=True).stdout


def test_the_timer_bounds_the_logs(systemd_maker: Maker, systemd: SystemdSupervisor) -> None:
    pathlib.Path("/etc/vmcp").mkdir(exist_ok=True)
    pathlib.Path("/etc/vmcp/host.json").write_text('{"schema": 1, "limits": {"console_max_bytes": "1M"}}')
    vm = systemd_maker.define("web", systemd_maker.stub_spec("print"))
    assert systemd.start([vm], soon()) == {}
    assert systemctl("is-active", "vmcp-console.timer") == "active"
    until(lambda: os.stat(vm.console_log).st_size > 20 << 20, "much was printed")
    os.kill(processes.current(vm).pid, signal.SIGSTOP)
    systemctl("start", "vmcp-console.service")
    assert os.stat(vm.console_log).st_blocks * 512 <= 1 << 20
    assert os.stat(vm.console_log).st_size > 20 << 20


def test_an_end_with_nobody_to_clear_up_is_cleared_up(systemd_maker: Maker, systemd: SystemdSupervisor) -> None:
    """ExecStopPost killed with the VMM: what a host short of memory does."""
    vm = systemd_maker.define("web", systemd_maker.stub_spec("stay"))
    assert systemd.start([vm], soon()) == {}
    pid_file = pathlib.Path(vm.pid).read_text()
    systemctl("kill", "--signal=SIGKILL", "vmcp-vm@web.service")
    until(lambda: state(vm) in ("inactive", "failed"), "the unit is through")
    pathlib.Path(vm.pid).write_text(pid_file)
    began = time.monotonic()
    assert systemd.wait_ended(vm, began + 300)
    assert time.monotonic() - began < 100, "it was not waited for whoever would have done it"
    assert processes.recorded(vm) is None


def test_autostart_is_a_link(systemd_maker: Maker, systemd: SystemdSupervisor) -> None:
    vm = systemd_maker.define("web", systemd_maker.stub_spec("stay"))
    systemd.ensure_installed()
    assert systemd.autostart(vm) is False
    systemd.set_autostart(vm, True)
    assert systemd.autostart(vm) is True
    assert os.readlink("/etc/systemd/system/vmcp.target.wants/vmcp-vm@web.service") == "/etc/systemd/system/vmcp-vm@.service"
    systemd.set_autostart(vm, False)
    assert systemd.autostart(vm) is False
