# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cut off anywhere, and a full disk: nothing is left over, nothing is lost, and the next run goes on."""

from __future__ import annotations

import errno
import os
import pathlib
import signal
import subprocess
import time
import typing as t

import pytest
from vms import NOT_ISOLATED, STUB, Maker

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import FileUse, Isolation, LaunchSpec, TapUse
from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition
from ansible_collections.unkey.vmcp.plugins.module_utils.host import events, processes
from ansible_collections.unkey.vmcp.plugins.module_utils.host.following import followed, settle
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout, VmLayout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.store import Store
from ansible_collections.unkey.vmcp.plugins.module_utils.host.supervisors import plain as plain_supervisor
from ansible_collections.unkey.vmcp.plugins.module_utils.host.supervisors.ending import clear_up_after
from ansible_collections.unkey.vmcp.plugins.module_utils.host.supervisors.plain import PlainSupervisor
from ansible_collections.unkey.vmcp.tests.removals import remove_vm
from ansible_collections.unkey.vmcp.tests.waiting import soon, until

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes uids, mounts and taps")]

ISOLATED = Isolation(uid=70777, jail=True, seccomp=True)
TAP = "vmfault0"


@pytest.fixture
def everything(maker: Maker, tmp_path: pathlib.Path) -> tuple[VmLayout, pathlib.Path]:
    """A VM that needs each kind of preparation: a file by access list, a file of its own, a document, a tap, a device."""
    disk = tmp_path / "disk"
    disk.write_text("disk\n")
    disk.chmod(0o600)
    uses = (FileUse(str(disk), "disk", writable=True), FileUse("own", "own", writable=True, seed=str(disk)))
    taps = (TapUse(TAP, ours=True),) if os.path.exists("/dev/net/tun") else ()
    spec = maker.stub_spec(
        "read", "files/disk", "files/own", "files/doc", files=uses, taps=taps, documents={"doc": "{}"}, document_uses={"doc": "doc"}, devices=("/dev/full",)
    )
    return maker.define("web", spec, ISOLATED), disk


def nothing_left(vm: VmLayout, disk: pathlib.Path) -> None:
    assert not os.path.exists(f"/sys/class/net/{TAP}")
    access = subprocess.run(["getfacl", "-cEp", str(disk)], capture_output=True, text=True, timeout=10, check=True).stdout
    assert "70777" not in access
    assert "mask" not in access
    assert not os.path.exists(f"{vm.dir}/granted")
    left = set(os.listdir(vm.run) if os.path.exists(vm.run) else ()) - {"problem", "supervisor.lock"}
    assert left == set()
    assert vm.run.replace(" ", "\\040") not in pathlib.Path("/proc/self/mountinfo").read_text()


