# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""unkey.vmcp.site on several hosts: VMs from inventory variables alone, and the same again without a change."""

from __future__ import annotations

from ansible_collections.unkey.vmcp.tests.integration.fleet.hosts import Hosts, Tree


def test_from_nothing_and_again(hosts: Hosts, vm: Tree) -> None:
    hosts.common = {"vmcp_vm_defaults": vm, "vmcp_fleet_defaults": vm}
    hosts.common["vmcp_fleet"] = [{"name": "web-{index}", "count": 3, "placement": {"apart": "web"}}, {"name": "db"}]
    hosts.variables = {"h1": {"vmcp_vms": ["own"]}}
    foretold = hosts.play("site", check=True).ok()
    assert not any(hosts.files(name) for name in hosts.names)
    made = hosts.play("site").ok()
    assert made.changed == foretold.changed
    found = hosts.vms()
    assert sorted(name for vms in found.values() for name in vms) == ["db", "own", "web-0", "web-1", "web-2"]
    assert all(state == "running" for vms in found.values() for state in vms.values())
    assert all(sum(name.startswith("web") for name in vms) == 1 for vms in found.values()) and "own" in found["h1"]
    assert made.stats["vmcp_site"]["hosts"]["h1"]["changed"]["own"] == ["define", "start"] and made.stats["vmcp_site"]["lost"] == []
    again = hosts.play("site").unchanged()
    assert again.stats["vmcp_site"]["hosts"]["h1"]["changed"] == {} and "own" in again.stats["vmcp_site"]["hosts"]["h1"]["vms"]
    assert hosts.vms() == found


def test_what_is_wrong_is_said_before_anything_is_done(hosts: Hosts) -> None:
    refused = hosts.play("site", vmcp_vms="web", vmcp_fleet_prun=True, vmcp_backends=["xen"], vmcp_fleet={"a": {"memory": "1Q"}})
    refused.refused(
        "3 violations: vmcp_backends: must be some of cloudhypervisor, firecracker, qemu.",
        "vmcp_fleet_prun: is no variable of these playbooks. Did you mean vmcp_fleet_prune?",
        "vmcp_vms: must be a list of entries, or a dictionary of name to entry.",
    )
    assert not any(hosts.files(name) for name in hosts.names)
