# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a directory to a Linux that runs from a disk of its own: image, clone, first-boot data, and a disk that grows under it."""

from __future__ import annotations

import os
import pathlib
import subprocess
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.archives import directory, entry, layout, tar
from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import GREETING, Playground, Tree, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm
from ansible_collections.unkey.vmcp.tests.linux_guest import GuestUnavailable
from ansible_collections.unkey.vmcp.tests.linux_root import linux_root

BOOT_S = 240


def test_linux_from_image_to_a_clone_that_grows(ground: Playground, qemu: Vmm, top: pathlib.Path) -> None:
    try:
        linux = linux_root(top)
    except GuestUnavailable as exc:
        pytest.skip(str(exc))
    root = {"image": "tiny", "is_root_device": True, "size": "256M"}
    image = {"name": "tiny", "kind": "rootfs", "path": str(linux.tree)}
    vm = {"name": "web", "backend": "qemu", "state": "running", "memory": "256M", "kernel": str(linux.kernel), "initrd": str(linux.initrd)}
    vm |= {"kernel_args": "console=ttyS0 quiet panic=-1 no_timer_check", "shutdown_timeout": 0, "wait_timeout": BOOT_S}
    first = {"user_data": {"packages": []}, "hostname": "from-the-seed"}
    up, grown = [{"console": "up with boots=1 sectors=524288"}], [{"console": "grown to sectors=786432"}]
    small, large = {"storage": [root]}, {"storage": [{**root, "size": "384M"}]}
    results = ground.play(
        [
            task("image, check", "vmcp_image", check=True, **image),
            task("VM before its image, check", check=True, **vm, config=small, cloud_init=first),
            task("image", "vmcp_image", **image),
            task("VM, check", check=True, **vm, config=small, cloud_init=first),
            task("VM", **vm, config=small, cloud_init=first, wait_for=up),
            task("image again", "vmcp_image", **image),
            task("VM again", **vm, config=small, cloud_init=first),
            task("remove the image", "vmcp_image", name="tiny", state="absent"),
            task("grow", **vm, config=large, wait_for=grown),
            task("restart", **{**vm, "state": "restarted"}, config=large, wait_for=[{"console": "up with boots=2 sectors=786432"}]),
            task("console", "vmcp_console", name="web"),
        ]
    )
    assert results.ok("image, check")["changed"] and not results["image, check"].touched
    early = results.ok("VM before its image, check")
    assert early["changed"] and not early.touched and [lack["field"] for lack in early["would_need"]] == ["config.storage[0].image"]
    assert results.ok("VM, check")["actions"] == results.ok("VM")["actions"] and not results["VM, check"].touched
    assert not results.ok("image again")["changed"] and not results.ok("VM again")["changed"]
    if results["VM"]["vm"]["disks"][0]["method"] == "overlay":
        assert "web" in results.refused("remove the image", "failed_precondition")["msg"], "an overlay stands on its image"
    assert results.ok("grow")["actions"] == ["update", "resize"] and results["grow"]["disruption"] == "none"
    results.ok("restart")
    lines = results.ok("console")["lines"]
    assert "hostname from-the-seed" in lines and "seed #cloud-config" in lines
    assert any(line.startswith("root on /dev/") and " rw" in line for line in lines), lines


@pytest.mark.skipif(os.geteuid() != 0, reason="owners of files in a container image can be kept by root alone")
def test_from_an_image_to_a_vm_the_same_on_every_backend(ground: Playground, backend: Vmm, guest: t.Callable[..., str], top: pathlib.Path) -> None:
    """A task for each image, from a container image layout and from a cloud image's file, and one for the VM. The second run changes nothing; a check
    before it writes nothing, and says what would be fetched and made."""
    layout(top / "layout", tar(directory("etc"), entry("etc/motd", b"of a container\n")), tag="v1")
    (top / "disk.raw").write_bytes(b"of a cloud".ljust(8 << 20, b"\0"))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", str(top / "disk.raw"), str(top / "cloud.qcow2")], check=True)
    images = {"container": {"kind": "rootfs", "container": f"oci:{top}/layout:v1"}, "cloud": {"path": str(top / "cloud.qcow2")}}
    vm = {"name": "web", "state": "running", "backend": backend.backend, "memory": "128M", "kernel": guest("halt"), "shutdown_timeout": 0, **backend.options}
    vm |= {"config": {"storage": [{"image": "container", "size": "64M", "is_root_device": True}, {"image": "cloud"}]}, "wait_for": [{"console": GREETING}]}
    tasks = []
    for run, check in (("check", True), ("make", None), ("again", None)):
        tasks += [task(f"{name}, {run}", "vmcp_image", check=check, name=name, **source) for name, source in images.items()]
        tasks.append(task(f"VM, {run}", check=check, **vm))
    results = ground.play(tasks)
    for name in (*images, "VM"):
        checked, made = results.ok(f"{name}, check"), results.ok(f"{name}, make")
        assert checked["changed"] and not checked.touched and checked["actions"] == made["actions"]
        assert made["changed"] and not results.ok(f"{name}, again")["changed"]
    assert [lack["field"] for lack in results["VM, check"]["would_need"]] == ["config.storage[0].image", "config.storage[1].image"]
    assert [step["action"] for step in results["container, check"]["steps"]] == ["copy", "make", "publish"]
    running = results["VM, make"]["vm"]
    assert running["state"] == "running"
    assert len(running["disks"]) == len(images)
    for name in images:
        (disk,) = (disk for disk in running["disks"] if disk["image"] == name)
        assert disk["method"] in ("reflink", "overlay", "copy")
        assert disk["format"] == "raw" or backend.backend == "qemu"
        status = os.stat(disk["path"])
        assert status.st_uid == running["uid"] and status.st_mode & 0o600 == 0o600, "the VMM writes to a clone of its own"
        stored = pathlib.Path(results[f"{name}, make"]["image"]["path"])
        assert stored.stat().st_mode & 0o777 == 0o444 and not stored.samefile(disk["path"])


def test_what_is_on_a_clone_stays_when_it_is_detached_or_kept(ground: Playground, qemu: Vmm, guest: t.Callable[..., str], top: pathlib.Path) -> None:
    (top / "tree").mkdir()
    image = {"name": "tiny", "kind": "rootfs", "path": str(top / "tree")}
    vm = {"name": "web", "state": "present", "backend": "qemu", "kernel": guest("halt")}
    with_disk: Tree = {"storage": [{"image": "tiny", "is_root_device": True}, {"id": "scratch", "size": "1M"}]}
    made = ground.play([task("image", "vmcp_image", **image), task("VM", **vm, config=with_disk)]).ok("VM")
    scratch = pathlib.Path(next(disk["path"] for disk in made["vm"]["disks"] if disk["id"] == "scratch"))
    scratch.write_bytes(b"written by the guest".ljust(1 << 20, b"\0"))
    before = scratch.stat()
    results = ground.play(
        [
            task("detach", **vm, config={"storage": []}),
            task("attach", **vm, config=with_disk),
            task("remove and keep", name="web", state="absent", keep=["disks"]),
            task("define again", **vm, config=with_disk),
        ]
    )
    assert results.ok("detach")["changed"] and results.ok("attach")["changed"] and results.ok("remove and keep")["changed"]
    results.ok("define again")
    assert scratch.read_bytes().startswith(b"written by the guest") and scratch.stat().st_ino == before.st_ino
