# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks, made by C(vmcp_disk) or with a VM, when the task is killed before each single thing that it does, and when the host's disk is full half-way."""

from __future__ import annotations

import itertools
import os
import pathlib
import subprocess
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground
from ansible_collections.unkey.vmcp.tests.integration.e2e.test_vm_disks import publish
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm
from ansible_collections.unkey.vmcp.tests.integration.faults.built_module import BuiltModule
from ansible_collections.unkey.vmcp.tests.integration.faults.host_trace import at_rest, definition, vmms

MIB = 1 << 20


def killed(module: BuiltModule, ground: Playground, at: int, **options: t.Any) -> bool:
    """False when the task came to its end before that point."""
    ended = module.run(path=ground.path, kill_at=at, **options)
    assert ended.killed or ended.ok()
    return ended.killed


def test_a_disk_made_grown_and_removed(ground: Playground, disks: BuiltModule, top: pathlib.Path) -> None:
    (top / "tree").mkdir()
    (top / "tree" / "file").write_text("kept")
    make = {"name": "d", "size": "8M", "filesystem": {"type": "ext4", "grow": True}, "content": str(top / "tree")}
    grow, remove = {**make, "size": "16M"}, {"name": "d", "state": "absent"}
    disks.run(**make).ok()
    disks.run(**remove).ok()
    before = at_rest(ground)
    for at in itertools.count(1):
        points = [killed(disks, ground, at, **make)]
        path = disks.run(**make).ok()["disk"]["path"]
        assert not disks.run(**make).ok()["changed"], f"after a kill at point {at}"
        points.append(killed(disks, ground, at, **grow))
        assert disks.run(**grow).ok()["disk"]["size_bytes"] == 16 * MIB == os.stat(path).st_size
        subprocess.run(["e2fsck", "-f", "-n", path], check=True, capture_output=True)
        blocks = subprocess.run(["dumpe2fs", "-h", path], check=True, capture_output=True, text=True).stdout
        assert "Block count:              16384" in blocks, f"the file system has followed after a kill at point {at}: {blocks}"
        said = subprocess.run(["debugfs", "-R", "cat /file", path], check=True, capture_output=True, text=True).stdout
        assert said == "kept", f"after a kill at point {at}"
        assert os.stat(path).st_uid == os.geteuid(), f"lent, and never taken back, after a kill at point {at}"
        points.append(killed(disks, ground, at, **remove))
        disks.run(**remove).ok()
        assert at_rest(ground) == before, f"after kills at point {at}"
        if not any(points):
            break
    assert at > 10, "the points were seen"


def test_a_vm_with_disks_of_every_kind(ground: Playground, module: BuiltModule, firecracker: Vmm, guest: t.Callable[..., str]) -> None:
    publish(ground, "base", b"content of the image")
    storage = [{"image": "base", "size": "16M", "is_root_device": True}, {"id": "scratch", "size": "4M", "filesystem": "ext4"}]
    create = {"name": "web", "state": "running", "backend": "firecracker", "memory": "128M", "kernel": guest("halt"), "config": {"storage": storage}}
    create |= {"cloud_init": {"hostname": "web"}, "shutdown_timeout": 0, **firecracker.options}
    remove = {"name": "web", "state": "absent"}
    module.run(path=ground.path, **create).ok()
    module.run(path=ground.path, **remove).ok()
    before = at_rest(ground)
    for at in itertools.count(1):
        in_creation = killed(module, ground, at, **create)
        module.run(path=ground.path, **create).ok()
        assert len(vmms(ground, "web")) == 1
        chosen = definition(ground, "web")["generated"]["disks"]
        data = pathlib.Path(ground.state, "vms/web/data")
        assert (data / chosen["base"]["file"]).read_bytes()[:20] == b"content of the image", f"after a kill at point {at}"
        assert (data / chosen["base"]["file"]).stat().st_size == 16 * MIB and (data / "seed.iso").stat().st_size > 0
        subprocess.run(["e2fsck", "-f", "-n", str(data / chosen["scratch"]["file"])], check=True, capture_output=True)
        assert not module.run(path=ground.path, **create).ok()["changed"], f"after a kill at point {at}"
        in_removal = killed(module, ground, at, **remove)
        module.run(path=ground.path, **remove).ok()
        assert at_rest(ground) == before, f"after kills at point {at}"
        if not (in_creation or in_removal):
            break
    assert at > 30, "the points were seen"


@pytest.fixture
def small(ground: Playground) -> t.Iterator[None]:
    """The state directory on a file system of 24 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    os.makedirs(ground.state)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "small", ground.state], check=True)
    yield
    subprocess.run(["umount", ground.state], check=True)


def test_a_full_host_gets_its_space_back(ground: Playground, disks: BuiltModule, small: None, top: pathlib.Path) -> None:
    (top / "source.raw").write_bytes(os.urandom(40 * MIB))
    free = os.statvfs(ground.state).f_bavail
    for options in ({"size": "64M", "preallocate": True}, {"source": {"path": str(top / "source.raw")}}):
        result = disks.run(name="d", **options).result
        assert result.failed and result["code"] == "failed_precondition" and "No space left" in result["msg"], result
        assert "Free space" in result["msg"] and os.listdir(f"{ground.state}/disks") == []
    assert os.statvfs(ground.state).f_bavail >= free - 16
    assert disks.run(name="d", size="8M").ok()["changed"], "with room it goes"
    assert disks.run(name="d", state="absent").ok()["changed"]
