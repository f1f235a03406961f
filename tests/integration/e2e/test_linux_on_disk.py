# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a directory to a Linux that runs from a disk of its own: image, clone, first-boot data, and a disk that grows under it."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground, task
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
    vm |= {"kernel_args": "console=ttyS0 quiet panic=-1", "shutdown_timeout": 0, "wait_timeout": BOOT_S}
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
