# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM that is started from its launch specification: the way all VMs of ours on Firecracker start."""

from __future__ import annotations

import os
import pathlib
import subprocess
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils import errors
from ansible_collections.unkey.vmcp.plugins.module_utils.model.config import VmConfig
from ansible_collections.unkey.vmcp.tests.contract.firecracker_process import BINARIES, Vmm
from ansible_collections.unkey.vmcp.tests.contract.vmm_process import GREETING
from ansible_collections.unkey.vmcp.tests.fakes.firecracker import DOCUMENT
from ansible_collections.unkey.vmcp.tests.fakes.openapi import find
from ansible_collections.unkey.vmcp.tests.waiting import PATIENCE_S, soon, until


@pytest.fixture(params=BINARIES)
def vmm(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> t.Iterator[Vmm]:
    made = Vmm(request.param, tmp_path)
    yield made
    made.close()


def test_requests_are_checked_against_the_api_document() -> None:
    if find(DOCUMENT) is None:
        pytest.skip(f"shared/specs/{DOCUMENT} is not beside the clone: the fake checks requests by its own tables alone")


def test_a_boot_fills_the_console_and_nothing_else_does(vmm: Vmm) -> None:
    vmm.start(vmm.config())
    vmm.greeted()
    observed = vmm.driver.observe(vmm.socket, soon(), os.geteuid())
    assert (observed.state, observed.version is not None) == ("running", True)
    vmm.driver.describe(vmm.socket, soon())
    until(lambda: vmm.console.endswith("\n"), "the end of the line")
    assert vmm.console == f"{GREETING}\r\n"
    assert "request" not in vmm.log


def test_pause_and_resume_are_idempotent(vmm: Vmm) -> None:
    vmm.start(vmm.config())
    vmm.greeted()
    for act, state in ((vmm.driver.pause, "paused"), (vmm.driver.pause, "paused"), (vmm.driver.resume, "running"), (vmm.driver.resume, "running")):
        act(vmm.socket, soon(), os.geteuid())
        assert vmm.state() == state


def test_a_paused_guest_stands_still(vmm: Vmm) -> None:
    vmm.start(vmm.config("tick"))
    until(lambda: "tick 2" in vmm.console, "the second tick")
    vmm.driver.pause(vmm.socket, soon())
    before = vmm.console
    with pytest.raises(subprocess.TimeoutExpired):
        assert vmm.process is not None
        vmm.process.wait(0.8)
    assert vmm.console == before
    vmm.driver.resume(vmm.socket, soon())
    until(lambda: len(vmm.console) > len(before), "another tick")


def test_a_polite_guest_shuts_down_when_asked(vmm: Vmm) -> None:
    vmm.start(vmm.config("polite"))
    vmm.greeted()
    assert vmm.driver.request_shutdown(vmm.socket, soon(), os.geteuid()) is True
    assert vmm.exit_code() == 0
    assert vmm.console.endswith("goodbye\r\n")
    with pytest.raises(errors.Unavailable, match="Nobody listens"):
        vmm.state()


def test_the_command_that_asks_without_a_module(vmm: Vmm) -> None:
    spec = vmm.start(vmm.config("polite"))
    vmm.greeted()
    subprocess.run(spec.stop, cwd=vmm.layout.run, check=True, timeout=PATIENCE_S)
    assert vmm.exit_code() == 0


def test_that_command_follows_no_link(vmm: Vmm) -> None:
    spec = vmm.start(vmm.config("polite"))
    vmm.greeted()
    real = pathlib.Path(vmm.socket)
    real.rename(real.with_name("elsewhere.sock"))
    real.symlink_to("elsewhere.sock")
    done = subprocess.run(spec.stop, cwd=vmm.layout.run, check=False, timeout=PATIENCE_S, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "vmm/api.sock is not a socket\n")
    with pytest.raises(errors.FailedPrecondition, match="is a link"):
        vmm.state()


def test_a_guest_that_does_not_listen_goes_on(vmm: Vmm) -> None:
    vmm.start(vmm.config("halt"))
    vmm.greeted()
    assert vmm.driver.request_shutdown(vmm.socket, soon()) is True
    assert vmm.state() == "running"
    assert not vmm.ended()


def test_a_reset_ends_the_process(vmm: Vmm) -> None:
    vmm.start(vmm.config("reset"))
    assert vmm.exit_code() == 0
    assert GREETING in vmm.console


@pytest.mark.parametrize(
    ("kernel_args", "expected", "root"),
    [
        (None, "console=ttyS0 reboot=k panic=1", "root=/dev/vda ro"),
        ("console=ttyS0 quiet", "console=ttyS0 quiet", "root=/dev/vda ro"),
        ("console=ttyS0 root=/dev/vda1 init=/x", "console=ttyS0 root=/dev/vda1 init=/x", "root=/dev/vda1"),
    ],
)
def test_the_kernels_command_line(vmm: Vmm, kernel_args: str | None, expected: str, root: str) -> None:
    storage = [{"path": vmm.disk("data"), "id": "data"}, {"path": vmm.disk("root"), "id": "root", "is_root_device": True, "read_only": True}]
    vmm.start(vmm.config("cmdline", boot={"kernel_args": kernel_args}, storage=storage))
    until(lambda: "cmdline: " in vmm.console and vmm.console.endswith("\r\n"), "the command line")
    line = vmm.console.split("cmdline: ")[1]
    assert line.startswith(expected)
    assert [word for word in line.split() if word.startswith("root=")] == [root.split(maxsplit=1)[0]]
    assert root in line


def whole(vmm: Vmm) -> dict[str, t.Any]:
    """Every field that Firecracker has and says back, but for those that need more of the host than a file."""
    return {
        "cpu": {"vcpu_count": 2, "topology": {"threads_per_core": 2, "cores_per_die": 1}},
        "memory": {
            "size_bytes": 128 << 20,
            "max_size_bytes": 256 << 20,
            "balloon": {"size_bytes": 8 << 20, "deflate_on_oom": True, "free_page_reporting": True},
        },
        "boot": {"kernel_args": "console=ttyS0 root=/dev/vda1", "initrd_path": vmm.disk("initrd")},
        "storage": [
            {
                "id": "root-1",
                "path": vmm.disk("root"),
                "is_root_device": True,
                "io_engine": "sync",
                "rate_limit": {"bandwidth": {"size": 1 << 20, "refill_ms": 1000, "burst": 4096}, "ops": {"size": 10, "refill_ms": 200}},
            },
            {"id": "a.B_c", "path": vmm.disk("data"), "read_only": True, "io_engine": "sync"},
        ],
        "rng": {"source": "/dev/urandom"},
        "vsock": {"cid": 42},
    }


def test_describe_gives_back_what_was_launched(vmm: Vmm) -> None:
    config = vmm.config(**whole(vmm))
    vmm.start(config)
    vmm.greeted()
    described = vmm.driver.describe(vmm.socket, soon(), os.geteuid())
    assert VmConfig.model_validate(described["config"]) == config
    assert described["counters"]["memory_hotplug"]["plugged_size_mib"] == 0


def test_a_custom_cpu_template(vmm: Vmm) -> None:
    vmm.start(vmm.config(cpu={"template": {"kvm_capabilities": [], "cpuid_modifiers": []}}))
    vmm.greeted()
    assert vmm.state() == "running"


def test_the_network_and_metadata(vmm: Vmm) -> None:
    if vmm.which == "real" and os.geteuid() != 0:
        pytest.skip("real taps need root")
    limit = {"bandwidth": {"size": 1 << 20, "refill_ms": 500}}
    network = [
        {"id": "front", "tap_device": "vmcptest0", "mac_address": "52:54:00:00:00:01", "mtu": 1400, "rate_limit_rx": limit, "rate_limit_tx": limit},
        {"id": "back", "tap_device": "br-data"},
    ]
    config = vmm.config(network=network)
    vmm.start(config, metadata={"role": "web", "filler": "x" * 60_000}, macs={"back": "52:54:00:00:00:02"}, taps={"back": "vmcptest1"})
    vmm.greeted()
    back, front = vmm.driver.describe(vmm.socket, soon())["config"]["network"]
    assert VmConfig.model_validate({"network": [front]}).network == config.network[:1]
    assert back == {"id": "back", "tap_device": "vmcptest1", "mac_address": "52:54:00:00:00:02"}


@pytest.mark.parametrize(("content", "said"), [(None, "kernel file cannot be opened"), (b"#!/bin/sh\n" * 500, "Invalid Elf magic number")])
def test_a_kernel_that_does_not_boot_ends_the_process_with_a_reason_in_its_log(vmm: Vmm, content: bytes | None, said: str) -> None:
    kernel = vmm.directory / "kernel"
    if content is not None:
        kernel.write_bytes(content)
    vmm.start(vmm.config(boot={"kernel_path": str(kernel)}))
    assert vmm.exit_code() == 1
    assert said in vmm.log
    assert vmm.console == ""


def test_another_uid_behind_the_socket_is_refused(vmm: Vmm) -> None:
    vmm.start(vmm.config())
    vmm.greeted()
    for call in (vmm.driver.observe, vmm.driver.pause, vmm.driver.describe):
        with pytest.raises(errors.FailedPrecondition, match=f"runs as uid {os.geteuid()}, not as the VM's uid 4242"):
            call(vmm.socket, soon(), 4242)
    assert vmm.state() == "running"
