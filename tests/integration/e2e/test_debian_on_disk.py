# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole Debian as a root file system: unpacked from a tarball, cloned, named by its seed disk, grown while it runs. One boot shows all of it."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.unkey.vmcp.tests.debian_root import FILES, debian_tarball
from ansible_collections.unkey.vmcp.tests.hosts.nspawn import HostUnavailable
from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm
from ansible_collections.unkey.vmcp.tests.linux_guest import GuestUnavailable, LinuxGuest
from ansible_collections.unkey.vmcp.tests.linux_root import to_the_root

# Emulated, and on a machine that has other things to do.
BOOT_S = 480


@pytest.fixture
def linux(top: pathlib.Path) -> LinuxGuest:
    try:
        debian_tarball(top / "debian.tar")
        return to_the_root(top)
    except (HostUnavailable, GuestUnavailable) as exc:
        pytest.skip(str(exc))


def test_debian_boots_from_a_clone_and_sees_it_grow(ground: Playground, qemu: Vmm, linux: LinuxGuest, top: pathlib.Path) -> None:
    image = {"name": "debian", "kind": "rootfs", "path": str(top / "debian.tar"), "hostname": "of-the-image", "files": FILES}
    vm = {"name": "web", "backend": "qemu", **qemu.options, "state": "running", "memory": "512M", "vcpus": 1, "wait_timeout": BOOT_S, "shutdown_timeout": 0}
    vm |= {
        "kernel": str(linux.kernel),
        "initrd": str(linux.initrd),
        "kernel_args": "console=ttyS0 quiet panic=-1 no_timer_check",
        "cloud_init": {"hostname": "of-the-seed"},
    }
    root = {"image": "debian", "is_root_device": True, "size": "1G"}
    up = r"debian \d+ on of-the-seed, formerly of-the-image, boot 1, sectors=2097152"
    results = ground.play(
        [
            task("image", "vmcp_image", **image),
            task("vm", **vm, config={"storage": [root]}, wait_for=[{"console": up}]),
            task("grow", **vm, config={"storage": [{**root, "size": "2G"}]}, wait_for=[{"console": "grown to sectors=4194304"}]),
            task("image again", "vmcp_image", **image),
            task("vm again", **vm, config={"storage": [{**root, "size": "2G"}]}),
            task("console", "vmcp_console", name="web"),
        ]
    )
    assert results.ok("image")["image"]["facts"]["filesystem"] == "ext4"
    assert results.ok("vm")["vm"]["disks"][0]["method"] in ("reflink", "overlay", "copy")
    grown = results.ok("grow")
    assert grown["actions"] == ["update", "resize"] and grown["vm"]["pid"] == results["vm"]["vm"]["pid"]
    assert not results.ok("image again")["changed"] and not results.ok("vm again")["changed"]
    assert any(line.startswith("root is ext4") and "rw" in line for line in results.ok("console")["lines"]), results["console"]
