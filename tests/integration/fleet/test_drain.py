# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""unkey.vmcp.drain and undrain: a host is emptied with the disks of its VMs, and gets back what was its own."""

from __future__ import annotations

import pathlib

from ansible_collections.unkey.vmcp.tests.integration.fleet.hosts import Hosts, Tree


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