def killed_after(vm: VmLayout, delay_s: float) -> None:
    """'run' killed with all that it has started, as a cgroup is killed."""
    process = subprocess.Popen(
        ["/bin/sh", vm.launch, "run"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    time.sleep(delay_s)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)


def test_a_start_that_is_killed_at_any_point_is_cleared_up_after(everything: tuple[VmLayout, pathlib.Path], plain: PlainSupervisor) -> None:
    vm, disk = everything
    began = time.monotonic()
    assert plain.start([vm], soon()) == {}
    whole = time.monotonic() - began
    plain.kill(vm, soon())
    reached = set()
    delays = [step * whole / 20 for step in range(25)]
    while delays:
        killed_after(vm, delays.pop(0))
        reached.add("pid" if os.path.exists(vm.pid) else "granted" if os.path.exists(f"{vm.dir}/granted") else "nothing")
        clear_up_after(vm)
        nothing_left(vm, disk)
        if not delays and not {"pid", "nothing"} <= reached and (whole := whole * 2) < 120:
            # A machine that has become slower or faster since the start that was measured.
            delays = [0.0, whole]
    assert {"pid", "nothing"} <= reached, "the kills were spread over the whole start"


def test_a_start_after_a_killed_start_succeeds(everything: tuple[VmLayout, pathlib.Path], plain: PlainSupervisor) -> None:
    vm, disk = everything
    for step in range(8):
        killed_after(vm, step * 0.01)
        assert plain.start([vm], soon()) == {}
        until(lambda: pathlib.Path(vm.console_log).read_text().count("disk\n") == 2, "the VM has its files")
        plain.kill(vm, soon())
        nothing_left(vm, disk)


def test_a_supervisor_that_is_killed_at_any_point_leaves_a_vm_that_can_be_started(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.define("web", maker.stub_spec("stay"))
    plain.ensure_installed()
    for step in range(10):
        lock = plain_supervisor._lock(vm)
        assert lock is not None
        plain_supervisor._spawn(vm, lock, None, adopt=False)
        os.close(lock)
        time.sleep(step * 0.004)
        record = processes.parse_record(f"{vm.run}/supervisor")
        if record is not None and processes.is_live(record):
            os.kill(record.pid, signal.SIGKILL)
            until(lambda record=record: not processes.is_live(record), "the supervisor is gone")
        assert plain.start([vm], soon()) == {}
        assert processes.current(vm) is not None
        plain.kill(vm, soon())
        assert processes.recorded(vm) is None


def test_an_end_that_is_killed_while_clearing_up_is_recorded_once(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.define("web", maker.stub_spec("stay"))
    plain.start([vm], soon())
    pid_file = pathlib.Path(vm.pid).read_text()
    plain.kill(vm, soon())
    pathlib.Path(vm.pid).write_text(pid_file)
    assert plain.wait_ended(vm, soon())
    assert [e["event"] for e in events.read(vm)] == ["start", "boot", "exit"]
    assert events.last_exit(events.read(vm)).reason == "request"


# --- a full disk -----------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: pathlib.Path) -> t.Iterator[Maker]:
    """State on a file system of 512 KiB."""
    point = tmp_path / "small"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k,mode=0755", "vmcp-test", str(point)], check=True, timeout=10)
    stub = tmp_path / "stub"
    stub.write_text(STUB)
    stub.chmod(0o755)
    try:
        yield Maker(Layout(str(point / "state"), str(tmp_path / "run")), stub)
    finally:
        subprocess.run(["umount", "--lazy", str(point)], check=True, timeout=10)


def test_a_start_gives_names_to_what_follows_its_launch_file(maker: Maker) -> None:
    """Power was lost when that had its name, and the rest had not; and once before, when it had not."""
    doc = pathlib.Path(maker.layout.vm("web").document("doc"))
    vm = maker.define("web", maker.stub_spec("read", str(doc), documents={"doc": "old"}))
    launch = pathlib.Path(vm.launch)
    launch.write_text(followed(launch.read_text(), "ab" * 8))
    follows, stray = (doc.with_name(f"doc.follows-{by * 8}") for by in ("ab", "cd"))
    follows.write_text("the new document")
    stray.write_text("of a change that was not made")
    plain = PlainSupervisor(maker.layout)
    assert plain.start([vm], soon(60)) == {}
    until(lambda: os.path.exists(vm.console_log) and "the new document" in pathlib.Path(vm.console_log).read_text(), "the VMM reads the new one", 60)
    assert not follows.exists() and stray.exists(), "the next task removes what follows nothing"
    settle(vm)
    assert not stray.exists() and doc.read_text() == "the new document"
    plain.kill(vm, soon(60))


def fill(directory: str) -> str:
    path = f"{directory}/filler"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(fd, bytes(4096)):
            pass
    except OSError as exc:
        assert exc.errno == errno.ENOSPC
    finally:
        os.close(fd)
    return path


def test_a_full_disk_loses_no_definition_and_says_so(small: Maker) -> None:
    small.define("web", small.stub_spec("stay"))
    store = Store(small.layout)
    before = store.load("web")
    filler = fill(small.layout.state_dir)
    with pytest.raises(FailedPrecondition, match=r"No space left on device.*Free space"):
        store.save(Store(small.layout).load("web"))
    assert store.load("web") == before
    assert [name for name in os.listdir(small.layout.vm("web").dir) if name.endswith(".tmp")] == []
    assert remove_vm(small.layout, "web") is True
    os.unlink(filler)


def test_a_vm_that_cannot_write_its_log_fails_to_start_and_starts_later(small: Maker) -> None:
    vm = small.define("web", LaunchSpec(argv=(str(small.stub), "stay"), wait_socket=""), NOT_ISOLATED)
    plain = PlainSupervisor(small.layout)
    plain.ensure_installed()
    filler = fill(small.layout.state_dir)
    failures = plain.start([vm], soon())
    assert list(failures) == ["web"]
    assert processes.current(vm) is None
    os.unlink(filler)
    assert plain.start([vm], soon()) == {}
    plain.kill(vm, soon())
