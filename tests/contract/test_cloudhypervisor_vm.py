# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM's life on Cloud Hypervisor as a launch file gives it one: the same tests on the fake and on the real binary."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import socket
import stat
import tempfile
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition, Unavailable
from ansible_collections.unkey.vmcp.plugins.module_utils.model.config import VmConfig
from ansible_collections.unkey.vmcp.tests.contract.cloudhypervisor_process import BINARIES, REAL_JAILED, TAP, UID, Vmm
from ansible_collections.unkey.vmcp.tests.contract.vmm_process import GREETING
from ansible_collections.unkey.vmcp.tests.waiting import soon, until


@pytest.fixture(params=BINARIES)
def vmm(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> t.Iterator[Vmm]:
    started = Vmm(request.param, tmp_path)
    yield started
    started.close()


def test_boots_and_greets_on_the_console_log(vmm: Vmm) -> None:
    vmm.start(vmm.config("cmdline", storage=[{"id": "sys", "path": vmm.disk(), "is_root_device": True}]))
    vmm.greeted()
    until(lambda: "cmdline: console=ttyS0 panic=1 root=/dev/vda rw" in vmm.console, "the command line")
    assert vmm.state() == "running"
    assert stat.S_IMODE(os.stat(vmm.socket).st_mode) & 0o077 == 0


def test_pause_and_resume_are_idempotent(vmm: Vmm) -> None:
    vmm.start(vmm.config())
    for _again in range(2):
        vmm.driver.pause(vmm.socket, soon())
        assert vmm.state() == "paused"
    for _again in range(2):
        vmm.driver.resume(vmm.socket, soon())
        assert vmm.state() == "running"


def test_the_console_survives_a_reboot_in_the_process(vmm: Vmm) -> None:
    vmm.start(vmm.config("reset"))
    until(lambda: vmm.console.count(GREETING) >= 3, "a third boot")
    assert not vmm.ended()


def test_a_guest_that_powers_off_ends_the_process_well(vmm: Vmm) -> None:
    vmm.start(vmm.config("poweroff"))
    vmm.greeted()
    assert vmm.exit_code() == 0
    with pytest.raises(Unavailable, match="no socket"):
        vmm.state()


def test_the_power_button_is_pressed_also_on_a_paused_vm(vmm: Vmm) -> None:
    vmm.start(vmm.config("polite"))
    vmm.greeted()
    vmm.driver.pause(vmm.socket, soon())
    assert vmm.driver.request_shutdown(vmm.socket, soon()) is True
    if vmm.which == "fake":  # the real one tells the guest by ACPI, which this guest does not speak
        assert vmm.exit_code() == 0
        assert "goodbye" in vmm.console
    else:
        assert vmm.state() == "running"


def test_the_stop_command_presses_the_power_button(vmm: Vmm) -> None:
    spec = vmm.start(vmm.config("polite"))
    vmm.greeted()
    done = vmm.command(spec.stop)
    assert (done.returncode, done.stderr) == (0, "")


def test_sigterm_ends_it_cleanly(vmm: Vmm) -> None:
    vmm.start(vmm.config())
    vmm.greeted()
    assert vmm.process
    vmm.process.terminate()
    assert vmm.exit_code() == 0
    assert not pathlib.Path(vmm.socket).exists()


@pytest.mark.parametrize("_again", range(3))
def test_a_vm_that_rebooted_often_ends_well(vmm: Vmm, _again: int) -> None:
    """Built with glibc it dies of SIGSYS otherwise, more often than not, when its threads give their memory back."""
    vmm.start(vmm.config("reset", storage=[{"id": "sys", "path": vmm.disk()}], vsock={}), cid=5)
    until(lambda: vmm.console.count(GREETING) >= 10, "ten boots")
    for _request in range(5):
        vmm.state()
    assert vmm.process
    vmm.process.terminate()
    assert vmm.exit_code() == 0


def test_the_description_is_what_was_asked_for(vmm: Vmm) -> None:
    limit = {"bandwidth": {"size": 1 << 20, "refill_ms": 1000, "burst": 0}}
    config = vmm.config(
        cpu={"vcpu_count": 2, "max_vcpu_count": 4, "topology": {"cores_per_die": 4}, "affinity": [{"vcpu": 0, "host_cpus": [0]}], "nested": False},
        memory={"size_bytes": "128M", "max_size_bytes": "256M", "shared": True, "balloon": {"deflate_on_oom": True, "free_page_reporting": True}},
        boot={"kernel_args": "quiet"},
        storage=[
            {"id": "data-1", "path": vmm.disk("data"), "serial": "D1", "io_engine": "sync", "rate_limit": limit, "num_queues": 2, "queue_size": 64},
            {"id": "sys", "path": vmm.disk("sys"), "is_root_device": True, "read_only": True, "format": "raw", "direct_io": False},
        ],
        rng={"source": "/dev/random"},
        vsock={},
        watchdog=True,
    )
    vmm.start(config, cid=7)
    said = vmm.driver.describe(vmm.socket, soon())
    assert set(said["counters"]) == {"root_sys", "disk_data_2d1"}
    assert said["console_path"] is None
    back = VmConfig.model_validate(said["config"])
    assert back.cpu.model_dump(exclude={"features"}) == config.cpu.model_dump(exclude={"features"})
    assert back.memory == config.memory
    assert back.boot == config.boot
    assert [disk.id for disk in back.storage] == ["sys", "data-1"]
    data = back.storage[1]
    assert (data.serial, data.io_engine, data.num_queues, data.queue_size, data.format) == ("D1", "sync", 2, 64, "raw")
    assert data.rate_limit == config.storage[0].rate_limit
    assert (back.storage[0].is_root_device, back.storage[0].read_only) == (True, True)
    assert back.vsock and back.vsock.cid == 7
    assert back.rng == config.rng
    assert back.watchdog is True


def test_memory_zones_and_kvm_features_by_backend_options(vmm: Vmm) -> None:
    zones = [{"id": "Zone-0", "size_bytes": "64M"}, {"id": "Zone-1", "size_bytes": "64M", "shared": True}]
    config = vmm.config(memory={"size_bytes": "128M", "zones": zones}, backend_options={"cloudhypervisor": {"memory": {"thp": False}}})
    vmm.start(config)
    said = VmConfig.model_validate(vmm.driver.describe(vmm.socket, soon())["config"])
    assert said.memory == config.memory


def test_a_pty_is_reported_and_has_the_greeting(vmm: Vmm) -> None:
    vmm.start(vmm.config("echo", console={"output": "tty"}))
    said = vmm.driver.describe(vmm.socket, soon())
    assert said["console_path"].startswith("/dev/pts/")
    assert said["config"]["console"] == {"enabled": True, "output": "tty"}
    pty = os.open(said["console_path"], os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    text = bytearray()

    def greeted() -> bool:
        with contextlib.suppress(BlockingIOError):
            text.extend(os.read(pty, 4096))
        return GREETING.encode() in text

    try:
        until(greeted, "the greeting on the pty")
    finally:
        os.close(pty)


def test_a_console_socket_is_the_vms_own(vmm: Vmm) -> None:
    vmm.start(vmm.config(console={"output": "socket"}))
    assert stat.S_ISSOCK(os.stat(vmm.layout.console_socket).st_mode)


@pytest.mark.parametrize("console", [{"output": "null"}, {"enabled": False}], ids=["null", "disabled"])
def test_a_silent_console_says_nothing(vmm: Vmm, console: dict[str, t.Any]) -> None:
    vmm.start(vmm.config(console=console))
    assert vmm.state() == "running"
    assert vmm.console == ""


def test_a_kernel_that_is_none_fails_the_start_in_the_vmms_words(vmm: Vmm) -> None:
    config = vmm.config()
    pathlib.Path(str(config.boot.kernel_path)).write_bytes(b"no kernel" * 100)
    spec = vmm.launch(config)
    vmm.run(spec.argv)
    with pytest.raises(AssertionError, match="The VM could not boot"):
        vmm.after_start(spec)


def test_a_stale_socket_is_no_obstacle_and_a_live_one_is(vmm: Vmm) -> None:
    vmm.empty()
    second = vmm.command((vmm.binary, "--api-socket", "path=vmm/api.sock"))
    assert second.returncode == 1
    assert "already in use by another running instance" in second.stderr
    vmm.close()
    assert pathlib.Path(vmm.socket).exists()
    vmm.process = None
    vmm.empty()
    until(lambda: vmm.state() == "absent", "an answer of the second")


def test_a_socket_that_is_not_served_yet_is_waited_for(vmm: Vmm) -> None:
    spec = vmm.launch(vmm.config())
    with socket.socket(socket.AF_UNIX) as bound, ThreadPoolExecutor(1) as pool:
        bound.bind(vmm.socket)
        waiting = pool.submit(vmm.command, spec.after_start[0])
        time.sleep(0.3)
        assert not waiting.done()
        vmm.empty()
        assert waiting.result().returncode == 0
    vmm.after_start(spec)
    assert vmm.state() == "running"


def test_a_socket_that_nobody_serves_is_given_up_with_the_reason(vmm: Vmm) -> None:
    spec = vmm.launch(vmm.config())
    done = vmm.command(spec.after_start[0])
    assert done.returncode == 1
    assert "Error opening HTTP socket" in done.stderr


def test_another_uid_behind_the_socket_is_refused(vmm: Vmm) -> None:
    vmm.empty()
    with pytest.raises(FailedPrecondition, match="not as the VM's uid"):
        vmm.driver.observe(vmm.socket, soon(), peer_uid=os.geteuid() + 1)


class TestJailed:
    pytestmark: t.ClassVar = REAL_JAILED

    @pytest.fixture
    def vmm(self) -> t.Iterator[Vmm]:
        # pytest's own directories are closed to other users.
        with tempfile.TemporaryDirectory(prefix="vmcp-") as directory:
            started = Vmm("real", pathlib.Path(directory))
            yield started
            started.close()

    @pytest.mark.parametrize("output", ["file", "tty", "socket"])
    def test_boots_with_landlock_and_a_tap_as_its_own_uid(self, vmm: Vmm, output: str) -> None:
        config = vmm.config(
            "tick",
            storage=[{"id": "sys", "path": vmm.disk(), "is_root_device": True}],
            network=[{"id": "lan", "tap_device": "br-lan", "mtu": 1400}],
            console={"output": output},
            vsock={},
        )
        spec = vmm.start_jailed(config, cid=9, macs={"lan": "52:54:00:00:00:01"}, taps={"lan": TAP})
        assert json.loads(spec.documents["ch.json"])["landlock_enable"] is True
        assert vmm.driver.observe(vmm.socket, soon(), UID).state == "running"
        said = vmm.driver.describe(vmm.socket, soon(), UID)
        assert said["config"]["network"][0]["mac_address"] == "52:54:00:00:00:01"
        assert vmm.process
        status = pathlib.Path(f"/proc/{vmm.process.pid}/status").read_text(encoding="utf-8")
        assert f"Uid:\t{UID}\t{UID}\t{UID}\t{UID}" in status
        assert "CapEff:\t0000000000000000" in status
        if output == "file":
            until(lambda: "tick 2" in vmm.console, "ticks on the console log")
            assert os.stat(vmm.layout.console_log).st_uid == 0

    @pytest.mark.parametrize("output", ["file", "tty", "socket"])
    def test_reboots_within_landlock(self, vmm: Vmm, output: str) -> None:
        config = vmm.config("reset", network=[{"id": "lan", "tap_device": "br-lan"}], console={"output": output}, vsock={})
        vmm.start_jailed(config, cid=9, taps={"lan": TAP})
        until(lambda: vmm.console.count(GREETING) >= 5 or (output != "file" and vmm.state() == "running"), "five boots")
        assert not vmm.ended(), vmm.log

    def test_landlock_keeps_it_from_other_files(self, vmm: Vmm) -> None:
        """The proof that the sandbox is on: a disk that the document does not name cannot be added by the API, though the uid may read it."""
        vmm.start_jailed(vmm.config())
        other = pathlib.Path(vmm.disk("other"))
        other.chmod(0o666)
        assert vmm.process
        done = vmm.command((vmm.remote, "--api-socket", "vmm/api.sock", "add-disk", f"path={other},image_type=raw"))
        assert done.returncode == 1
        assert "Permission denied" in done.stderr
