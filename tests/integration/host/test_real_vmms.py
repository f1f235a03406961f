# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real VMMs through the launch file, isolated and not, with launches like those of the backends. The guest needs no Linux (tests/guests.py)."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import sys

import pytest
from vms import NOT_ISOLATED, Maker

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import FileUse, Isolation, LaunchSpec, Paths
from ansible_collections.unkey.vmcp.plugins.module_utils.host import events, processes
from ansible_collections.unkey.vmcp.plugins.module_utils.host.launchfile import sandbox_paths
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import VmLayout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.supervisors.plain import PlainSupervisor
from ansible_collections.unkey.vmcp.tests.waiting import soon, until

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from guests import pvh_guest

pytestmark = [pytest.mark.real, pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes uids and mounts")]

ISOLATED = Isolation(uid=70321, jail=True, seccomp=True)
GREETING = "hello from the guest"


def need(*binaries: str) -> list[str]:
    found = [shutil.which(binary) for binary in binaries]
    for binary, path in zip(binaries, found, strict=True):
        if path is None:
            pytest.skip(f"{binary} is not on PATH")
    if binaries[0] != "qemu-system-x86_64" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("/dev/kvm cannot be opened")
    return [os.path.realpath(str(path)) for path in found]


@pytest.fixture
def kernel(tmp_path: pathlib.Path) -> FileUse:
    """Readable by root alone, so that access has to be given."""
    path = tmp_path / "vmlinux"
    path.write_bytes(pvh_guest(GREETING))
    path.chmod(0o600)
    return FileUse(str(path), "kernel")


def seen(paths: Paths, vm: VmLayout, name: str) -> str:
    """A document or log, where the VMM finds it."""
    return f"{paths.documents}{name}" if paths.documents else vm.document(name)


def firecracker(vm: VmLayout, kernel: FileUse, paths: Paths, isolation: Isolation) -> LaunchSpec:
    binary, jailer = need("firecracker", "jailer")
    body = {
        "boot-source": {"kernel_image_path": paths.files["kernel"], "boot_args": "console=ttyS0"},
        "machine-config": {"vcpu_count": 1, "mem_size_mib": 128},
        "drives": [],
    }
    jailed = isolation.uid is not None
    arguments = ["--api-sock", f"{paths.sockets}/api.sock", "--log-path", seen(paths, vm, "vmm.log"), "--config-file", seen(paths, vm, "fc.json")]
    return LaunchSpec(
        argv=(binary, *([] if jailed else ["--id", vm.name]), *arguments),
        files=(kernel,),
        documents={"fc.json": json.dumps(body)},
        document_uses={"fc.json": "fc.json"},
        jailer=jailer if jailed else None,
        vmm_log_in_sandbox=seen(paths, vm, "vmm.log"),
        exit_zero_is_reboot=True,
    )


def cloudhypervisor(vm: VmLayout, kernel: FileUse, paths: Paths, isolation: Isolation) -> LaunchSpec:
    binary, remote = need("cloud-hypervisor", "ch-remote")
    body = {
        "payload": {"kernel": paths.files["kernel"]},
        "cpus": {"boot_vcpus": 1, "max_vcpus": 1},
        "memory": {"size": 128 << 20},
        "serial": {"mode": "Tty"},
        "console": {"mode": "Off"},
        "landlock_enable": isolation.uid is not None,
    }
    socket = f"{paths.sockets}/api.sock"
    return LaunchSpec(
        argv=(binary, "--api-socket", f"path={socket}"),
        files=(kernel,),
        documents={"ch.json": json.dumps(body)},
        after_start=((remote, "--api-socket", socket, "create", vm.document("ch.json")), (remote, "--api-socket", socket, "boot")),
        devices=("/dev/kvm",),
    )


def qemu(vm: VmLayout, kernel: FileUse, paths: Paths, isolation: Isolation) -> LaunchSpec:
    (binary,) = need("qemu-system-x86_64")
    socket = f"{paths.sockets}/api.sock"
    words = ["-M", "microvm,acpi=off", "-accel", "tcg", "-m", "128", "-nodefaults", "-display", "none", "-serial", "stdio", "-kernel", paths.files["kernel"]]
    return LaunchSpec(argv=(binary, *words, "-qmp", f"unix:{socket},server=on,wait=off"), files=(kernel,))


@pytest.mark.parametrize("isolation", [ISOLATED, NOT_ISOLATED], ids=["isolated", "bare"])
@pytest.mark.parametrize("vmm", [firecracker, cloudhypervisor, qemu])
def test_a_vmm_boots_its_guest_and_leaves_nothing_behind(maker: Maker, plain: PlainSupervisor, kernel: FileUse, vmm: object, isolation: Isolation) -> None:
    vm = maker.layout.vm("guest")
    paths = sandbox_paths(vm, [kernel], isolation, jailed=vmm is firecracker)
    maker.define("guest", vmm(vm, kernel, paths, isolation), isolation)
    for dummy in range(2):
        assert plain.start([vm], soon(60)) == {}
        process = until(lambda: processes.current(vm), "the VMM runs")
        until(lambda: GREETING in pathlib.Path(vm.console_log).read_text(), "the guest has greeted")
        assert pathlib.Path(f"/proc/{process.pid}").stat().st_uid == (isolation.uid or 0)
        assert os.stat(vm.api_socket).st_mode & 0o777 == 0o600
        assert events.boot_duration_ms(events.read(vm), process.boot_id) is not None
        plain.kill(vm, soon())
        assert sorted(os.listdir(vm.run)) == ["supervisor.lock"]
    # Mounts of others come and go; mountinfo writes blanks so.
    assert maker.layout.run_dir.replace(" ", "\\040") not in pathlib.Path("/proc/self/mountinfo").read_text()
    assert os.stat(kernel.path).st_mode & 0o777 == 0o600


def test_sockets_are_the_vms_alone_also_after_a_start_by_policy(maker: Maker, plain: PlainSupervisor, kernel: FileUse) -> None:
    """Where no task watches, the launch file sees to it."""
    vm = maker.layout.vm("guest")
    paths = sandbox_paths(vm, [kernel], ISOLATED, jailed=True)
    maker.define("guest", firecracker(vm, kernel, paths, ISOLATED), ISOLATED, restart_policy={"on_crash": "restart", "max_per_hour": 1})
    assert plain.start([vm], soon()) == {}
    before = until(lambda: processes.current(vm), "the VMM runs")
    processes.send(vm, signal.SIGSEGV)
    until(lambda: (now := processes.current(vm)) is not None and now.boot_id != before.boot_id and os.path.exists(vm.up), "it was started again")
    assert os.stat(vm.api_socket).st_mode & 0o777 == 0o600


def test_a_firecracker_guest_that_resets_is_rebooted(maker: Maker, plain: PlainSupervisor, kernel: FileUse) -> None:
    pathlib.Path(kernel.path).write_bytes(pvh_guest(GREETING, "reset"))
    vm = maker.layout.vm("guest")
    paths = sandbox_paths(vm, [kernel], ISOLATED, jailed=True)
    maker.define("guest", firecracker(vm, kernel, paths, ISOLATED), ISOLATED, restart_policy={"on_reboot": "restart", "max_per_hour": 2})
    assert plain.start([vm], soon()) == {}
    until(lambda: not os.path.exists(f"{vm.run}/supervisor"), "policy is through")
    assert [e["event"] for e in events.read(vm)] == ["start", "boot", "exit"] * 3 + ["restart_limit"]
    assert GREETING in pathlib.Path(vm.console_log).read_text()
    assert events.last_exit(events.read(vm)).reason == "guest"
