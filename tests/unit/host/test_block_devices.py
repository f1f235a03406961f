# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands on what, on a tree as the kernel's sysfs has it; and what a real loop device says, where one can be had."""

from __future__ import annotations

import contextlib
import os
import pathlib
import stat
import subprocess
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.host.block_devices import BlockDevices, Standing


class Tree:
    """Devices by name. C(parent): of a partition. C(slaves): below it."""

    def __init__(self, top: pathlib.Path) -> None:
        self.top = top
        self.entries: dict[str, pathlib.Path] = {}
        self.devices = BlockDevices(str(top))

    def add(self, name: str, number: str, *, parent: str = "", slaves: t.Sequence[str] = (), **files: str) -> None:
        entry = (self.entries[parent] if parent else self.top / "devices" / "block") / name
        for directory in ("slaves", "holders"):
            (entry / directory).mkdir(parents=True)
        for file, text in {"dev": number, **({"partition": "1"} if parent else {}), **files}.items():
            place = entry / file.replace("__", "/")
            place.parent.mkdir(exist_ok=True)
            place.write_text(f"{text}\n")
        for slave in slaves:
            (entry / "slaves" / slave).symlink_to(self.entries[slave])
            (self.entries[slave] / "holders" / name).symlink_to(entry)
        link = self.top / "dev" / "block" / number
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(entry)
        self.entries[name] = entry

    def of(self, name: str) -> Standing:
        major, minor = (self.entries[name] / "dev").read_text().split(":")
        return self.devices.device(os.makedev(int(major), int(minor)), f"/dev/{name}")


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> Tree:
    return Tree(tmp_path / "sys")


def meet(one: Standing, other: Standing) -> bool:
    return one.identity == other.identity or one.identity in other.below or other.identity in one.below


def test_a_partition_stands_on_its_disk_and_not_on_its_neighbour(tree: Tree) -> None:
    tree.add("sda", "8:0")
    tree.add("sda1", "8:1", parent="sda")
    tree.add("sda2", "8:2", parent="sda")
    tree.add("sdb", "8:16")
    disk, first, second, other = (tree.of(name) for name in ("sda", "sda1", "sda2", "sdb"))
    assert meet(disk, first) and meet(second, disk) and not meet(first, second) and not meet(first, other) and not meet(disk, other)
    assert first.paths == ("/dev/sda1", "/dev/sda") and disk.below == frozenset()


def test_volumes_stand_on_their_devices_however_deep(tree: Tree) -> None:
    tree.add("sda", "8:0")
    tree.add("sda1", "8:1", parent="sda")
    tree.add("nvme0n1", "259:0")
    tree.add("md0", "9:0", slaves=["sda1", "nvme0n1"])
    tree.add("dm-0", "253:0", slaves=["md0"], dm__uuid="LVM-one")
    tree.add("dm-1", "253:1", slaves=["md0"], dm__uuid="LVM-two")
    tree.add("cciss!c0d0", "104:0")
    tree.add("cciss!c0d0p1", "104:1", parent="cciss!c0d0")
    one, two = tree.of("dm-0"), tree.of("dm-1")
    for below in ("md0", "sda1", "sda", "nvme0n1"):
        assert meet(one, tree.of(below)), below
    assert not meet(one, two), "two volumes of one group have nothing in common"
    assert "/dev/cciss/c0d0" in tree.of("cciss!c0d0p1").paths


def test_ways_to_one_disk_are_that_disk(tree: Tree) -> None:
    tree.add("sda", "8:0")
    tree.add("sdb", "8:16")
    tree.add("sda1", "8:1", parent="sda")
    tree.add("dm-0", "253:0", slaves=["sda", "sdb"], dm__uuid="mpath-3600")
    assert meet(tree.of("sda"), tree.of("sdb")) and meet(tree.of("sdb"), tree.of("dm-0")) and meet(tree.of("sda1"), tree.of("sdb"))
    tree.add("sdc", "8:32")
    tree.add("dm-1", "253:1", slaves=["sdc"], dm__uuid="CRYPT-LUKS2")
    assert tree.of("sdc").identity != tree.of("dm-1").identity and meet(tree.of("sdc"), tree.of("dm-1"))


def test_a_loop_device_is_its_file(tree: Tree, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "with space.raw"
    file.touch()
    whole = {"loop__offset": "0", "loop__sizelimit": "0"}
    tree.add("loop0", "7:0", loop__backing_file=str(file), **whole)
    tree.add("loop1", "7:1", loop__backing_file=str(file), **whole)
    tree.add("loop0p1", "259:5", parent="loop0")
    tree.add("loop2", "7:2", loop__backing_file=str(file), loop__offset="1048576", loop__sizelimit="512")
    tree.add("loop3", "7:3")
    tree.add("loop4", "7:4", loop__backing_file=f"{file} (deleted)", **whole)
    itself = tree.devices.standing(str(file))
    for name in ("loop0", "loop1", "loop0p1", "loop2"):
        assert meet(tree.of(name), itself) and str(file) in tree.of(name).paths, name
    assert tree.of("loop0").identity == tree.of("loop1").identity == itself.identity
    assert meet(tree.of("loop0"), tree.of("loop0p1")) and meet(tree.of("loop1"), tree.of("loop0p1"))
    for name in ("loop3", "loop4"):
        assert not meet(tree.of(name), itself), name


def test_what_sysfs_does_not_know_stands_on_nothing(tree: Tree) -> None:
    assert tree.devices.device(os.makedev(8, 0), "/dev/sda") == Standing(f"device {os.makedev(8, 0)}", ("/dev/sda",))


def test_a_device_is_known_by_its_number(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    found = os.stat_result((stat.S_IFBLK | 0o660, 5, 6, 1, 0, 0, 0, 0, 0, 0), {"st_rdev": os.makedev(7, 3)})
    monkeypatch.setattr(os, "stat", lambda path, **_more: found)
    assert tree.devices.standing("/dev/loop3").identity == tree.devices.standing("/srv/node").identity == f"device {os.makedev(7, 3)}"


# --- a real one ------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def loop(file: pathlib.Path) -> t.Iterator[str]:
    made = subprocess.run(["losetup", "--find", "--show", "--partscan", str(file)], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"no loop device can be had here: {made.stderr.strip()}")
    try:
        yield made.stdout.strip()
    finally:
        subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make loop devices")
def test_the_kernel_says_so_of_a_real_one(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "disk.raw"
    file.touch()
    os.truncate(file, 4 << 20)
    devices = BlockDevices()
    with loop(file) as path:
        assert devices.standing(path).identity == devices.standing(str(file)).identity
        # Not by a partition table: not every kernel reads one.
        subprocess.run(["addpart", path, "1", "2048", "2048"], check=True)
        name = os.path.basename(path)
        entry = pathlib.Path("/sys/block", name, f"{name}p1", "dev")
        major, minor = entry.read_text().split(":")
        node = tmp_path / "partition"
        os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(int(major), int(minor)))
        assert meet(devices.standing(str(node)), devices.standing(path)) and meet(devices.standing(str(node)), devices.standing(str(file)))
        assert devices.standing(str(node)).identity != devices.standing(path).identity
