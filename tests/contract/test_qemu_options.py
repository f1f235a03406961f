# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every field that is translated is taken by the real QEMU, and read back where QEMU tells it. The VMs are not run (C(-S))."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.contract.qemu_process import Vm, needs_qemu, needs_root, vm_in
from ansible_collections.unkey.vmcp.tests.waiting import until

pytestmark = [needs_qemu, pytest.mark.real]

MIB = 1 << 20


@pytest.fixture
def vm(tmp_path: pathlib.Path) -> t.Iterator[Vm]:
    with vm_in(tmp_path) as made:
        yield made


def defined(vm: Vm, config: dict[str, t.Any], machine: dict[str, t.Any] | None = None, **how: t.Any) -> dict[str, t.Any]:
    """What QEMU says of a VM with this configuration."""
    vm.start({**config, "backend_options": {"qemu": {"args": ["-S"], "machine": machine or {}}}}, **how)
    assert vm.state == "created"
    return t.cast("dict[str, t.Any]", vm.describe()["config"])


# --- fields that come back as they were given -----------------------------------------------------------------

ROUND_TRIPS: dict[str, dict[str, t.Any]] = {
    "cpus": {"cpu": {"vcpu_count": 3}},
    "cpus to grow": {"cpu": {"vcpu_count": 1, "max_vcpu_count": 8}},
    "topology": {"cpu": {"vcpu_count": 8, "topology": {"threads_per_core": 2, "cores_per_die": 2, "dies_per_package": 1, "packages": 2}}},
    "topology with dies": {"cpu": {"vcpu_count": 4, "topology": {"threads_per_core": 1, "cores_per_die": 2, "dies_per_package": 2, "packages": 1}}},
    "memory": {"memory": {"size_bytes": 96 * MIB}},
    "memory to grow": {"memory": {"size_bytes": 128 * MIB, "max_size_bytes": 1024 * MIB}},
    "memory shared": {"memory": {"size_bytes": 64 * MIB, "shared": True, "mergeable": False, "prefault": False}},
    "memory mergeable and prefaulted": {"memory": {"size_bytes": 64 * MIB, "shared": False, "mergeable": True, "prefault": True}},
    "memory zones": {
        "memory": {
            "size_bytes": 96 * MIB,
            "zones": [
                {"id": "a", "size_bytes": 64 * MIB, "host_numa_node": 0, "shared": False, "mergeable": True, "prefault": False},
                {"id": "b.2", "size_bytes": 32 * MIB, "host_numa_node": None, "shared": True, "mergeable": False, "prefault": False},
            ],
        }
    },
    "balloon": {"memory": {"size_bytes": 64 * MIB, "balloon": {"size_bytes": 0, "deflate_on_oom": True, "free_page_reporting": True}}},
    "watchdog": {"watchdog": True},
    "no console": {"console": {"enabled": False}},
    "console in a file": {"console": {"enabled": True, "output": "file"}},
    "console on a pty": {"console": {"enabled": True, "output": "tty"}},
    "console dropped": {"console": {"enabled": True, "output": "null"}},
    "console on a socket": {"console": {"enabled": True, "output": "socket"}},
}


def assert_within(given: t.Any, seen: t.Any, path: str = "config") -> None:
    """Everything given is seen with its value."""
    if isinstance(given, dict):
        for key, value in given.items():
            assert key in seen, f"{path}.{key} is not told: {seen}"
            assert_within(value, seen[key], f"{path}.{key}")
    elif isinstance(given, list):
        assert len(given) == len(seen), f"{path}: {seen}"
        for index, value in enumerate(given):
            assert_within(value, seen[index], f"{path}[{index}]")
    else:
        assert seen == given, path


@pytest.mark.parametrize("config", [pytest.param(config, id=name) for name, config in ROUND_TRIPS.items()])
def test_comes_back_as_given(vm: Vm, config: dict[str, t.Any]) -> None:
    assert_within(config, defined(vm, vm.tiny(**config)))


def test_boot_comes_back_as_given(vm: Vm) -> None:
    boot = {**vm.tiny()["boot"], "initrd_path": vm.disk("initrd,comma"), "kernel_args": 'console=ttyS0 x="1, 2" -- init=a,b'}
    assert_within({"boot": boot}, defined(vm, vm.tiny(boot=boot)))


DISKS: dict[str, dict[str, t.Any]] = {
    "plain": {},
    "read-only": {"read_only": True},
    "id of every sign": {"id": "Data-1_x.y"},
    "direct": {"direct_io": True},
    "threads": {"io_engine": "sync"},
    "aio": {"io_engine": "aio", "direct_io": True},
    "io_uring": {"io_engine": "io_uring"},
    "serial": {"serial": "S-0123456789.abc_def"},
    "queues": {"num_queues": 2, "queue_size": 64},
    "limits": {"rate_limit": {"bandwidth": {"size": 1 << 20, "refill_ms": 1000, "burst": 1 << 21}, "ops": {"size": 500, "refill_ms": 1000, "burst": 0}}},
}


