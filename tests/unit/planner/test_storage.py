# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a VM's entries of storage are settled to: pure, with images and disks as facts."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.plugins.module_utils.model.resolving import resolve, resolved
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.changes import changes_between
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.storage import DiskFact, FileFact, ImageFact, Settled, Shelf, settle

GIB = 1 << 30
OLD, NEW = ImageFact(f"sha256:{'1' * 64}", "raw", GIB, "/images/1"), ImageFact(f"sha256:{'2' * 64}", "raw", GIB, "/images/2")
SHELF = Shelf(images={"debian": OLD}, disks={"data": DiskFact("/disks/data/disk.raw", "raw")}, data="/vms/web/data", can_overlay=True)
ROOT = {"id": "root", "image": "debian", "is_root_device": True}


def settled(*entries: dict[str, t.Any], had: t.Optional[Settled] = None, shelf: Shelf = SHELF, backend: str = "qemu", replace: bool = False) -> Settled:
    return settle({"storage": list(entries)}, defined(entries, had) if had else None, backend, None, shelf, replace=replace)


def defined(entries: t.Sequence[dict[str, t.Any]], had: Settled) -> Definition:
    return Definition("web", "qemu", "7.2.0", "/q", {"storage": list(entries)}, generated={"disks": had.chosen})


def test_a_clone_is_what_the_backend_and_the_host_can_do_best() -> None:
    assert settled(ROOT).chosen["root"]["format"] == "qcow2" and settled(ROOT).chosen["root"]["backing"] == "/images/1"
    for found in (
        settled(ROOT, backend="firecracker"),
        settled(ROOT, shelf=dataclasses.replace(SHELF, shares=True)),
        settled(ROOT, shelf=dataclasses.replace(SHELF, can_overlay=False)),
    ):
        assert found.chosen["root"] == {"image": "debian", "digest": OLD.digest, "format": "raw", "file": "root-111111111111.raw"}


def test_what_is_there_is_kept_whatever_becomes_of_the_image() -> None:
    first = settled(ROOT)
    for images, notices in (({"debian": OLD}, 0), ({"debian": NEW}, 1), ({}, 0)):
        found = settled(ROOT, had=first, shelf=dataclasses.replace(SHELF, images=images))
        assert found.chosen == first.chosen and len(found.notices) == notices and not found.lacks


def test_data_are_replaced_only_where_that_is_allowed() -> None:
    first, newer = settled(ROOT), dataclasses.replace(SHELF, images={"debian": NEW})
    found = settled(ROOT, had=first, shelf=newer, replace=True)
    assert found.chosen["root"]["file"] == "root-222222222222.qcow2" and found.chosen["root"]["former"] == ["root-111111111111.qcow2"]
    (change,) = changes_between(defined([ROOT], first), defined([ROOT], found))
    assert (change.field, change.disruption) == ("config.storage[root].image", "replace_data")
    gone = dataclasses.replace(SHELF, sizes={"root": None})
    assert "is gone" in settled(ROOT, had=first, shelf=gone).lacks[0].message
    assert settled(ROOT, had=first, shelf=gone, replace=True).chosen == first.chosen


