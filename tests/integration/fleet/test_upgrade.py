# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""unkey.vmcp.upgrade: one host after the other, and back at the first failure. By kernels, which any VMM here can tell apart."""

from __future__ import annotations

from ansible_collections.unkey.vmcp.tests.integration.fleet.conftest import guest
from ansible_collections.unkey.vmcp.tests.integration.fleet.hosts import Hosts, Tree


def kernels(hosts: Hosts) -> dict[str, list[str]]:
    return {host: [hosts.definition(host, name)["config"]["boot"]["kernel_path"] for name in vms] for host, vms in hosts.vms().items()}


def test_all_hosts_in_turn_and_nothing_the_second_time(hosts: Hosts, vm: Tree) -> None:
    hosts.common |= {"vmcp_vm_defaults": vm, "vmcp_vms": ["a", "b", {"name": "c", "state": "present"}]}
    hosts.play("site", skip="hosts,fleet").ok()
    new = guest(hosts, "new", "hello from the new one")
    options = {"vmcp_upgrade_kernel": new, "vmcp_upgrade_settle": 0, "vmcp_upgrade_wait_for": [{"console": "hello from the new one"}]}
    before = {host: hosts.boot(host, "a") for host in hosts.names}
    hosts.play("upgrade", check=True, **options).ok()
    assert {host: hosts.boot(host, "a") for host in hosts.names} == before
    done = hosts.play("upgrade", **options).ok()
    assert done.stats["vmcp_upgrade"] == {"upgraded": ["h1", "h2", "h3"], "failed": [], "lost": [], "untouched": []}
    assert kernels(hosts) == {host: [new] * 3 for host in hosts.names}
    assert all(vms == {"a": "running", "b": "running", "c": "down"} for vms in hosts.vms().values())
    hosts.play("upgrade", **options).unchanged()


def test_the_first_failure_is_taken_back_and_ends_it(hosts: Hosts, vm: Tree) -> None:
    hosts.common |= {"vmcp_vm_defaults": vm, "vmcp_vms": ["a", "b"]}
    hosts.play("site", skip="hosts,fleet").ok()
    old, new, bad = vm["kernel"], guest(hosts, "new", "hello from the new one"), guest(hosts, "bad", "does not come up")
    for host in hosts.names:
        # What comes up is given its time: the machine may be slow.
        hosts.variables[host] = {"vmcp_upgrade_kernel": bad, "vmcp_upgrade_wait_timeout": 3} if host == "h2" else {"vmcp_upgrade_kernel": new}
    last = hosts.boot("h3", "a")
    options = {"vmcp_upgrade_settle": 0, "vmcp_upgrade_wait_for": [{"console": "hello from the new one"}]}
    failed = hosts.play("upgrade", **options)
    failed.refused("The upgrade failed on h2, whose VMs are back on what they had:", "Upgraded before: h1. Not begun: h3.")
    assert failed.stats["vmcp_upgrade"] == {"upgraded": ["h1"], "failed": ["h2"], "lost": [], "untouched": ["h3"]}
    assert kernels(hosts) == {"h1": [new, new], "h2": [old, old], "h3": [old, old]}
    assert all(state == "running" for vms in hosts.vms().values() for state in vms.values())
    assert hosts.boot("h3", "a") == last
    assert sorted(set(failed.changed)) == ["h1", "h2"]


def test_a_host_that_cannot_be_reached_ends_it_with_a_word_of_the_others(hosts: Hosts, vm: Tree) -> None:
    # Nothing needs to run for it.
    hosts.common |= {"vmcp_vm_defaults": {**vm, "state": "present"}, "vmcp_vms": ["a"]}
    hosts.play("site", skip="hosts,fleet").ok()
    old, new = vm["kernel"], guest(hosts, "new")
    hosts.lost = {"h2"}
    failed = hosts.play("upgrade", vmcp_upgrade_kernel=new, vmcp_upgrade_settle=0)
    failed.refused("The upgrade failed on h2, whose VMs are as they were: It cannot be reached:", "Upgraded before: h1. Not begun: h3.")
    assert failed.stats["vmcp_upgrade"] == {"upgraded": ["h1"], "failed": ["h2"], "lost": ["h2"], "untouched": ["h3"]}
    assert kernels(hosts) == {"h1": [new], "h2": [old], "h3": [old]}


def test_a_host_that_is_lost_in_the_middle_is_named_with_what_was_begun(hosts: Hosts, vm: Tree) -> None:
    # On the others nothing needs to run for it.
    hosts.common |= {"vmcp_vm_defaults": {**vm, "state": "present"}, "vmcp_vms": ["a"]}
    hosts.variables["h2"] = {"vmcp_vms": [{"name": name, "state": "running"} for name in ("a", "b")]}
    hosts.play("site", skip="hosts,fleet").ok()
    old, new = vm["kernel"], guest(hosts, "new")
    # No connection from the first of its batches on.
    lost = "{{ 'ssh' if vmcp_upgrade__touched is defined else 'local' }}"
    hosts.variables["h2"] |= {"ansible_connection": lost, "ansible_host": "127.0.0.1", "ansible_port": 1}
    failed = hosts.play("upgrade", vmcp_upgrade_kernel=new, vmcp_upgrade_settle=0)
    failed.refused(
        "The upgrade failed on h2, which was lost in the middle of it, so that its VMs a may have the new or the old one (not begun: b;",
        "Upgraded before: h1. Not begun: h3.",
    )
    assert failed.stats["vmcp_upgrade"] == {"upgraded": ["h1"], "failed": ["h2"], "lost": ["h2"], "untouched": ["h3"]}
    assert kernels(hosts) == {"h1": [new], "h2": [old, old], "h3": [old]}