@pytest.mark.parametrize("machine", [{}, {"type": "microvm"}], ids=["q35", "microvm"])
@pytest.mark.parametrize("disk", [pytest.param(disk, id=name) for name, disk in DISKS.items()])
def test_a_disk_comes_back_as_given(vm: Vm, disk: dict[str, t.Any], machine: dict[str, t.Any]) -> None:
    disk = {"id": "d", "format": "raw", "path": vm.disk("a, b=c:d.img"), **disk}
    if disk.get("direct_io"):
        skip_without_direct_io(disk["path"])
    if disk.get("io_engine") == "io_uring":
        skip_without_io_uring(disk["path"])
    seen = defined(vm, vm.tiny(cpu={"vcpu_count": 2}, storage=[disk]), machine)
    # QEMU does not tell how it does I/O.
    assert_within({"storage": [{key: value for key, value in disk.items() if key != "io_engine"}]}, seen)


def skip_without_direct_io(path: str) -> None:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_DIRECT))
    except OSError as exc:
        pytest.skip(f"the file system of the tests has no direct I/O: {exc.strerror}")


def skip_without_io_uring(path: str) -> None:
    tool = shutil.which("qemu-img")
    if tool is None:
        pytest.skip("there is no qemu-img to find out whether io_uring works here")
    tried = subprocess.run([tool, "bench", "-c", "1", "-i", "io_uring", "-f", "raw", path], capture_output=True, text=True, timeout=30, check=False)
    if tried.returncode:
        pytest.skip(f"io_uring does not work here: {tried.stderr.strip()}")


@pytest.mark.parametrize(("ours", "theirs"), [("qcow2", "qcow2"), ("vhd", "vpc"), ("vhdx", "vhdx")])
def test_image_formats(vm: Vm, ours: str, theirs: str) -> None:
    tool = shutil.which("qemu-img")
    if tool is None:
        pytest.skip("there is no qemu-img to make images with")
    path = str(vm.directory / "image")
    subprocess.run([tool, "create", "-q", "-f", theirs, path, "8M"], check=True, timeout=30)
    disk = {"id": "d", "path": path, "format": ours}
    assert_within({"storage": [disk]}, defined(vm, vm.tiny(storage=[disk])))


@needs_root
def test_a_block_device_needs_no_other_words(vm: Vm) -> None:
    losetup = shutil.which("losetup")
    if losetup is None:
        pytest.skip("there is no losetup")
    image = vm.disk("image")
    made = subprocess.run([losetup, "--find", "--show", image], capture_output=True, text=True, timeout=30, check=False)
    if made.returncode:
        pytest.skip(f"no loop device can be made: {made.stderr.strip()}")
    device = made.stdout.strip()
    try:
        # Under a name of its own, as it appears for a VM with a uid of its own.
        alias = vm.directory / "disk_0"
        os.mknod(alias, 0o60600, os.stat(device).st_rdev)
        disk = {"id": "d", "path": str(alias), "format": "raw"}
        assert_within({"storage": [disk]}, defined(vm, vm.tiny(storage=[disk])))
    finally:
        vm.close()
        subprocess.run([losetup, "--detach", device], check=True, timeout=30)


def test_a_disk_behind_vhost_user(vm: Vm) -> None:
    daemon = shutil.which("qemu-storage-daemon")
    if daemon is None:
        pytest.skip("there is no qemu-storage-daemon to be the other side of vhost-user")
    path = os.path.relpath(vm.directory / "vhost.sock")
    blockdev = f"driver=file,node-name=n,filename={vm.disk()}"
    argv = [daemon, "--blockdev", blockdev, "--export", f"type=vhost-user-blk,id=e,node-name=n,writable=on,addr.type=unix,addr.path={path}"]
    with subprocess.Popen(argv) as server:
        try:
            until(lambda: os.path.exists(path), lambda: "a vhost-user socket")
            disk = {"id": "v", "vhost_user_socket": str(vm.directory / "vhost.sock"), "num_queues": 1, "queue_size": 128}
            assert_within({"storage": [disk]}, defined(vm, vm.tiny(memory={"size_bytes": 64 * MIB, "shared": True}, storage=[disk])))
        finally:
            vm.close()
            server.terminate()


