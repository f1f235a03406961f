# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one VM leaves to another that takes its place, and how that is known until there is no way back."""

from __future__ import annotations

import typing as t

from ansible_collections.unkey.vmcp.plugins.plugin_utils.replacing import replacement

Tree = dict[str, t.Any]
MAC = "02:00:00:00:00:01"


def vm(**more: t.Any) -> Tree:
    storage = [{"id": "root", "image": "debian", "path": None}, {"id": "data", "path": "/srv/data.img"}, {"id": "iso", "path": "/iso", "read_only": True}]
    config = {
        "storage": [*storage, {"id": "own", "disk": "web-own"}],
        "network": [{"id": "a", "network": "apps", "mtu": None}, {"id": "b", "tap_device": "tap7"}],
    }
    nics = [{"id": "a", "mac_address": MAC, "addresses": ["10.80.0.5", "fd00::5"]}, {"id": "b", "mac_address": "02:00:00:00:00:02", "addresses": []}]
    disks = [{"id": "root", "image": "debian", "path": "/old/root.qcow2", "format": "qcow2", "backing": "/content"}, {"id": "own", "disk": "web-own"}]
    return {"name": "web", "backend": "qemu", "state": "running", "labels": {}, "config": config, "nics": nics, "disks": disks, **more}


def other(format_: str = "qcow2", **more: t.Any) -> Tree:
    disks = [{"id": "root", "path": f"/new/root.{format_}", "format": format_, **({"backing": "/content"} if format_ == "qcow2" else {})}]
    return {"labels": {}, "config": {}, "disks": disks, **more}


def test_what_one_vm_alone_may_have_is_told_from_what_both_may() -> None:
    left = replacement(vm(), {})
    assert [disk["id"] for disk in left["storage"]] == ["root", "data", "iso", "own"]
    assert [disk["id"] for disk in left["stays"]] == ["root", "iso"]
    assert left["network"] == [
        {"id": "a", "network": "apps", "mac_address": MAC, "address": ["10.80.0.5", "fd00::5"]},
        {"id": "b", "tap_device": "tap7", "mac_address": "02:00:00:00:00:02"},
    ]
    assert left["disks"] == [] and left["secrets"] == []
    assert replacement(vm(cloud_init_digest="x", metadata_digest=None), {})["secrets"] == ["cloud_init"]


def test_a_vm_that_has_given_everything_up_is_known_by_the_labels_of_the_new_one() -> None:
    before = replacement(vm(), {})
    assert all(len(text) <= 255 and text.isprintable() for text in before["labels"].values()) and len(before["labels"]) > 1
    bare = vm(config={"storage": [], "network": []}, nics=[], disks=[])
    after = replacement(bare, other(labels={"vmcp-replaces": "web", **before["labels"]}))
    assert {key: after[key] for key in ("storage", "network", "stays", "labels")} == {key: before[key] for key in ("storage", "network", "stays", "labels")}


def test_disks_that_were_made_with_it_are_paired_with_those_of_the_new_one() -> None:
    (alike,) = replacement(vm(), other())["disks"]
    assert alike == {"id": "root", "path": "/old/root.qcow2", "format": "qcow2", "new_path": "/new/root.qcow2", "new_format": "qcow2", "alike": True}
    (unlike,) = replacement(vm(), other("raw"))["disks"]
    assert not unlike["alike"] and unlike["new_format"] == "raw"