def test_sizes() -> None:
    assert "less than image debian has" in settled({**ROOT, "size": GIB // 2}).violations[0].message
    first, has = settled(ROOT), dataclasses.replace(SHELF, sizes={"root": 2 * GIB})
    assert settled({**ROOT, "size": 3 * GIB}, had=first, shelf=has).grow == ["root"]
    assert settled({**ROOT, "size": 2 * GIB}, had=first, shelf=has).grow == []
    assert "is not shrunk" in settled({**ROOT, "size": GIB}, had=first, shelf=has).violations[0].message


def test_a_larger_size_is_no_disruption_where_the_vmm_can_be_told() -> None:
    first = settled(ROOT)
    del first.chosen["root"]["backing"]  # an overlay is a matter of its own, see below
    for backend, version, disruption in (("qemu", "7.2", "none"), ("cloudhypervisor", "50.0", "restart"), ("cloudhypervisor", "53.0", "none")):
        before = dataclasses.replace(defined([ROOT], first), backend=backend, backend_version=version)
        after = dataclasses.replace(before, config={"storage": [{**ROOT, "size": 2 * GIB}]})
        (change,) = changes_between(before, after)
        assert change.disruption == disruption, (backend, version)


def test_a_disk_has_one_writer() -> None:
    entry: dict[str, t.Any] = {"id": "data", "disk": "data"}
    assert settled(entry).chosen["data"]["path"] == "/disks/data/disk.raw"
    taken = dataclasses.replace(SHELF, disks={"data": DiskFact("/d", "raw", users=(("db", True),))})
    assert "is used by VM db" in settled(entry, shelf=taken).violations[0].message
    assert not settled({**entry, "read_only": True}, shelf=taken).violations
    assert "vmcp_disk" in settled({**entry, "disk": "none"}).lacks[0].message


def test_an_empty_disk_is_never_made_anew() -> None:
    entry = {"id": "e", "size": GIB, "filesystem": "ext4"}
    first = settled(entry)
    assert first.chosen["e"] == {"file": "e.raw", "format": "raw", "filesystem": "ext4"}
    assert "was made with ext4" in settled({**entry, "filesystem": None}, had=first).violations[0].message


def test_backends_are_told_paths() -> None:
    config = {"storage": [ROOT, {"id": "data", "disk": "data", "read_only": True}, {"id": "own", "path": "/own"}]}
    found = settled(*config["storage"], backend="firecracker")
    told = resolve(config, found.chosen, SHELF.data)["storage"]
    assert told[0] == {"id": "root", "is_root_device": True, "path": "/vms/web/data/root-111111111111.raw", "format": "raw"}
    assert told[1] == {"id": "data", "read_only": True, "path": "/disks/data/disk.raw", "format": "raw"} and told[2] is config["storage"][2]
    plain = Definition("web", "qemu", "7", "/q", {"storage": [{"id": "own", "path": "/own"}]})
    assert resolved(plain, "/d") == plain.config


def test_a_path_to_a_file_of_ours_is_nobody_elses() -> None:
    files = {"/a": FileFact("disk", "data", (("web", False),)), "/b": FileFact("vm", "db"), "/c": FileFact("image", "sha256-1"), "/d": FileFact("disk", "own")}
    found = settled(*({"id": path[1:], "path": path} for path in files), {"id": "e", "path": "/e"}, shelf=dataclasses.replace(SHELF, files=files))
    said = {violation.field: violation.message for violation in found.violations}
    assert set(said) == {f"config.storage[{index}].path" for index in range(3)} and not found.chosen
    assert "/a, which is disk data, is used by VM web" in said["config.storage[0].path"] and "with VM db." in said["config.storage[1].path"]
    assert "Give 'image'" in said["config.storage[2].path"]
    reading = {"/a": FileFact("disk", "data", (("web", True),)), "/c": files["/c"]}
    entries = ({"id": path[1:], "path": path, "read_only": True} for path in reading)
    assert not settled(*entries, shelf=dataclasses.replace(SHELF, files=reading)).violations


def test_a_file_of_the_users_has_one_writer() -> None:
    entry: dict[str, t.Any] = {"id": "own", "path": "/own"}
    for reads, read_only, refused in ((False, False, True), (False, True, True), (True, False, True), (True, True, False)):
        shelf = dataclasses.replace(SHELF, files={"/own": FileFact("path", "", (("db", reads),))})
        found = [violation.message for violation in settled({**entry, "read_only": read_only}, shelf=shelf).violations]
        assert bool(found) == refused and all(text.startswith("/own is used by VM db, and a disk is written to by one VM") for text in found)
    shelf = dataclasses.replace(SHELF, files={"/own": FileFact("path", "/own1", (("db", False),))})
    assert settled(entry, shelf=shelf).violations[0].message.startswith("/own, as /own1, is used by VM db")


def test_who_can_be_told_that_a_disk_has_grown() -> None:
    """An overlay is a matter of its own: Cloud Hypervisor boots from one, and does not make it larger while it runs."""
    chosen = {"root": {"image": "debian", "format": "qcow2", "file": "f", "backing": "/images/1"}, "data": {"format": "qcow2", "file": "g"}}
    sizes = [{"storage": [{"id": name, "size": size} for name in chosen]} for size in (GIB, 2 * GIB)]
    for backend, expected in (("qemu", {"none"}), ("cloudhypervisor", {"none", "restart"})):
        before, after = (Definition("web", backend, "53.0", "/q", size, generated={"disks": chosen}) for size in sizes)
        assert {change.disruption for change in changes_between(before, after)} == expected
        assert {change.field: change.disruption for change in changes_between(before, after)}["config.storage[data].size"] == "none"