# --- network --------------------------------------------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("machine", [{}, {"type": "microvm"}], ids=["q35", "microvm"])
@pytest.mark.parametrize(
    "nic", [{}, {"mtu": 9000}, {"num_queues": 2}, {"queue_size": 512}, {"id": "eth-0.x_Y"}], ids=["plain", "mtu", "queues", "queue-size", "id"]
)
def test_a_network_interface_comes_back_as_given(vm: Vm, nic: dict[str, t.Any], machine: dict[str, t.Any]) -> None:
    if not os.path.exists("/dev/net/tun"):
        pytest.skip("there is no /dev/net/tun")
    given = {"id": "n", "tap_device": "vm-tap.0_x", "mac_address": "52:54:00:aa:bb:cc", **nic}
    several = "multi_queue" if "num_queues" in nic else ""
    tap = f'ip tuntap add vm-tap.0_x mode tap vnet_hdr {several} && exec "$@"'
    config = vm.tiny(cpu={"vcpu_count": 2}, network=[given])
    seen = defined(vm, config, machine, prefix=["unshare", "--net", "sh", "-c", tap, "sh"])
    assert_within({"network": [given]}, seen)


# --- what is not told, only taken ---------------------------------------------------------------------------------

TAKEN: dict[str, dict[str, t.Any]] = {
    "cpu model": {"cpu": {"template": "Skylake-Server"}},
    "no nested virtualization": {"cpu": {"nested": False}},
    "nested virtualization": {"cpu": {"nested": True}},
    "amx": {"cpu": {"features": {"amx": True}}},
    "entropy": {"rng": {"source": "/dev/random"}},
    "default entropy": {"rng": {}},
}


@pytest.mark.parametrize("config", [pytest.param(config, id=name) for name, config in TAKEN.items()])
def test_is_taken(vm: Vm, config: dict[str, t.Any]) -> None:
    if config == TAKEN["amx"] and not re.search(r"^\s+\S*.*\bamx-tile\b", known_cpu_flags(), re.MULTILINE):
        pytest.skip("this QEMU does not know AMX")
    defined(vm, vm.tiny(**config))


def known_cpu_flags() -> str:
    return subprocess.run([str(shutil.which("qemu-system-x86_64")), "-cpu", "help"], capture_output=True, text=True, timeout=30, check=True).stdout


def test_huge_pages(vm: Vm) -> None:
    free = re.search(r"HugePages_Free:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text(encoding="ascii"))
    size = re.search(r"Hugepagesize:\s+(\d+) kB", pathlib.Path("/proc/meminfo").read_text(encoding="ascii"))
    needed = 64 * MIB // (int(size[1]) * 1024) if size else 0
    if free is None or int(free[1]) < max(needed, 1):
        pytest.skip(f"the host has {free[1] if free else 'no'} free huge pages; the test needs {needed}")
    defined(vm, vm.tiny(memory={"size_bytes": 64 * MIB, "hugepages": True}))


def test_vsock(vm: Vm) -> None:
    if not os.path.exists("/dev/vhost-vsock"):
        pytest.skip("there is no /dev/vhost-vsock (module vhost_vsock)")
    assert defined(vm, vm.tiny(vsock={"cid": 70123}))["vsock"] == {"cid": 70123}


def test_the_pinned_machine_type_is_the_one_that_runs(vm: Vm) -> None:
    text = subprocess.run([str(shutil.which("qemu-system-x86_64")), "-machine", "help"], capture_output=True, text=True, timeout=30, check=True).stdout
    versions = sorted((int(major), int(minor)) for major, minor in re.findall(r"^pc-q35-(\d+)\.(\d+)\s", text, re.MULTILINE))
    older = "pc-q35-{}.{}".format(*versions[-2])
    defined(vm, vm.tiny(), qemu_machine=older)
    assert f"{older}," in pathlib.Path(f"/proc/{vm.process.pid if vm.process else 0}/cmdline").read_text(encoding="utf-8")


def test_the_users_properties_win(vm: Vm) -> None:
    assert defined(vm, vm.tiny(), {"dump-guest-core": False, "mem-merge": True, "smm": "off"})["memory"]["size_bytes"] == 128 * MIB


def test_many_devices_have_room(vm: Vm) -> None:
    storage = [{"id": f"d{index}", "path": vm.disk(f"{index}.img")} for index in range(40)]
    seen = defined(vm, vm.tiny(storage=storage))
    assert [disk["id"] for disk in seen["storage"]] == [disk["id"] for disk in storage]


def test_a_refusal_of_qemu_is_in_its_log(vm: Vm) -> None:
    spec = vm.launch(vm.tiny(backend_options={"qemu": {"machine": {"no-such-property": "x"}}}))
    tried = subprocess.run(spec.argv, cwd=vm.layout.run, capture_output=True, text=True, timeout=30, check=False)
    assert tried.returncode == 1
    assert "no-such-property" in tried.stderr
