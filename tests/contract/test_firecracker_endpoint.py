# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Firecracker that somebody else runs: its VM comes and is looked at through the API alone."""

from __future__ import annotations

import pathlib
import signal
import subprocess
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils import errors
from ansible_collections.unkey.vmcp.plugins.module_utils.backends.unix_http import Connection
from ansible_collections.unkey.vmcp.plugins.module_utils.model.config import VmConfig
from ansible_collections.unkey.vmcp.tests.contract.firecracker_process import BINARIES, Vmm
from ansible_collections.unkey.vmcp.tests.fakes.micro_http import CONNECTIONS_MAX
from ansible_collections.unkey.vmcp.tests.waiting import PATIENCE_S, soon, until


@pytest.fixture(params=BINARIES)
def vmm(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> t.Iterator[Vmm]:
    made = Vmm(request.param, tmp_path)
    yield made
    made.close()


@pytest.fixture
def fake(tmp_path: pathlib.Path) -> t.Iterator[Vmm]:
    made = Vmm("fake", tmp_path)
    yield made
    made.close()


def test_define_boot_pause_resume(vmm: Vmm) -> None:
    vmm.empty()
    assert vmm.state() == "absent"
    config = vmm.config(
        storage=[{"id": "root", "path": vmm.disk(), "is_root_device": True, "io_engine": "sync"}],
        vsock={"cid": 3, "path": str(vmm.directory / "v.sock")},
        memory={"size_bytes": "128M", "max_size_bytes": "384M", "balloon": {"size_bytes": "1M"}},
        rng={},
        backend_options={"firecracker": {"machine-config": {"track_dirty_pages": True}, "drives": [{"drive_id": "root_root", "cache_type": "Unsafe"}]}},
    )
    vmm.driver.define_on(vmm.socket, config, soon())
    assert vmm.state() == "created"
    described = vmm.driver.describe(vmm.socket, soon())
    assert VmConfig.model_validate(described["config"]) == config.model_copy(update={"backend_options": VmConfig().backend_options})
    raw = Connection(vmm.socket, soon()).request("GET", "/vm/config").value
    assert (raw["machine-config"]["track_dirty_pages"], raw["drives"][0]["cache_type"]) == (True, "Unsafe")
    vmm.driver.boot_on(vmm.socket, soon())
    vmm.greeted()
    assert vmm.state() == "running"
    vmm.driver.pause(vmm.socket, soon())
    assert vmm.state() == "paused"
    vmm.driver.resume(vmm.socket, soon())
    assert vmm.state() == "running"


def test_a_vm_is_defined_once(vmm: Vmm) -> None:
    vmm.empty()
    vmm.driver.define_on(vmm.socket, vmm.config(), soon())
    with pytest.raises(errors.FailedPrecondition, match=r"already has a VM \(created\)"):
        vmm.driver.define_on(vmm.socket, vmm.config(), soon())
    vmm.driver.boot_on(vmm.socket, soon())
    with pytest.raises(errors.FailedPrecondition, match=r"already has a VM \(running\)"):
        vmm.driver.define_on(vmm.socket, vmm.config(), soon())
    with pytest.raises(errors.FailedPrecondition, match=r"refused 'PUT /actions': The requested operation is not supported after starting the microVM"):
        vmm.driver.boot_on(vmm.socket, soon())


def test_a_definition_that_broke_off_is_none_and_can_be_tried_again(vmm: Vmm) -> None:
    vmm.empty()
    vsock = {"cid": 3, "path": str(vmm.directory / "v.sock")}
    hotplug = {"firecracker": {"memory-hotplug": {"total_size_mib": 100}}}
    storage = [{"id": "root", "path": vmm.disk(), "is_root_device": True}]
    with pytest.raises(errors.FailedPrecondition, match="Memory hotplug config error"):
        vmm.driver.define_on(vmm.socket, vmm.config(storage=storage, vsock=vsock, backend_options=hotplug), soon())
    assert vmm.state() == "absent"
    with pytest.raises(errors.FailedPrecondition, match="already has root_root, and its API cannot take that away"):
        vmm.driver.define_on(vmm.socket, vmm.config(), soon())
    vmm.driver.define_on(vmm.socket, vmm.config(storage=storage, vsock=vsock), soon())
    vmm.driver.boot_on(vmm.socket, soon())
    vmm.greeted()


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ({"path": "/nonexistent/disk", "id": "a"}, "Drive config error: .*No such file or directory"),
        ({"vhost_user_socket": "/nonexistent/socket", "id": "a"}, "Drive config error: .*Vhost user backend error"),
    ],
)
def test_refusals_come_in_firecrackers_own_words(vmm: Vmm, storage: dict[str, t.Any], said: str) -> None:
    vmm.empty()
    with pytest.raises(errors.FailedPrecondition, match=f"Firecracker refused 'PUT /drives/disk_a': {said}"):
        vmm.driver.define_on(vmm.socket, vmm.config(storage=[storage]), soon())


