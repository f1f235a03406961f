# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules on a host with systemd, through Ansible: one unit per VM, nothing resident beside the VMM, and VMs that are back after a reboot.

Real QEMU on every machine; real Firecracker, in its jail, too where it is on PATH and /dev/kvm opens.
"""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.hosts.nspawn import Host
from ansible_collections.unkey.vmcp.tests.integration.systemd.on_host import GREETING, backends, task
from ansible_collections.unkey.vmcp.tests.waiting import until

pytestmark = [pytest.mark.systemd, pytest.mark.root]


def spec(backend: str) -> dict[str, t.Any]:
    return {"name": f"vm-{backend}", "backend": backend, "kernel": "/opt/kernels/polite", "memory": "128M"}


def state(host: Host, name: str) -> dict[str, t.Any]:
    found = task(host, "vmcp_vm_info", names=[name])["vms"]
    assert len(found) == 1
    return dict(found[0])


def processes_of(host: Host, name: str) -> list[int]:
    """The pids in the unit's cgroup."""
    listed = host.run(["systemctl", "show", "--property=ControlGroup", "--value", f"vmcp-vm@{name}.service"]).stdout.strip()
    for base in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"):
        found = host.run(["cat", f"{base}{listed}/cgroup.procs"], check=False)
        if found.returncode == 0:
            return [int(pid) for pid in found.stdout.split()]
    raise AssertionError(f"no cgroup of {name} is visible on the host")


@pytest.mark.parametrize("backend", backends())
def test_the_life_of_a_unit(host: Host, backend: str) -> None:
    vm = spec(backend)
    unit = f"vmcp-vm@{vm['name']}.service"
    made = task(host, "vmcp_vm", **vm, state="running", wait_for=[{"console": GREETING}])
    assert made["actions"] == ["define", "start"]
    assert made["vm"]["supervisor"] == "systemd"
    assert host.run(["systemctl", "is-active", unit]).stdout.strip() == "active"
    until(lambda: processes_of(host, vm["name"]) == [made["vm"]["pid"]], "nothing stays resident besides the VMM")
    assert host.run(["systemctl", "show", "--property=Slice", "--value", unit]).stdout.strip() == "vmcp.slice"
    assert host.run(["test", "-L", f"/etc/systemd/system/vmcp.target.wants/{unit}"], check=False).returncode == 0
    same = task(host, "vmcp_vm", **vm, state="running", wait_for=[{"console": GREETING}])
    assert (same["changed"], same["actions"]) == (False, [])

    assert task(host, "vmcp_vm", name=vm["name"], state="paused")["vm"]["state"] == "paused"
    assert task(host, "vmcp_vm", name=vm["name"], state="running")["actions"] == ["resume"]
    again = task(host, "vmcp_vm", name=vm["name"], state="restarted", shutdown_timeout=120)
    assert again["actions"] == ["shutdown", "start"]
    assert again["vm"]["pid"] != made["vm"]["pid"]
    assert task(host, "vmcp_vm", name=vm["name"], autostart=False)["actions"] == ["update"]
    assert host.run(["test", "-L", f"/etc/systemd/system/vmcp.target.wants/{unit}"], check=False).returncode == 1
    down = task(host, "vmcp_vm", name=vm["name"], state="shutdown", shutdown_timeout=120)
    assert down["vm"]["state"] == "shutdown"
    assert down["vm"]["stop_reason"] == "request"
    assert host.run(["systemctl", "is-failed", unit], check=False).stdout.strip() == "inactive"
    gone = task(host, "vmcp_vm", name=vm["name"], state="absent")
    assert gone["changed"]
    for path in (f"/var/lib/vmcp/vms/{vm['name']}", f"/run/vmcp/{vm['name']}"):
        assert host.run(["test", "-e", path], check=False).returncode == 1, path


@pytest.mark.parametrize("backend", backends())
def test_a_crash_is_recorded_and_restarted_by_policy_without_ansible(host: Host, backend: str) -> None:
    vm = spec(backend)
    first = task(host, "vmcp_vm", **vm, state="running")
    host.run(["kill", "-KILL", str(first["vm"]["pid"])])
    until(lambda: state(host, vm["name"])["state"] == "crashed", "the crash is seen")
    assert state(host, vm["name"])["last_exit"]["signal"] == "SIGKILL"
    second = task(host, "vmcp_vm", name=vm["name"], state="running", restart_policy={"on_crash": "restart"})
    host.run(["kill", "-KILL", str(second["vm"]["pid"])])
    until(lambda: state(host, vm["name"])["pid"] not in (None, second["vm"]["pid"]), "the unit starts it again")
    task(host, "vmcp_vm", name=vm["name"], state="absent")


@pytest.mark.parametrize("backend", backends())
def test_after_a_reboot_of_the_host_the_vm_is_back_and_a_run_finds_nothing_to_do(host: Host, backend: str) -> None:
    vm = spec(backend)
    before = task(host, "vmcp_vm", **vm, state="running", wait_for=["running", {"console": GREETING}])
    host.reboot()
    # Its unit is through when the process is there, which is a moment before it answers.
    until(lambda: state(host, vm["name"])["state"] == "running", "it is back")
    after = state(host, vm["name"])
    assert after["boot_id"] != before["vm"]["boot_id"]
    again = task(host, "vmcp_vm", **vm, state="running", wait_for=["running", {"console": GREETING}])
    assert (again["changed"], again["actions"]) == (False, [])
    task(host, "vmcp_vm", name=vm["name"], state="absent")
