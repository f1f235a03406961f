# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vmcp_disk and vmcp_disk_info through ansible-playbook: each file system made and looked at by its own tools, twice, and in check mode."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground, Tree, task

MIB = 1 << 20
UUID = "0c5b3b4e-6a4f-4d0a-9a67-3f5c1f0b7a11"


def disk(title: str, /, **options: t.Any) -> Tree:
    return task(title, "vmcp_disk", **options)


def twice(**options: t.Any) -> list[Tree]:
    name = options["name"]
    return [disk(f"{name}: check", check=True, **options), disk(name, **options), disk(f"{name}: again", **options)]


def blkid(path: str) -> dict[str, str]:
    said = subprocess.run(["blkid", "-p", "-o", "export", path], check=True, capture_output=True, text=True).stdout
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


def needs(*tools: str) -> None:
    missing = [tool for tool in tools if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
    if missing:
        pytest.skip(f"this host has no {', '.join(missing)}")


@pytest.fixture
def tree(top: pathlib.Path) -> pathlib.Path:
    made = top / "tree"
    (made / "etc").mkdir(parents=True)
    (made / "etc" / "motd").write_text("filled\n")
    (made / "etc" / "motd").chmod(0o640)
    return made


def test_every_file_system_is_made_once_and_as_asked(ground: Playground) -> None:
    needs("mkfs.xfs", "mkfs.btrfs", "mkfs.vfat")
    kinds = {"ext4": 16, "xfs": 320, "btrfs": 128, "vfat": 32, "swap": 1}
    tasks = []
    for kind, size in kinds.items():
        uuid = "12AB-34CD" if kind == "vfat" else UUID
        tasks += twice(name=f"fs-{kind}", size=f"{size}M", filesystem={"type": kind, "label": "DATA", "uuid": uuid})
    results = ground.play([*tasks, task("look", "vmcp_disk_info")])
    for kind, size in kinds.items():
        checked, made, again = results.ok(f"fs-{kind}: check"), results.ok(f"fs-{kind}"), results.ok(f"fs-{kind}: again")
        assert checked["changed"] and checked["actions"] == ["make"] and not checked.touched
        assert made["actions"] == ["make"] and made["diff"] == checked["diff"]
        assert made["disk"]["size_bytes"] == size * MIB == os.stat(made["disk"]["path"]).st_size
        found = blkid(made["disk"]["path"])
        assert (found["TYPE"], found["LABEL"]) == (kind, "DATA")
        assert found["UUID"] == ("12AB-34CD" if kind == "vfat" else UUID)
        assert not again["changed"]
    listed = {entry["name"]: entry for entry in results.ok("look")["disks"]}
    assert listed["fs-btrfs"]["filesystem"] == {"type": "btrfs", "label": "DATA", "uuid": UUID}
    assert listed["fs-ext4"]["actual_bytes"] < 2 * MIB and listed["fs-ext4"]["users"] == []


def test_disks_are_filled_without_being_mounted(ground: Playground, tree: pathlib.Path) -> None:
    needs("mkfs.btrfs", "mkfs.vfat", "mcopy", "debugfs")
    results = ground.play(
        [
            *twice(name="e", size="16M", filesystem="ext4", content=str(tree)),
            *twice(name="b", size="128M", filesystem="btrfs", content=str(tree)),
            *twice(name="v", size="16M", filesystem="vfat", content=str(tree)),
            disk("xfs cannot", name="x", size="320M", filesystem="xfs", content=str(tree)),
        ]
    )
    for name in "ebv":
        assert results.ok(name)["disk"]["method"] == "filled" and not results.ok(f"{name}: again")["changed"]
    path = results["e"]["disk"]["path"]
    said = subprocess.run(["debugfs", "-R", "stat /etc/motd", path], check=True, capture_output=True, text=True).stdout
    assert "Mode:  0640" in said and "User:     0" in said
    assert subprocess.run(["mtype", "-i", results["v"]["disk"]["path"], "::/etc/motd"], check=True, capture_output=True, text=True).stdout.strip() == "filled"
    assert "cannot be put into xfs" in results.refused("xfs cannot", "invalid_argument")["msg"]


def test_growing_and_shrinking(ground: Playground, tree: pathlib.Path) -> None:
    needs("resize2fs")
    grows = {"type": "ext4", "grow": True}
    with open(tree / "ballast", "wb") as stream:
        stream.write(os.urandom(12 * MIB))
    results = ground.play(
        [
            disk("make", name="d", size="32M", filesystem=grows, content=str(tree)),
            *twice(name="d", size="64M", filesystem=grows),
            disk("smaller", name="d", size="32M"),
            disk("smaller than what is on it", name="d", size="8M", force=True),
            disk("smaller by force", name="d", size="48M", force=True),
            disk("another file system", name="d", filesystem="xfs"),
            disk("preallocated", name="d", preallocate=True),
            disk("preallocated again", name="d", preallocate=True),
        ]
    )
    grown = results.ok("d")
    assert grown["actions"] == ["grow", "grow_filesystem"] and results.ok("d: check")["actions"] == grown["actions"] and not results.ok("d: again")["changed"]
    assert "set force: true" in results.refused("smaller", "failed_precondition")["msg"]
    assert "takes at least" in results.refused("smaller than what is on it", "failed_precondition")["msg"]
    assert results.ok("smaller by force")["actions"] == ["shrink"]
    path = grown["disk"]["path"]
    assert os.stat(path).st_size == 48 * MIB
    subprocess.run(["e2fsck", "-f", "-n", path], check=True, capture_output=True)
    assert "was made with ext4" in results.refused("another file system", "failed_precondition")["msg"]
    assert results.ok("preallocated")["disk"]["actual_bytes"] >= 48 * MIB and not results.ok("preallocated again")["changed"]


def test_clones_share_or_are_sparse_and_hostile_sources_are_refused(ground: Playground, top: pathlib.Path) -> None:
    needs("qemu-img")
    for words in (
        ["-f", "raw", "secret.raw", "1M"],
        ["-f", "qcow2", "plain.qcow2", "4M"],
        ["-f", "qcow2", "-F", "raw", "-b", f"{top}/secret.raw", "evil.qcow2"],
    ):
        subprocess.run(["qemu-img", "create", "-q", *words], check=True, cwd=top)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file=outside.raw", "evil2.qcow2", "1M"], check=True, cwd=top)
    results = ground.play(
        [
            disk("source", name="source", size="64M", filesystem="ext4"),
            *twice(name="clone", source={"disk": "source"}, size="96M"),
            *twice(name="converted", source={"path": f"{top}/plain.qcow2", "format": "qcow2"}),
            *twice(name="q", size="32M", format="qcow2", filesystem="ext4"),
            disk("smaller than its source", name="no", source={"disk": "source"}, size="1M"),
            disk("no source", name="no", source={"disk": "nobody"}),
            disk("no image", name="no", source={"image": "nobody"}),
            disk("backing", name="no", source={"path": f"{top}/evil.qcow2", "format": "qcow2"}),
            disk("data file", name="no", source={"path": f"{top}/evil2.qcow2", "format": "qcow2"}),
            disk("no qcow2", name="no", source={"path": f"{top}/secret.raw", "format": "qcow2"}),
            disk("another source", name="clone", source={"disk": "q"}),
            disk("qcow2 grows", name="q", size="48M"),
            task("look", "vmcp_disk_info", name=["q", "absent"]),
        ]
    )
    clone = results.ok("clone")["disk"]
    assert clone["method"] in ("reflink", "copy") and clone["saved_bytes"] > 90 * MIB and clone["size_bytes"] == 96 * MIB
    assert blkid(clone["path"])["TYPE"] == "ext4"
    assert results.ok("converted")["disk"]["method"] == "convert" and results["converted"]["disk"]["size_bytes"] == 4 * MIB
    assert not results.ok("clone: again")["changed"] and not results.ok("q: again")["changed"]
    assert "less than its source" in results.refused("smaller than its source", "invalid_argument")["msg"]
    assert "nobody" in results.refused("no source", "failed_precondition")["msg"]
    assert "vmcp_image" in results.refused("no image", "failed_precondition")["msg"]
    assert "reads from another file" in results.refused("backing", "failed_precondition")["msg"]
    assert "in another file" in results.refused("data file", "failed_precondition")["msg"]
    assert "not a qcow2 image" in results.refused("no qcow2", "failed_precondition")["msg"]
    assert "was cloned from disk source" in results.refused("another source", "failed_precondition")["msg"]
    looked = results.ok("look")
    assert looked["missing"] == ["absent"] and looked["disks"][0]["size_bytes"] == 48 * MIB
    assert sorted(os.listdir(f"{ground.state}/disks")) == ["clone", "converted", "q", "source"], "refused ones left nothing"


def test_removing_and_what_is_wrong_is_said_at_once(ground: Playground) -> None:
    results = ground.play(
        [
            disk("make", name="d", size="1M"),
            disk("remove, check", name="d", state="absent", check=True),
            disk("remove", name="d", state="absent"),
            disk("remove again", name="d", state="absent"),
            disk("wrong", name="d", size="1000", format="qcow2", preallocate=True, volume_group="vg", filesystem={"type": "ext4", "label": "-x"}),
            disk("nothing to make it from", name="d"),
        ]
    )
    assert results.ok("remove, check")["changed"] and not results.ok("remove, check").touched
    assert results.ok("remove")["actions"] == ["remove"] and not results.ok("remove again")["changed"]
    assert os.listdir(f"{ground.state}/disks") == []
    fields = {found["field"] for found in results.refused("wrong", "invalid_argument")["violations"]}
    assert fields == {"size", "preallocate", "volume_group", "filesystem.label"}
    assert "give size, or source" in results.refused("nothing to make it from", "not_found")["msg"]
