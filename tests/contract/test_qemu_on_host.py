# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU as a host runs it: by its launch file, under the plain supervisor, with a uid of its own when we are root."""

from __future__ import annotations

import os
import pathlib
import subprocess
import tempfile
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import Isolation
from ansible_collections.unkey.vmcp.plugins.module_utils.backends.qemu.driver import Driver
from ansible_collections.unkey.vmcp.plugins.module_utils.host import events, launchfile
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout, VmLayout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.store import Store
from ansible_collections.unkey.vmcp.plugins.module_utils.host.supervisors.plain import PlainSupervisor
from ansible_collections.unkey.vmcp.plugins.module_utils.model.config import VmConfig
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.tests import guests
from ansible_collections.unkey.vmcp.tests.contract.qemu_process import BINARY, GREETING, needs_qemu
from ansible_collections.unkey.vmcp.tests.waiting import soon, until

pytestmark = [needs_qemu, pytest.mark.real]

UID = 70002 if os.geteuid() == 0 else None


@pytest.fixture
def layout() -> t.Iterator[Layout]:
    with tempfile.TemporaryDirectory(prefix="vmcp") as top:
        os.chmod(top, 0o711)
        yield Layout(state_dir=f"{top}/state", run_dir=f"{top}/run")


@pytest.fixture
def plain(layout: Layout) -> t.Iterator[PlainSupervisor]:
    supervisor = PlainSupervisor(layout)
    yield supervisor
    for name in Store(layout).names():
        supervisor.kill(layout.vm(name), soon())


def define(layout: Layout, config: dict[str, t.Any]) -> VmLayout:
    """What the runner does before a start."""
    generated: dict[str, t.Any] = {"qemu_accel": "tcg"}
    if UID is not None:
        generated["uid"] = UID
    definition = Definition(name="web-1", backend="qemu", backend_version="", binary=str(BINARY), config=config, generated=generated)
    Store(layout).save(definition)
    vm = layout.vm(definition.name)
    model = VmConfig.model_validate(config)
    isolation = Isolation(uid=UID, jail=True, seccomp=True)
    paths = launchfile.sandbox_paths(vm, Driver().uses(definition, model)[0], isolation, jailed=False)
    spec = Driver().launch(definition, model, paths, isolation, vm, None)
    pathlib.Path(vm.launch).write_text(launchfile.render(vm, spec, isolation, shutdown_timeout_s=80), encoding="utf-8")
    pathlib.Path(vm.policy).write_text(launchfile.render_policy({}), encoding="utf-8")
    return vm


def kernel(layout: Layout, then: str) -> str:
    path = pathlib.Path(layout.state_dir).parent / "kernel"
    path.write_bytes(guests.pvh_guest(GREETING, then))
    return str(path)


def console(vm: VmLayout) -> str:
    return pathlib.Path(vm.console_log).read_text(encoding="utf-8", errors="replace")


def test_the_launch_file_asks_the_guest_before_it_ends_the_vmm(layout: Layout, plain: PlainSupervisor) -> None:
    disk = pathlib.Path(layout.state_dir).parent / "disk.img"
    disk.write_bytes(bytes(1 << 20))
    disk.chmod(0o600)
    config = {
        "memory": {"size_bytes": 128 << 20, "balloon": {"size_bytes": 32 << 20}},
        "boot": {"kernel_path": kernel(layout, "polite")},
        "storage": [{"id": "root", "path": str(disk), "is_root_device": True}],
    }
    vm = define(layout, config)
    assert plain.start([vm], soon()) == {}
    assert Driver().observe(vm.monitor_socket, soon(), UID).state == "running"
    told = Driver().describe(vm.api_socket, soon(), UID)["config"]
    assert [entry["id"] for entry in told["storage"]] == ["root"]
    until(lambda: GREETING in console(vm), lambda: console(vm))

    subprocess.run(["/bin/sh", vm.launch, "stop"], check=True, timeout=120)
    assert plain.wait_ended(vm, soon())
    assert "goodbye" in console(vm)
    ended = events.last_exit(events.read(vm))
    assert ended is not None and (ended.code, ended.signal) == (0, None)
    assert not os.path.exists(vm.api_socket)


def test_uefi_starts_with_a_copy_of_the_variables(layout: Layout, plain: PlainSupervisor) -> None:
    firmware = pathlib.Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
    if not firmware.exists():
        pytest.skip(f"there is no {firmware} (package ovmf)")
    vm = define(layout, {"memory": {"size_bytes": 256 << 20}, "boot": {"firmware_path": str(firmware)}})
    assert plain.start([vm], soon()) == {}
    variables = pathlib.Path(vm.data) / "efivars"
    template = firmware.with_name("OVMF_VARS_4M.fd").read_bytes()
    until(lambda: variables.read_bytes() != template, lambda: "a change of the variable store")
    assert variables.stat().st_uid == (UID or os.geteuid())
    plain.kill(vm, soon())
    # The next start takes the store as it is.
    assert plain.start([vm], soon()) == {}
    assert variables.read_bytes() != template
