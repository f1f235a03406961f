# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a container image and a packed kernel to a Linux that runs from a disk of its own, by two modules; and again, where nothing changes."""

from __future__ import annotations

import os
import pathlib

import pytest

from ansible_collections.unkey.vmcp.tests.archives import directory, entry, layout, link, tar
from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm
from ansible_collections.unkey.vmcp.tests.linux_guest import GuestUnavailable, LinuxGuest, cache_directory, linux_guest, with_script

# What an initrd does that has found its disk. The distribution's kernel has the driver as a module.
_HAND_OVER = "mkdir /root; mount -t ext4 /dev/vda /root && chroot /root /sbin/init\n"
_INIT = '#!/bin/busybox sh\necho "this is $(cat /etc/hostname)"\necho kept >/written && sync && echo "the disk is writable"\nwhile :; do sleep 60; done\n'


@pytest.fixture
def linux(top: pathlib.Path) -> LinuxGuest:
    try:
        return with_script(linux_guest(cache_directory()), _HAND_OVER, top / "initrd")
    except GuestUnavailable as exc:
        pytest.skip(str(exc))


def busybox() -> bytes:
    tree = cache_directory() / "packages"
    return next(path for path in (tree / "bin/busybox", tree / "usr/bin/busybox") if path.exists()).read_bytes()


@pytest.mark.skipif(os.geteuid() != 0, reason="owners of files can be kept by root alone")
def test_a_container_image_runs_as_a_vm(ground: Playground, qemu: Vmm, linux: LinuxGuest) -> None:
    names = ["sh", "cat", "sync", "sleep"]
    root = tar(
        directory("etc"), directory("bin"), directory("sbin"), entry("bin/busybox", busybox(), mode=0o755), *(link(f"bin/{name}", "busybox") for name in names)
    )
    layout(ground.top / "layout", root, tar(entry("etc/motd", b"layer two\n")), tag="v1")
    image = {"name": "app", "kind": "rootfs", "container": f"oci:{ground.top}/layout:v1", "init": _INIT, "hostname": "from-a-container", "size": "64M"}
    kernel = {"name": "guest", "kind": "kernel", "path": str(linux.kernel)}
    vm = {
        "name": "web",
        "state": "running",
        "backend": "qemu",
        **qemu.options,
        "memory": "256M",
        "kernel": "{{ kernel.image.facts.kernel_path }}",
        "initrd": str(linux.initrd),
        "kernel_args": "console=ttyS0 no_timer_check",
        "config": {"storage": [{"image": "app", "is_root_device": True}]},
        "wait_for": [{"console": "this is from-a-container"}, {"console": "the disk is writable"}],
        "wait_timeout": 240,
        "shutdown_timeout": 0,
    }
    results = ground.play(
        [
            task("image", "vmcp_image", **image),
            task("kernel", "vmcp_image", register="kernel", **kernel),
            task("vm", **vm),
            task("image again", "vmcp_image", **image),
            task("kernel again", "vmcp_image", **kernel),
            task("vm again", **vm),
            task("in use", "vmcp_image", name="app", state="absent"),
            task("kernel in use", "vmcp_image", name="guest", state="absent"),
            task("remove the vm", name="web", state="absent"),
            task("not in use", "vmcp_image", name="app", state="absent"),
            task("kernel not in use", "vmcp_image", name="guest", state="absent"),
        ]
    )
    made = results.ok("image")["image"]
    assert results.ok("kernel")["image"]["format"] == "elf" and results["kernel"]["image"]["facts"]["pvh"]
    assert results.ok("vm")["vm"]["state"] == "running"
    for name in ("image again", "kernel again", "vm again"):
        assert not results.ok(name)["changed"], results[name]
    assert results["image again"]["image"]["digest"] == made["digest"]
    for name in ("in use", "kernel in use"):
        assert "is used by vm:web" in results.refused(name, "failed_precondition")["msg"]
    assert results.ok("not in use")["changed"] and results.ok("kernel not in use")["changed"]
    assert not list(pathlib.Path(ground.state, "images", ".content").iterdir())
