# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Cloud Hypervisor that somebody else runs: its VM comes, goes and is looked at through the API alone."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.unix_http import Connection
from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition, InvalidArgument, Unavailable
from ansible_collections.unkey.vmcp.plugins.module_utils.model.config import VmConfig
from ansible_collections.unkey.vmcp.plugins.module_utils.model.merge import changed_fields, fill_defaults, merge_config
from ansible_collections.unkey.vmcp.tests.contract.cloudhypervisor_process import BINARIES, Vmm
from ansible_collections.unkey.vmcp.tests.waiting import soon, until


@pytest.fixture(params=BINARIES)
def vmm(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> t.Iterator[Vmm]:
    started = Vmm(request.param, tmp_path)
    started.empty()
    yield started
    started.close()


def test_define_boot_shut_down_boot_again_remove(vmm: Vmm) -> None:
    driver, config = vmm.driver, vmm.config(storage=[{"id": "sys", "path": vmm.disk(), "is_root_device": True}])
    assert vmm.state() == "absent"
    driver.define_on(vmm.socket, config, soon())
    assert vmm.state() == "created"
    driver.boot_on(vmm.socket, soon())
    assert vmm.state() == "running"
    vmm.greeted()
    for _again in range(2):
        driver.shutdown_on(vmm.socket, soon())
        assert vmm.state() == "created"
    driver.boot_on(vmm.socket, soon())
    driver.pause(vmm.socket, soon())
    driver.shutdown_on(vmm.socket, soon())
    assert vmm.state() == "created"
    driver.boot_on(vmm.socket, soon())
    for _again in range(2):
        driver.remove_on(vmm.socket, soon())
        assert vmm.state() == "absent"
    assert not vmm.ended()


def test_the_same_configuration_is_no_change(vmm: Vmm) -> None:
    given = {
        "memory": {"size_bytes": "128M", "balloon": {"size_bytes": "1M"}, "hugepages": False},
        "cpu": {"vcpu_count": 1},
        "boot": {"kernel_path": vmm.kernel(), "kernel_args": "console=ttyS0"},
        "storage": [{"id": "sys", "path": vmm.disk(), "is_root_device": True, "read_only": False}, {"id": "b-2", "path": vmm.disk("b"), "io_engine": "aio"}],
        "vsock": {"cid": 3, "path": str(vmm.directory / "v.sock")},
        "console": {"output": "file"},
    }
    vmm.driver.define_on(vmm.socket, VmConfig.model_validate(given), soon())
    for boot in (False, True):
        if boot:
            vmm.driver.boot_on(vmm.socket, soon())
        there = vmm.driver.describe(vmm.socket, soon())["config"]
        sizes = VmConfig.model_validate(given).model_dump(exclude_unset=True)
        assert changed_fields(there, fill_defaults(merge_config(there, sizes))) == []


def test_a_defined_vm_has_a_description_and_no_counters(vmm: Vmm) -> None:
    vmm.driver.define_on(vmm.socket, vmm.config(), soon())
    said = vmm.driver.describe(vmm.socket, soon())
    assert said["counters"] == {}
    assert said["config"]["memory"] == {"size_bytes": 128 << 20}


def test_a_vm_is_defined_once_and_what_runs_is_left_alone(vmm: Vmm) -> None:
    vmm.driver.define_on(vmm.socket, vmm.config(), soon())
    with pytest.raises(
        FailedPrecondition, match=r"^Cloud Hypervisor would not take the VM's configuration: The VM could not be created: VM is already created\.$"
    ):
        vmm.driver.define_on(vmm.socket, vmm.config(), soon())
    assert vmm.state() == "created"
    vmm.driver.boot_on(vmm.socket, soon())
    with pytest.raises(FailedPrecondition, match="VM is already created"):
        vmm.driver.boot_on(vmm.socket, soon())
    assert vmm.state() == "running"


def test_a_boot_that_failed_late_can_be_tried_again(vmm: Vmm) -> None:
    config = vmm.config()
    kernel = pathlib.Path(str(config.boot.kernel_path))
    vmm.driver.define_on(vmm.socket, config, soon())
    kernel.rename(kernel.with_suffix(".away"))
    with pytest.raises(
        FailedPrecondition, match=r"would not boot the VM: The VM could not boot: Cannot open kernel file: No such file or directory \(os error 2\)\.$"
    ):
        vmm.driver.boot_on(vmm.socket, soon())
    assert vmm.state() == "created"
    kernel.with_suffix(".away").rename(kernel)
    vmm.driver.boot_on(vmm.socket, soon())
    vmm.greeted()


def test_a_configuration_that_was_refused_leaves_nothing(vmm: Vmm) -> None:
    console = {"output": "socket", "path": "/nonexistent/console.sock"}
    with pytest.raises(FailedPrecondition, match="Error creating console device: No such file or directory"):
        vmm.driver.define_on(vmm.socket, vmm.config(console=console), soon())
    assert vmm.state() == "absent"
    vmm.driver.define_on(vmm.socket, vmm.config(), soon())


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"storage": [{"id": "a", "path": "/nonexistent/disk"}]}, r"Cannot open disk path: I/O error \(path=/nonexistent/disk op=open\)"),
        ({"storage": [{"id": "a", "path": "/dev/null", "num_queues": 9}]}, r"Failed to validate config: Queue count \(9\) must not exceed boot vCPUs \(1\)"),
        ({"network": [{"id": "a", "tap_device": "vmnone", "mtu": 100}]}, "Provided MTU 100 is lower than 1280"),
        ({"memory": {"size_bytes": "64M", "shared": True, "mergeable": True}}, "Failed to validate config: Invalid to set both"),
        ({"storage": [{"id": "a", "vhost_user_socket": "/nonexistent/s"}]}, "Failed to validate config: .*shared memory"),
        ({"cpu": {"vcpu_count": 2, "topology": {"packages": 3}}}, "Failed to validate config: .*topology"),
    ],
)
def test_refusals_come_in_the_vmms_own_words(vmm: Vmm, parts: dict[str, t.Any], words: str) -> None:
    vmm.driver.define_on(vmm.socket, vmm.config(**parts), soon())
    with pytest.raises(FailedPrecondition, match=f"would not boot the VM: The VM could not boot: .*{words}"):
        vmm.driver.boot_on(vmm.socket, soon())
    assert vmm.state() == "created"