def test_a_word_that_the_user_passed_through_is_the_users(vmm: Vmm) -> None:
    vmm.empty()
    with pytest.raises(errors.InvalidArgument, match=r"config.backend_options.firecracker.machine-config: .*unknown field `bogus`") as caught:
        vmm.driver.define_on(vmm.socket, vmm.config(backend_options={"firecracker": {"machine-config": {"bogus": 1}}}), soon())
    assert [violation.field for violation in caught.value.violations] == ["config.backend_options.firecracker.machine-config"]
    with pytest.raises(errors.InvalidArgument, match=r"config.backend_options.firecracker.bogus: is no part"):
        vmm.driver.define_on(vmm.socket, vmm.config(backend_options={"firecracker": {"bogus": {}}}), soon())


def test_what_needs_a_vm_is_refused_without_one(vmm: Vmm) -> None:
    vmm.empty()
    for call in (vmm.driver.pause, vmm.driver.resume, vmm.driver.request_shutdown):
        with pytest.raises(errors.FailedPrecondition, match="not supported before starting the microVM"):
            call(vmm.socket, soon())
    with pytest.raises(errors.FailedPrecondition, match="Cannot start microvm without kernel configuration"):
        vmm.driver.boot_on(vmm.socket, soon())


def test_only_the_owner_ends_the_process(vmm: Vmm) -> None:
    vmm.empty()
    for call in (vmm.driver.shutdown_on, vmm.driver.remove_on):
        with pytest.raises(errors.FailedPrecondition, match=r"whoever runs the process behind .* stops it"):
            call(vmm.socket, soon())
    assert not vmm.ended()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("GET", "/", None, 200, '{"id": "web-1", "state": "Not started", "vmm_version": "1.'),
        ("GET", "/version/surplus", None, 200, '{"firecracker_version": "1.'),
        ("GET", "/foo", None, 400, '{"fault_message": "Invalid request method and/or path: GET foo."}'),
        ("GET", "/", {"a": 1}, 400, '{"fault_message": "GET request cannot have a body."}'),
        ("GET", "/balloon", None, 400, '{"fault_message": "Balloon config error: No balloon device found."}'),
        ("GET", "/hotplug/memory", None, 400, '{"fault_message": "The requested operation is not supported before starting the microVM."}'),
        ("GET", "/mmds", None, 200, "{}"),
        ("PUT", "/drives/a", None, 400, '{"fault_message": "Empty PUT request."}'),
        ("PUT", "/drives/a-b", {"drive_id": "a-b", "is_root_device": False}, 400, '{"fault_message": "API Resource IDs can only contain'),
        ("PUT", "/drives/a", {"drive_id": "b", "is_root_device": False}, 400, '{"fault_message": "The id from the path does not match'),
        ("PUT", "/drives/a", {"drive_id": "a", "is_root_device": False}, 400, '{"fault_message": "Drive config error: Unable to create the virtio block'),
        ("PUT", "/machine-config", {"vcpu_count": 33, "mem_size_mib": 1}, 400, '{"fault_message": "Machine config error: The number of vCPUs'),
        ("PUT", "/machine-config", {"vcpu_count": 3, "mem_size_mib": 1, "smt": True}, 400, '{"fault_message": "Machine config error: The number of vCPUs'),
        ("PUT", "/machine-config", {"vcpu_count": 1, "mem_size_mib": 0}, 400, '{"fault_message": "Machine config error: The memory size'),
        ("PUT", "/machine-config", {"vcpu_count": 1}, 400, '{"fault_message": "An error occurred when deserializing the json body of a request: missing field'),
        ("PUT", "/boot-source", {"kernel_image_path": "/nonexistent"}, 400, '{"fault_message": "Boot source error: The kernel file cannot be opened'),
        (
            "PUT",
            "/boot-source",
            {"kernel_image_path": 5},
            400,
            '{"fault_message": "An error occurred when deserializing the json body of a request: invalid type',
        ),
        (
            "PUT",
            "/boot-source",
            {"kernel_image_path": "/x", "y": 1},
            400,
            '{"fault_message": "An error occurred when deserializing the json body of a request: unknown field',
        ),
        (
            "PUT",
            "/network-interfaces/n",
            {"iface_id": "n", "host_dev_name": "t", "guest_mac": "zz"},
            400,
            '{"fault_message": "An error occurred when deserializing the json body of',
        ),
        (
            "PUT",
            "/network-interfaces/n",
            {"iface_id": "n", "host_dev_name": "x" * 16},
            400,
            '{"fault_message": "Network config error: Could not create the network device',
        ),
        (
            "PUT",
            "/balloon",
            {"amount_mib": 1_000_000, "deflate_on_oom": True},
            400,
            '{"fault_message": "Balloon config error: Amount of pages requested is too large',
        ),
        ("PUT", "/mmds/config", {"network_interfaces": []}, 400, '{"fault_message": "MMMDS config error: The list of network interface IDs that allow'),
        ("PUT", "/mmds/config", {"network_interfaces": ["n"]}, 400, '{"fault_message": "MMMDS config error: The list of network interface IDs provided'),
        ("PUT", "/hotplug/memory", {"total_size_mib": 100}, 400, '{"fault_message": "Memory hotplug config error: Total size must not be lower'),
        (
            "PUT",
            "/actions",
            {"action_type": "Bogus"},
            400,
            '{"fault_message": "An error occurred when deserializing the json body of a request: unknown variant',
        ),
        ("PUT", "/mmds", {"filler": "x" * 52_000}, 400, '{ "error": "Request payload with size 52014 is larger than the limit of 51200 allowed by server.'),
    ],
)
def test_the_fake_speaks_as_the_real_one_does(vmm: Vmm, method: str, path: str, body: t.Any, status: int, said: str) -> None:
    """Beginnings only, and blanks apart: that is what clients may rely on."""
    vmm.empty()
    reply = Connection(vmm.socket, soon()).request(method, path, body)
    assert reply.status == status
    assert reply.text.replace('":"', '": "').replace(',"', ', "').startswith(said)


