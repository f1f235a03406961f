# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A jail is mounted by the task that starts the VM, or by its launch file: the same mounts, and the launch file's where there is more to do than mounts."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import typing as t

import pytest
from vms import Maker

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import FileUse, Isolation, LaunchSpec
from ansible_collections.unkey.vmcp.plugins.module_utils.host import jail_mounts, processes
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import VmLayout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.supervisors import starting
from ansible_collections.unkey.vmcp.plugins.module_utils.host.supervisors.plain import PlainSupervisor
from ansible_collections.unkey.vmcp.tests.waiting import PATIENCE_S, soon, until

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes uids and mounts")]

UID = 70124
JAILED = Isolation(uid=UID, jail=True, seccomp=True)


@pytest.fixture
def jailer(tmp_path: pathlib.Path) -> str:
    """Stands in for the jailer: stays where it is started."""
    path = tmp_path / "jailer"
    path.write_text("#!/bin/sh\nexec sleep 300\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def kernel(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "a kernel"
    path.write_text("kernel\n")
    path.chmod(0o644)
    return path


def spec(maker: Maker, jailer: str, *uses: FileUse) -> LaunchSpec:
    documents = {"vmm.json": "{}"}
    return maker.stub_spec("stay", files=uses, jailer=jailer, documents=documents, document_uses={"vmm.json": "vmm.json"}, vmm_log_in_sandbox="/files/vmm.log")


def who_mounted(vm: VmLayout) -> str:
    supervisor = processes.parse_record(vm.supervisor)
    assert supervisor is not None
    words = pathlib.Path(f"/proc/{supervisor.pid}/cmdline").read_text().split("\0")
    return "the task" if words[-2] == "mounted" else "the launch file"


def seen_inside(vm: VmLayout) -> dict[str, t.Any]:
    """Mounts below the VM's run-time directory, in order, and what each name in the jail is."""
    process = processes.current(vm)
    assert process is not None
    mounts = []
    for line in pathlib.Path(f"/proc/{process.pid}/mountinfo").read_text().splitlines():
        _id, _parent, _device, source, where, options, *rest = line.split(" ")
        if where.startswith(vm.run.replace(" ", "\\040")):
            after = rest[rest.index("-") + 1 :]
            mounts.append((source.rpartition("/")[2], where, options, [word.partition(":")[0] for word in rest[: rest.index("-")]], after))
    # Through the VMM's own eyes.
    top = f"/proc/{process.pid}/root{vm.run}"
    names = {}
    for place, directories, files in os.walk(f"{top}/jail"):
        for name in (*directories, *files):
            status = os.lstat(f"{place}/{name}")
            names[f"{place}/{name}"[len(top) :]] = (oct(status.st_mode), status.st_uid, status.st_gid)
    return {"mounts": mounts, "names": names}


def test_both_make_the_same_mounts(maker: Maker, plain: PlainSupervisor, jailer: str, kernel: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vm = maker.layout.vm("web")
    disk = kernel.with_name("disk")
    disk.write_text("data\n")
    os.chown(disk, UID, 0)
    disk.chmod(0o600)
    uses = [FileUse(str(kernel), "kernel"), FileUse(str(disk), "disk", writable=True), FileUse(f"{vm.data}/own.raw", "own", writable=True)]
    maker.define("web", spec(maker, jailer, *uses), JAILED)
    seen = {}
    for who in ("the task", "the launch file"):
        if who == "the launch file":
            monkeypatch.setattr(jail_mounts, "read", lambda layout: None)
        assert plain.start([vm], soon()) == {}
        assert who_mounted(vm) == who
        seen[who] = seen_inside(vm)
        plain.kill(vm, soon())
    assert len(seen["the task"]["mounts"]) == 8
    assert seen["the task"] == seen["the launch file"]
    # Nothing of either is seen by the host.
    assert maker.layout.run_dir.replace(" ", "\\040") not in pathlib.Path("/proc/self/mountinfo").read_text()


def test_where_access_has_to_be_given_the_launch_file_does_it(maker: Maker, plain: PlainSupervisor, jailer: str, kernel: pathlib.Path) -> None:
    kernel.chmod(0o600)
    vm = maker.define("web", spec(maker, jailer, FileUse(str(kernel), "kernel")), JAILED)
    assert plain.start([vm], soon()) == {}
    assert who_mounted(vm) == "the launch file"
    listed = subprocess.run(["getfacl", "-cEp", str(kernel)], capture_output=True, text=True, check=True, timeout=10).stdout
    assert f"user:{UID}:r--" in listed
    plain.kill(vm, soon())


def test_where_a_file_is_missing_the_launch_file_says_so(maker: Maker, plain: PlainSupervisor, jailer: str, kernel: pathlib.Path) -> None:
    vm = maker.define("web", spec(maker, jailer, FileUse(str(kernel), "kernel")), JAILED)
    kernel.unlink()
    assert "a kernel is not there. Create it" in plain.start([vm], soon())["web"]
    kernel.write_text("again\n")
    kernel.chmod(0o644)
    assert plain.start([vm], soon()) == {}
    assert who_mounted(vm) == "the task"
    plain.kill(vm, soon())


@pytest.mark.skipif(not shutil.which("losetup"), reason="losetup is not installed")
def test_a_block_device_is_the_launch_files(maker: Maker, plain: PlainSupervisor, jailer: str, tmp_path: pathlib.Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(4096))
    done = subprocess.run(["losetup", "--find", "--show", str(image)], capture_output=True, text=True, timeout=10, check=False)
    if done.returncode != 0:
        pytest.skip(f"no loop device on this host: {done.stderr.strip()}")
    try:
        vm = maker.define("web", spec(maker, jailer, FileUse(done.stdout.strip(), "disk")), JAILED)
        assert plain.start([vm], soon()) == {}
        assert who_mounted(vm) == "the launch file"
        plain.kill(vm, soon())
    finally:
        subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True, timeout=10)


def test_the_task_itself_stays_where_it_was(maker: Maker, plain: PlainSupervisor, jailer: str, kernel: pathlib.Path) -> None:
    before = os.readlink("/proc/self/ns/mnt"), os.getcwd()
    vms = [maker.define(f"web-{n}", spec(maker, jailer, FileUse(str(kernel), "kernel")), Isolation(uid=UID + n, jail=True, seccomp=True)) for n in range(3)]
    assert plain.start(vms, soon()) == {}
    running = [processes.current(vm) for vm in vms]
    assert len({os.readlink(f"/proc/{process.pid}/ns/mnt") for process in running if process} | {before[0]}) == 4
    # None has what another has mounted.
    for vm, process in zip(vms, running, strict=True):
        assert process is not None
        mounted = pathlib.Path(f"/proc/{process.pid}/mountinfo").read_text()
        assert [other.name for other in vms if f"/{other.name}/jail " in mounted] == [vm.name]
    assert (os.readlink("/proc/self/ns/mnt"), os.getcwd()) == before
    for vm in vms:
        plain.kill(vm, soon())


def test_who_looked_at_the_files_spares_the_launch_file_a_look(maker: Maker, jailer: str, kernel: pathlib.Path) -> None:
    """As under systemd, where the task cannot mount for the unit."""
    vm = maker.define("web", spec(maker, jailer, FileUse(str(kernel), "kernel")), JAILED)
    os.close(os.open(vm.vmm_log, os.O_CREAT | os.O_WRONLY, 0o600))
    os.chown(vm.vmm_log, UID, UID)
    granted = pathlib.Path(vm.dir, "granted")

    def told() -> str:
        starting.prepare(vm, look=True)
        return pathlib.Path(vm.watched).read_text().split("\n")[1]

    def started(said: str) -> bool:
        """Whether access was given; with what was said, whatever is true."""
        starting.prepare(vm)
        pathlib.Path(vm.watched).write_text(f"2026-01-01T00:00:00.000Z\n{said}\n")
        process = subprocess.Popen(["unshare", "--mount", "--propagation", "slave", "--", "/bin/sh", vm.launch, "inside"])
        try:
            until(lambda: "sleep 300" in pathlib.Path(f"/proc/{process.pid}/cmdline").read_text().replace("\0", " "), "the jailer runs")
            return granted.exists()
        finally:
            process.kill()
            process.wait(PATIENCE_S)
            subprocess.run(["/bin/sh", vm.launch, "clear"], check=True, timeout=PATIENCE_S)

    assert told() == "open"
    assert not started("")
    os.chown(vm.vmm_log, 0, 0)
    assert told() == ""
    os.chown(vm.vmm_log, UID, UID)
    kernel.chmod(0o600)
    assert told() == ""
    assert started("")
    assert not started("open")
    kernel.unlink()
    assert told() == ""


def test_where_the_task_may_not_leave_its_namespace_the_launch_file_is_asked(
    maker: Maker, plain: PlainSupervisor, jailer: str, kernel: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that lets nobody make a mount namespace: what is told is what unshare says."""
    vm = maker.define("web", spec(maker, jailer, FileUse(str(kernel), "kernel")), JAILED)

    def refused(_calls: object) -> None:
        raise PermissionError(1, "Operation not permitted", "unshare")

    monkeypatch.setattr(jail_mounts._Calls, "leave", refused)
    assert plain.start([vm], soon()) == {}
    assert who_mounted(vm) == "the launch file"
    plain.kill(vm, soon())