def test_what_needs_a_vm_is_refused_without_one(vmm: Vmm) -> None:
    for call in (vmm.driver.pause, vmm.driver.resume, vmm.driver.request_shutdown):
        with pytest.raises(FailedPrecondition, match="VM is not running"):
            call(vmm.socket, soon())
    with pytest.raises(FailedPrecondition, match="VM config is missing"):
        vmm.driver.boot_on(vmm.socket, soon())
    with pytest.raises(FailedPrecondition, match="VM is not created"):
        vmm.driver.describe(vmm.socket, soon())
    vmm.driver.shutdown_on(vmm.socket, soon())
    vmm.driver.remove_on(vmm.socket, soon())


def test_nothing_is_chosen_for_somebody_elses_vmm(vmm: Vmm) -> None:
    with pytest.raises(InvalidArgument, match=r"config\.vsock\.cid"):
        vmm.driver.define_on(vmm.socket, vmm.config(vsock={}), soon())
    assert vmm.state() == "absent"


def test_the_owners_console_file_is_written(vmm: Vmm) -> None:
    path = vmm.directory / "own.log"
    vmm.driver.define_on(vmm.socket, vmm.config(console={"output": "file", "path": str(path)}), soon())
    vmm.driver.boot_on(vmm.socket, soon())
    until(lambda: path.stat().st_size > 0, "output in the file")
    assert vmm.console == ""


def test_the_fake_answers_errors_as_the_real_one_does(vmm: Vmm) -> None:
    """What the driver never does and the fake must not get wrong: bodies byte by byte."""
    asked: list[tuple[str, str, t.Any, int, str]] = [
        ("GET", "vm.info", None, 404, '["Error from API","The VM info is not available","VM is not created"]'),
        ("PUT", "vm.pause", None, 500, '["Error from API","The VM could not be paused","VM is not running"]'),
        ("PUT", "vm.boot", None, 404, '["Error from API","The VM could not boot","VM config is missing"]'),
        ("PUT", "vm.delete", None, 204, ""),
        ("GET", "nope", None, 404, '["Not Found"]'),
        ("GET", "vm.boot", None, 400, '["Bad Request"]'),
        ("PUT", "vm.boot", {}, 400, '["Bad Request"]'),
        ("PUT", "vm.create", None, 400, ""),
        ("PUT", "vm.create", {"cpus": {"boot_vcpus": 1}}, 400, '["Failed to deserialize JSON","missing field `max_vcpus`'),
        ("PUT", "vm.create", {"serial": {"mode": "tty"}}, 400, '["Failed to deserialize JSON","unknown variant `tty`, expected one of `Off`, `Pty`'),
        ("PUT", "vm.create", {"payload": {}, "console": {"mode": "Null"}}, 204, ""),
        ("PUT", "vm.create", {"payload": {}, "console": {"mode": "Null"}}, 500, '["Error from API","The VM could not be created","VM is already created"]'),
        ("PUT", "vm.boot", None, 500, '["Error from API","The VM could not boot","Failed to validate config","Payload configuration is not bootable"'),
        ("GET", "vm.counters", None, 500, '["Error from API","The VM info is not available","VM is not running"]'),
    ]
    for method, call, body, status, text in asked:
        reply = Connection(vmm.socket, soon()).request(method, f"/api/v1/{call}", body)
        assert (call, reply.status) == (call, status)
        assert reply.text.replace('", "', '","').startswith(text), reply.text


def test_a_mode_without_its_file_kills_the_vmm(vmm: Vmm) -> None:
    """A known killer, which the model keeps from users; only backend_options can do it."""
    config = vmm.config(backend_options={"cloudhypervisor": {"serial": {"mode": "File"}}})
    # It dies while it answers: its last words may or may not get out.
    with pytest.raises((FailedPrecondition, Unavailable), match=r"receiving on a closed channel|closed before the reply was complete"):
        vmm.driver.define_on(vmm.socket, config, soon())
    assert vmm.exit_code() == 1