def test_more_connections_than_the_server_takes_are_unavailable(vmm: Vmm) -> None:
    import socket

    vmm.empty()
    held = [socket.socket(socket.AF_UNIX) for dummy in range(CONNECTIONS_MAX)]
    try:
        for one in held:
            one.connect(vmm.socket)
        with pytest.raises(errors.Unavailable, match="Too many open connections"):
            until(lambda: vmm.state() == "busy", "a refusal")
    finally:
        for one in held:
            one.close()
    until(lambda: _observes(vmm), "a free place")


def _observes(vmm: Vmm) -> bool:
    try:
        return vmm.state() == "absent"
    except errors.Unavailable:
        return False


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        ("hang", errors.DeadlineExceeded, "did not answer in time"),
        ("slow", errors.DeadlineExceeded, "did not answer in time"),
        ("garbage", errors.Internal, "does not speak the VMM's HTTP: b'SSH-2.0"),
        ("half", errors.Unavailable, "closed before the reply was complete"),
        ("huge", errors.Internal, "announces a reply of 1073741824 bytes"),
        ("nonsense", errors.Internal, r"no Firecracker|no JSON object"),
    ],
)
def test_a_vmm_gone_wrong_is_told_apart_and_within_the_deadline(fake: Vmm, fault: str, error: type[errors.VmcpError], said: str) -> None:
    fake.empty(FAKE_VMM_FAULT=fault)
    for call in (fake.driver.observe, fake.driver.describe):
        began = time.monotonic()
        with pytest.raises(error, match=said):
            # Little time where it is to run out; what is an answer, however wrong, may be slow.
            call(fake.socket, soon(0.5 if error is errors.DeadlineExceeded else 50))
        assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--version",), 0, ""),
        (("--api-sock=x",), 153, "UnexpectedArgument"),
        (("--bogus",), 153, "UnexpectedArgument"),
        (("--id", "a", "--id", "b"), 153, "DuplicateArgument"),
        (("--level", "loud"), 152, "InvalidLogLevel"),
        (("--id", "a_b"), -signal.SIGABRT, ""),
        (("--config-file", "/nonexistent", "--api-sock", "unused"), -signal.SIGABRT, ""),
        (("--api-sock", "taken"), 1, "FailedToBindSocket"),
        (("--config-file", "empty.json", "--api-sock", "unused"), 1, "missing field `boot-source`"),
    ],
)
def test_command_lines_and_exit_codes(vmm: Vmm, arguments: tuple[str, ...], code: int, said: str) -> None:
    (vmm.directory / "taken").write_text("")
    (vmm.directory / "empty.json").write_text('{"drives": []}')
    done = subprocess.run([vmm.binary, *arguments], cwd=vmm.directory, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, said in done.stderr) == (code, True)
    if arguments == ("--version",):
        assert done.stdout.startswith("Firecracker v1.")
