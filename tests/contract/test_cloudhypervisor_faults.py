# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Cloud Hypervisor that goes wrong, or is older: only the fake can be made to."""

from __future__ import annotations

import pathlib
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils import errors
from ansible_collections.unkey.vmcp.plugins.module_utils.backends.unix_http import Connection
from ansible_collections.unkey.vmcp.tests.contract.cloudhypervisor_process import Vmm
from ansible_collections.unkey.vmcp.tests.contract.vmm_process import GREETING
from ansible_collections.unkey.vmcp.tests.waiting import soon


@pytest.fixture
def vmm(tmp_path: pathlib.Path) -> t.Iterator[Vmm]:
    started = Vmm("fake", tmp_path)
    yield started
    started.close()


def _patience(error: type[errors.VmcpError]) -> float:
    """Little time where it is to run out; what is an answer, however wrong, may be slow."""
    return soon(0.5 if error is errors.DeadlineExceeded else 50)


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        ("hang", errors.DeadlineExceeded, "did not answer in time"),
        ("slow", errors.DeadlineExceeded, "did not answer in time"),
        ("garbage", errors.Internal, "SSH-2.0"),
        ("half", errors.Unavailable, "closed before the reply was complete"),
        ("huge", errors.Internal, "1073741824 bytes"),
        ("nonsense", errors.Internal, "makes no sense"),
    ],
)
def test_every_wrong_answer_is_an_error_in_time(vmm: Vmm, fault: str, error: type[errors.VmcpError], words: str) -> None:
    vmm.empty(FAKE_VMM_FAULT=fault)
    for call in (vmm.driver.observe, vmm.driver.pause, vmm.driver.resume, vmm.driver.request_shutdown):
        started = time.monotonic()
        with pytest.raises(error, match=words):
            call(vmm.socket, _patience(error))
        assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    ("fault", "error"), [("hang", errors.DeadlineExceeded), ("garbage", errors.Internal), ("half", errors.Unavailable), ("nonsense", errors.Internal)]
)
def test_a_description_never_comes_from_nonsense(vmm: Vmm, fault: str, error: type[errors.VmcpError]) -> None:
    vmm.empty(FAKE_VMM_FAULT=fault)
    with pytest.raises(error):
        vmm.driver.describe(vmm.socket, _patience(error))


def test_a_boot_that_fails_is_told_by_the_command_after_the_start(vmm: Vmm) -> None:
    spec = vmm.launch(vmm.config())
    vmm.run(spec.argv, FAKE_VMM_FAULT="boot")
    with pytest.raises(AssertionError, match=r"(?s)'boot'.*Invalid argument \(os error 22\)"):
        vmm.after_start(spec)


def test_a_guest_may_ignore_the_power_button(vmm: Vmm) -> None:
    spec = vmm.launch(vmm.config("polite"))
    vmm.run(spec.argv, FAKE_GUEST_STUBBORN="1")
    vmm.after_start(spec)
    assert vmm.driver.request_shutdown(vmm.socket, soon())
    time.sleep(0.4)
    assert vmm.state() == "running"


def test_a_kernel_that_is_no_guest_of_ours_greets_as_told_and_sees_the_button(vmm: Vmm) -> None:
    config = vmm.config()
    pathlib.Path(str(config.boot.kernel_path)).write_bytes(b"\x7fELF" + bytes(600))
    spec = vmm.launch(config)
    vmm.run(spec.argv, FAKE_GUEST_GREETING=f"{GREETING}\r\n")
    vmm.after_start(spec)
    vmm.greeted()
    vmm.driver.request_shutdown(vmm.socket, soon())
    assert vmm.exit_code() == 0


@pytest.mark.parametrize(("version", "status"), [("53.0", 404), ("52.0", 500), ("46.0", 500)])
def test_no_vm_is_absent_in_every_version(vmm: Vmm, version: str, status: int) -> None:
    vmm.empty(FAKE_VMM_VERSION=version)
    assert Connection(vmm.socket, soon()).request("GET", "/api/v1/vm.info").status == status
    assert vmm.state() == "absent"


def test_errors_of_versions_before_47_are_text(vmm: Vmm) -> None:
    vmm.empty(FAKE_VMM_VERSION="46.0")
    with pytest.raises(errors.FailedPrecondition, match=r"^Cloud Hypervisor would not boot the VM: The VM could not boot: VM config is missing\.$"):
        vmm.driver.boot_on(vmm.socket, soon())


def test_an_older_version_gets_a_document_that_it_knows(vmm: Vmm) -> None:
    vmm.empty(FAKE_VMM_VERSION="50.0")
    vmm.driver.define_on(vmm.socket, vmm.config(storage=[{"id": "a", "path": vmm.disk()}]), soon())
    # Not said, so it is what the VMM takes it for.
    assert "format" not in vmm.driver.describe(vmm.socket, soon())["config"]["storage"][0]


def test_the_fake_refuses_what_the_real_one_would_ignore(vmm: Vmm) -> None:
    vmm.empty()
    typo = vmm.config(backend_options={"cloudhypervisor": {"memory": {"huge_pages": True}}})
    with pytest.raises(errors.FailedPrecondition, match=r"would ignore unknown field `huge_pages`"):
        vmm.driver.define_on(vmm.socket, typo, soon())


def test_nobody_behind_the_socket_is_unavailable(vmm: Vmm) -> None:
    for call in (vmm.driver.observe, vmm.driver.pause, vmm.driver.describe):
        with pytest.raises(errors.Unavailable, match="There is no socket"):
            call(vmm.socket, soon())
    vmm.empty()
    vmm.close()
    with pytest.raises(errors.Unavailable, match="has ended"):
        vmm.driver.observe(vmm.socket, soon())
