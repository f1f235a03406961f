# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM as another host needs it, and as another version does."""

from __future__ import annotations

import typing as t

from ansible_collections.unkey.vmcp.plugins.plugin_utils.moving import as_entry, files_of, unlike, upgrades

Tree = dict[str, t.Any]


def vm(name: str = "web", state: str = "running", **more: t.Any) -> Tree:
    config = {
        "boot": {"kernel_path": "/k/linux", "kernel_args": "quiet"},
        "memory": {"size_bytes": 1 << 30},
        "storage": [
            {"id": "root", "path": "/srv/root.img", "read_only": True},
            {"id": "data", "path": "/srv/data.img"},
            {"id": "nfs", "path": "/nfs/big.img"},
        ],
        "network": [{"id": "a", "tap_device": "br0"}, {"id": "b", "tap_device": "br1", "mac_address": "02:00:00:00:00:02"}],
    }
    return {
        "name": name,
        "state": state,
        "backend": "firecracker",
        "backend_version": "1.15.0",
        "labels": {"fleet": "x"},
        "protected": True,
        "autostart": False,
        "workload": None,
        "security": {"uid": 70001, "jail": False},
        "nics": [{"id": "a", "mac_address": "02:00:00:00:00:01", "tap": "vm1"}, {"id": "b", "mac_address": "02:00:00:00:00:02", "tap": "vm2"}],
        "config": config,
        **more,
    }


def test_an_entry_takes_its_addresses_along_and_leaves_its_uid() -> None:
    before = vm()
    entry = as_entry(before)
    assert [nic["mac_address"] for nic in entry["config"]["network"]] == ["02:00:00:00:00:01", "02:00:00:00:00:02"]
    assert entry["security"] == {"jail": False} and "workload" not in entry
    assert (entry["state"], entry["protected"], entry["autostart"], entry["labels"]) == ("running", True, False, {"fleet": "x"})
    assert before == vm(), "what was given is not changed"
    assert [as_entry(vm(state=state))["state"] for state in ("paused", "shutdown", "created", "crashed")] == ["paused", "present", "present", "present"]


def test_files_are_told_apart_by_who_writes_to_them() -> None:
    assert files_of(vm(), ["/nfs/"]) == {"disks": ["/srv/data.img"], "read_only": ["/srv/root.img", "/k/linux"], "directories": []}
    assert files_of(vm(), ["/srv", "/k", "/nf"]) == {"disks": ["/nfs/big.img"], "read_only": [], "directories": []}


def with_disks(digest: str = "sha256:1", root_format: str = "qcow2") -> Tree:
    config = {"boot": {}, "storage": [{"id": "root", "image": "debian"}, {"id": "own", "disk": "web-data"}, {"id": "lib", "disk": "lib", "read_only": True}]}
    config["storage"] += [{"id": "volume", "disk": "fast"}, {"id": "scratch", "size": 1 << 30}]
    root = {"id": "root", "image": "debian", "digest": digest, "format": root_format, "method": "overlay" if root_format == "qcow2" else "copy"}
    disks = [root, {"id": "scratch", "format": "raw", "method": "blank"}]
    for name, disk, path in (("own", "web-data", "/d/web-data/disk.raw"), ("lib", "lib", "/d/lib/disk.qcow2"), ("volume", "fast", "/dev/vg/vmcp-fast")):
        disks.append({"id": name, "disk": disk, "path": path, "format": "raw"})
    return vm(config=config, disks=disks)


def test_a_disk_with_a_name_goes_with_its_record_and_one_of_lvm_is_no_file() -> None:
    found = files_of(with_disks(), [])
    assert found == {"disks": ["/d/web-data", "/dev/vg/vmcp-fast"], "read_only": ["/d/lib"], "directories": ["/d/web-data", "/d/lib"]}


def test_disks_made_with_a_vm_are_taken_only_where_the_same_would_be_made() -> None:
    assert unlike(with_disks(), with_disks()) == []
    (said,) = unlike(with_disks(), with_disks("sha256:2"))
    assert said == "Its disk root was cloned from sha256:1, and the image debian is sha256:2 on the new host. Bring the same image there."
    (said,) = unlike(with_disks(), with_disks(root_format="raw"))
    assert said.startswith("Its disk root is qcow2, and would be raw on the new host")


def test_an_upgrade_of_the_version_restarts_what_runs_and_can_be_taken_back() -> None:
    vms = [vm("up"), vm("down", "shutdown"), vm("new", backend_version="1.16.1"), vm("other", backend="qemu")]
    assert upgrades(vms, "firecracker", "1.16.1", None, None) == {
        "running": {"up": {"backend_version": "1.16.1", "state": "restarted"}},
        "down": {"down": {"backend_version": "1.16.1"}},
        "back": {"up": {"backend_version": "1.15.0", "state": "restarted"}, "down": {"backend_version": "1.15.0"}},
    }
    assert upgrades([vm("new", backend_version="1.16.1")], "firecracker", "v1.16", None, None)["running"] == {}


def test_an_upgrade_of_the_kernel_keeps_the_version() -> None:
    plan = upgrades(
        [vm(), vm("same", config={"boot": {"kernel_path": "/k/new"}}), vm("firmware", config={"boot": {"firmware_path": "/f"}})], None, None, "/k/new", None
    )
    assert plan["running"] == {"web": {"kernel": "/k/new", "backend_version": "1.15.0", "state": "restarted"}}
    assert plan["back"] == {"web": {"kernel": "/k/linux", "backend_version": "1.15.0", "state": "restarted"}}


def test_an_initrd_that_was_not_there_before_is_taken_off_again() -> None:
    plan = upgrades([vm()], None, None, None, "/k/initrd")
    assert plan["running"]["web"]["initrd"] == "/k/initrd"
    assert plan["back"]["web"] == {"backend_version": "1.15.0", "config": {"boot": {"initrd_path": None}}, "state": "restarted"}
