# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends that nobody asked for: how they are recorded, and what the restart policy does about them without Ansible."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import GREETING, Playground, Tree, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm, use
from ansible_collections.unkey.vmcp.tests.linux_guest import GuestUnavailable, cache_directory, linux_guest


def kill(registered: str) -> Tree:
    return {"name": f"kill {registered}", "ansible.builtin.command": f"kill -9 {{{{ {registered} }}}}"}


def until(title: str, condition: str) -> Tree:
    """Asks until C(condition) on C(seen), the VM's element of vmcp_vm_info, holds."""
    asked = task(title, "vmcp_vm_info", names=["end"], gather=["events"], register="found")
    return {**asked, "until": condition.replace("seen.", "found.vms[0]."), "retries": 300, "delay": 0.25}


def test_a_vmm_that_is_killed(ground: Playground, backend: Vmm, guest: t.Callable[..., str]) -> None:
    given = {"name": "end", "backend": backend.backend, "memory": "128M", "kernel": guest("halt"), **backend.options}
    results = ground.play(
        [
            task("boot", state="running", register="boot", **given),
            kill("boot.vm.pid"),
            # Its end is written down, by another process, some time after its process is gone.
            until("crashed", "seen.state == 'crashed' and seen.last_exit.reason == 'crash'"),
            task("present", **given),
            task("shutdown", name="end", state="shutdown"),
            task("again", name="end", state="running", restart_policy={"on_crash": "restart", "max_per_hour": 1}, register="again"),
            kill("again.vm.pid"),
            until("back", "seen.pid not in [none, again.vm.pid]"),
            task("is found as it is", state="running", **given),
            kill("found.vms[0].pid"),
            until("limit", "seen.state == 'crashed' and seen.events[-1].event == 'restart_limit'"),
        ]
    )
    (vm,) = results.ok("crashed")["vms"]
    assert (vm["stop_reason"], vm["pid"], vm["boot_id"]) == ("crash", None, None)
    assert {key: vm["last_exit"][key] for key in ("reason", "code", "signal")} == {"reason": "crash", "code": None, "signal": "SIGKILL"}
    assert vm["last_exit"]["boot_id"] == results.ok("boot")["vm"]["boot_id"]
    history = [(event["event"], event.get("reason")) for event in vm["events"]]
    assert history == [("start", None), ("boot", None), ("exit", "crash")]
    assert not results.ok("present")["changed"] and results["present"]["vm"]["state"] == "crashed", "present leaves the power as it is"
    assert not results.ok("shutdown")["changed"], "it is down already, and its record stays"
    assert results.ok("again")["actions"] == ["update", "start"]
    (back,) = results.ok("back")["vms"]
    assert back["state"] == "running" and back["pid"] != results["again"]["vm"]["pid"]
    assert not results.ok("is found as it is")["changed"]
    (limit,) = results.ok("limit")["vms"]
    assert limit["state"] == "crashed" and limit["events"][-1]["event"] == "restart_limit"


@pytest.mark.parametrize("name", ["qemu", "firecracker"])
def test_a_guest_that_reboots(ground: Playground, name: str, guest: t.Callable[..., str]) -> None:
    """Firecracker's process ends when its guest reboots, QEMU's goes on: C(on_reboot) means the same for both."""
    backend = use(name, ground)
    given = {"name": "end", "backend": backend.backend, "memory": "128M", "kernel": guest("reset"), **backend.options}
    results = ground.play(
        [
            task("stop", state="running", restart_policy={"on_reboot": "stop"}, **given),
            until("stopped", "seen.state == 'shutdown'"),
            task("console of one", "vmcp_console", name="end"),
            task("restart", state="running", restart_policy={"on_reboot": "restart", "max_per_hour": 2}, **given),
            task("greets again", "vmcp_vm_info", names=["end"]),
            until("rebooted", "seen.events | selectattr('event', 'equalto', 'restart_limit') | list | length > 0 or seen.backend == 'qemu'"),
            task("remove", name="end", state="absent"),
        ]
    )
    assert results.ok("stop")["actions"] == ["define", "start"]
    (vm,) = results.ok("stopped")["vms"]
    assert (vm["stop_reason"], vm["last_exit"]["code"], vm["last_exit"]["signal"]) == ("guest", 0, None)
    assert results.ok("console of one")["text"].count(GREETING) == 1
    results.ok("restart")
    (after,) = results.ok("rebooted")["vms"]
    if name == "firecracker":
        assert after["state"] == "shutdown" and [e["event"] for e in after["events"]][-1] == "restart_limit"
    else:
        assert after["state"] == "running"
    results.ok("remove")


def test_cloud_hypervisor_cannot_stop_instead_of_a_reboot(ground: Playground, guest: t.Callable[..., str]) -> None:
    backend = use("cloudhypervisor", ground, start=False)
    results = ground.play(
        [task("stop", name="end", backend=backend.backend, kernel=guest("reset"), restart_policy={"on_reboot": "stop"}, check=True, **backend.options)]
    )
    assert "restart_policy.on_reboot" in [v["field"] for v in results.refused("stop", "invalid_argument")["violations"]]


@pytest.mark.parametrize("name", ["qemu", "firecracker"])
def test_a_graceful_shutdown_is_the_guests_own(ground: Playground, name: str, guest: t.Callable[..., str]) -> None:
    backend = use(name, ground)
    given = {"name": "end", "backend": name, "memory": "128M", "kernel": guest("polite"), "wait_for": [{"console": GREETING}], **backend.options}
    results = ground.play(
        [
            task("boot", state="running", **given),
            task("pause", name="end", state="paused"),
            task("shut down", name="end", state="shutdown", shutdown_timeout=300),
            task("console", "vmcp_console", name="end"),
        ]
    )
    results.ok("pause")
    ended = results.ok("shut down")
    assert (ended["actions"], ended["vm"]["stop_reason"]) == (["shutdown"], "request")
    assert "goodbye" in results.ok("console")["lines"], "a paused guest is resumed, or it could not hear"
    assert ended.seconds < 200, "the grace was not used up"


def test_linux_shuts_down_by_its_power_button(ground: Playground, qemu: Vmm) -> None:
    try:
        linux = linux_guest(cache_directory())
    except GuestUnavailable as exc:
        pytest.skip(str(exc))
    given = {"name": "linux", "backend": "qemu", "memory": "256M", "vcpus": 2, "kernel": str(linux.kernel), "initrd": str(linux.initrd)}
    results = ground.play(
        [
            task("boot", state="running", kernel_args="console=ttyS0 panic=-1 no_timer_check quiet", wait_for=[{"console": "hello from linux"}], **given),
            task("shut down", name="linux", state="shutdown", shutdown_timeout=400),
            task("console", "vmcp_console", name="linux"),
        ]
    )
    results.ok("boot")
    assert results.ok("shut down")["vm"]["state"] == "shutdown" and results["shut down"]["vm"]["last_exit"]["code"] == 0
    console = results.ok("console")["lines"]
    assert {"cpus 2", "goodbye", "cmdline console=ttyS0 panic=-1 no_timer_check quiet"} <= set(console)
