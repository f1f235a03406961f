# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole VM in the real jailer, from the driver's launch through the launch file: what was written for the inside is found there."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import tempfile
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils import errors
from ansible_collections.unkey.vmcp.plugins.module_utils.backends.firecracker.driver import Driver
from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import Isolation
from ansible_collections.unkey.vmcp.plugins.module_utils.host import events, launchfile, processes
from ansible_collections.unkey.vmcp.plugins.module_utils.host.files import write_atomic
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout, VmLayout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.store import Store
from ansible_collections.unkey.vmcp.plugins.module_utils.host.supervisors.plain import PlainSupervisor
from ansible_collections.unkey.vmcp.plugins.module_utils.model.config import VmConfig
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.tests.contract.vmm_process import GREETING, why_not_real
from ansible_collections.unkey.vmcp.tests.guests import pvh_guest
from ansible_collections.unkey.vmcp.tests.waiting import soon, until

UID = 70_777
ISOLATION = Isolation(uid=UID, jail=True, seccomp=True)


def _why_not() -> str | None:
    if os.geteuid() != 0:
        return "the jailer needs root"
    return "there is no jailer on PATH" if shutil.which("jailer") is None else why_not_real("firecracker")


_WHY_NOT = _why_not()
pytestmark = [pytest.mark.real, pytest.mark.root, pytest.mark.skipif(_WHY_NOT is not None, reason=f"jailed Firecracker not run: {_WHY_NOT}")]


@pytest.fixture
def layout() -> t.Iterator[Layout]:
    with tempfile.TemporaryDirectory(prefix="vmcp-jail-") as top:
        os.chmod(top, 0o711)
        yield Layout(state_dir=f"{top}/state", run_dir=f"{top}/run")


def _file(directory: pathlib.Path, name: str, content: bytes) -> str:
    """Readable by root alone: the VM gets at it through what the launch file grants."""
    path = directory / name
    path.write_bytes(content)
    path.chmod(0o600)
    return str(path)


def _defined(layout: Layout, vm: VmLayout, config: VmConfig) -> None:
    binary, jailer = (os.path.realpath(str(shutil.which(name))) for name in ("firecracker", "jailer"))
    definition = Definition(
        name=vm.name,
        backend="firecracker",
        backend_version="1.16.1",
        binary=binary,
        helpers={"jailer": jailer},
        config=config.model_dump(),
        generated={"uid": UID, "cid": 33},
    )
    driver = Driver()
    paths = launchfile.sandbox_paths(vm, driver.uses(definition, config)[0], ISOLATION, jailed=True)
    spec = driver.launch(definition, config, paths, ISOLATION, vm, None)
    Store(layout).save(definition)
    for name, text in spec.documents.items():
        write_atomic(vm.document(name), text)
    write_atomic(vm.policy, launchfile.render_policy({}))
    write_atomic(vm.launch, launchfile.render(vm, spec, ISOLATION, shutdown_timeout_s=5, start_timeout_s=20))


def test_a_jailed_vm_from_start_to_end(layout: Layout, tmp_path: pathlib.Path) -> None:
    vm, driver, plain = layout.vm("web-1"), Driver(), PlainSupervisor(layout)
    config = VmConfig.model_validate(
        {
            "memory": {"size_bytes": "128M"},
            "boot": {"kernel_path": _file(tmp_path, "vmlinux", pvh_guest(GREETING, "polite")), "initrd_path": _file(tmp_path, "initrd", bytes(4096))},
            "storage": [
                {"id": "Root-1", "path": _file(tmp_path, "root.img", bytes(1 << 20)), "is_root_device": True},
                {"id": "data", "path": _file(tmp_path, "data.img", bytes(1 << 20)), "read_only": True},
            ],
            "vsock": {},
            "rng": {},
        }
    )
    _defined(layout, vm, config)
    plain.ensure_installed()
    assert plain.start([vm], soon()) == {}
    try:
        until(lambda: GREETING in pathlib.Path(vm.console_log).read_text(), "the greeting")
        observed = driver.observe(vm.api_socket, soon(), UID)
        assert (observed.state, os.stat(vm.api_socket).st_uid) == ("running", UID)
        with pytest.raises(errors.FailedPrecondition, match=f"runs as uid {UID}, not as the VM's uid 0"):
            driver.observe(vm.api_socket, soon(), 0)
        assert os.stat(vm.vsock_socket).st_uid == UID
        driver.pause(vm.api_socket, soon(), UID)
        driver.resume(vm.api_socket, soon(), UID)
        storage = driver.describe(vm.api_socket, soon(), UID)["config"]["storage"]
        assert [(disk["id"], disk["path"]) for disk in storage] == [("Root-1", "/files/root__52oot_2d1"), ("data", "/files/disk_data")]
        # Unasked, code 0 would be the guest's reboot.
        processes.mark_stopping(vm, "request")
        assert driver.request_shutdown(vm.api_socket, soon(), UID) is True
        assert plain.wait_ended(vm, soon())
    finally:
        plain.kill(vm, soon())
    assert pathlib.Path(vm.console_log).read_text() == f"{GREETING}\ngoodbye\n"
    last = events.last_exit(events.read(vm))
    assert last is not None
    assert (last.code, last.signal) == (0, None)
    assert not os.path.exists(vm.api_socket)


def test_the_launch_file_asks_the_guest_to_stop_without_a_module(layout: Layout, tmp_path: pathlib.Path) -> None:
    vm, plain = layout.vm("web-1"), PlainSupervisor(layout)
    kernel = _file(tmp_path, "vmlinux", pvh_guest(GREETING, "polite"))
    _defined(layout, vm, VmConfig.model_validate({"memory": {"size_bytes": "128M"}, "boot": {"kernel_path": kernel}}))
    plain.ensure_installed()
    assert plain.start([vm], soon()) == {}
    try:
        until(lambda: GREETING in pathlib.Path(vm.console_log).read_text(), "the greeting")
        subprocess.run(["/bin/sh", vm.launch, "stop"], check=True, timeout=20)
        assert plain.wait_ended(vm, soon())
    finally:
        plain.kill(vm, soon())
    assert pathlib.Path(vm.console_log).read_text() == f"{GREETING}\ngoodbye\n"
    last = events.last_exit(events.read(vm))
    assert last is not None
    assert (last.code, last.signal) == (0, None)


def test_a_kernel_that_does_not_boot_in_the_jail_says_why_in_the_vms_log(layout: Layout, tmp_path: pathlib.Path) -> None:
    vm, plain = layout.vm("web-1"), PlainSupervisor(layout)
    _defined(layout, vm, VmConfig.model_validate({"memory": {"size_bytes": "128M"}, "boot": {"kernel_path": _file(tmp_path, "vmlinux", b"no kernel")}}))
    plain.ensure_installed()
    plain.start([vm], soon())
    assert plain.wait_ended(vm, soon())
    assert "Kernel Loader" in pathlib.Path(vm.vmm_log).read_text()
    last = events.last_exit(events.read(vm))
    assert last is not None
    assert last.code == 1
