# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""unkey.vmcp.drain and undrain: a host is emptied with the disks of its VMs, and gets back what was its own."""

from __future__ import annotations

import pathlib

from ansible_collections.unkey.vmcp.tests.integration.fleet.hosts import PLAYBOOKS, Hosts, Tree


def test_emptied_and_taken_back(hosts: Hosts, vm: Tree) -> None:
    disk = hosts.top / "data.img"
    disk.write_bytes(b"what it has written".ljust(1 << 20, b"\0"))
    own = {"name": "own", "disks": [str(disk)], "protected": True, "labels": {"mine": "yes"}}
    hosts.common |= {"vmcp_vm_defaults": vm, "vmcp_fleet_defaults": vm, "vmcp_drain_shared_paths": [str(hosts.top)]}
    hosts.common["vmcp_fleet"] = [{"name": "web-{index}", "count": 3, "placement": {"labels": {"kind": "any"}}}]
    hosts.common["vmcp_host_labels"] = {"kind": "any"}
    hosts.variables = {"h1": {"vmcp_vms": [own]}}
    hosts.play("site").ok()
    before = hosts.vms()
    hosts.play("drain", check=True, vmcp_drain_hosts="h1").ok()
    assert hosts.vms() == before
    drained = hosts.play("drain", vmcp_drain_hosts="h1", vmcp_drain_reason="new memory").ok()
    after = hosts.vms()
    assert after["h1"] == {}
    assert sorted(name for vms in after.values() for name in vms) == ["own", "web-0", "web-1", "web-2"]
    assert all(state == "running" for vms in after.values() for state in vms.values())
    assert {move["name"] for move in drained.stats["vmcp_drain"]["moved"]} == set(before["h1"])
    home = next(host for host, vms in after.items() if "own" in vms)
    assert hosts.definition(home, "own")["protected"] and hosts.definition(home, "own")["labels"] == {"mine": "yes"}
    # The site leaves a drained host alone, and the fleet as it is.
    quiet = hosts.play("site").ok()
    assert "h1 is drained (new memory, since" in quiet.said and hosts.vms() == after
    hosts.play("undrain", vmcp_drain_hosts="h1").ok()
    assert hosts.vms()["h1"] == {"own": "running"} and "own" not in hosts.vms()[home]
    assert not pathlib.Path(hosts.ground("h1").state, "drained.json").exists()
    hosts.play("site").ok()
    hosts.play("site").unchanged()


def test_what_cannot_be_moved_is_said_before_it_is_stopped(hosts: Hosts, vm: Tree) -> None:
    image = hosts.top / "image.raw"
    image.write_bytes(b"what every clone begins with".ljust(1 << 20, b"\0"))
    hosts.common |= {"vmcp_vm_defaults": vm}
    secrets = {"own": {"cloud_init": {"hostname": "own.example"}}}
    own = {"name": "own", "disks": [{"image": "data"}]}
    hosts.variables = {"h1": {"vmcp_images": [{"name": "data", "path": str(image)}], "vmcp_vms": [own], "vmcp_vm_secrets": secrets}}
    hosts.play("site").ok()
    before = hosts.boot("h1", "own")
    del hosts.variables["h1"]["vmcp_vm_secrets"]
    hosts.play("drain", vmcp_drain_hosts="h1").refused(
        "own cannot be moved from h1 to",
        "and stays as it is. There is no image data on the new host. Bring it there: vmcp_images.",
        "It has cloud_init, which may be secret and is told to nobody: give it in vmcp_fleet_secrets, or in vmcp_vm_secrets of its host.",
    )
    assert hosts.boot("h1", "own") == before


def test_a_failure_takes_back_nothing_that_came_with_another_vm(hosts: Hosts, vm: Tree) -> None:
    kept = hosts.top / "came-before.img"
    kept.write_bytes(b"the disk of another VM")
    hosts.common |= {"vmcp_vm_defaults": vm, "vmcp_drain_shared_paths": [str(hosts.top)]}
    hosts.variables = {"h1": {"vmcp_vms": ["own"]}}
    hosts.play("site").ok()
    former = "{{ hostvars.h1 }}"
    moving = {
        "vmcp_move": {"name": "own", "former": "h1", "host": "h2"},
        "vmcp_move__former": former,
        "vmcp_move__vm": "{{ hostvars.h1.vmcp_fleet__vms.vms | first }}",
        "vmcp_move__entry": "{{ vmcp_move__vm | unkey.vmcp.vmcp_vm_entry }}",
        "vmcp_move__files": "{{ vmcp_move__vm | unkey.vmcp.vmcp_vm_files(vmcp_drain_shared_paths) }}",
        "vmcp_move__secrets": {},
        "vmcp_move__wait_for": [],
        "vmcp_drain_shutdown_timeout": -1,
    }
    failed = hosts.parts(
        {"import_tasks": f"{PLAYBOOKS}/tasks/fleet_look.yml"},
        {"set_fact": {"vmcp_move__carried": [str(kept)]}},
        {"include_tasks": f"{PLAYBOOKS}/tasks/move_vm.yml", "vars": moving, "when": "inventory_hostname == 'h2'"},
    )
    failed.refused("own was not moved from h1 to h2, and is on h1 as it was:")
    assert kept.exists() and hosts.vms()["h1"] == {"own": "running"}
