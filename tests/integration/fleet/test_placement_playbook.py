# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""unkey.vmcp.placement, and a host that cannot be reached."""

from __future__ import annotations

from ansible_collections.unkey.vmcp.tests.integration.fleet.hosts import Hosts, Tree


def fleet(hosts: Hosts, vm: Tree, *entries: Tree | str) -> None:
    hosts.common |= {"vmcp_fleet_defaults": vm, "vmcp_fleet": list(entries)}


def where(hosts: Hosts) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for host, vms in hosts.vms().items():
        for name in vms:
            found.setdefault(name, []).append(host)
    return found


def test_a_host_out_of_sight_keeps_its_vms_until_it_is_declared_dead(hosts: Hosts, vm: Tree) -> None:
    fleet(hosts, vm, *({"name": f"web-{n}", "placement": {"apart": "web"}} for n in (1, 2)))
    made = hosts.play("placement").ok()
    home = made.stats["vmcp_placement"]["hosts"]["web-1"]
    assert f"{home} is the least loaded host that takes it" in made.said
    hosts.lost = {home}
    unseen = hosts.play("placement")
    assert unseen.code == 4, unseen.output
    assert f"web-1 {home} stay {home} cannot be reached, and may have it running." in unseen.said, unseen.output[-6000:]
    assert not any(unseen.changed.values())
    assert where(hosts)["web-1"] == [home]
    # A new VM may start: two of the three that keep the claims are enough to know that it is nowhere.
    fleet(hosts, vm, "web-1", "web-2", "new")
    assert hosts.play("placement").code == 4
    assert where(hosts)["new"] != [home] and hosts.vms()[where(hosts)["new"][0]]["new"] == "running"
    # With two of three out of sight, nothing new does.
    hosts.lost = set(hosts.names) - set(where(hosts)["new"])
    fleet(hosts, vm, "web-1", "web-2", "new", "newer")
    hosts.play("placement").refused("newer may be on", "too few of the hosts that keep the claims were asked to know")
    # Declared dead, it loses its VM to another host; and it is told when it comes back with it.
    hosts.lost = {home}
    fleet(hosts, vm, "web-1", "web-2", "new")
    hosts.play("placement", vmcp_fenced_hosts=[home])
    assert len(where(hosts)["web-1"]) == 2
    hosts.lost = set()
    hosts.play("placement").refused("web-1 is on", "Remove it from all but one of them.")
    hosts.play("placement", vmcp_fenced_hosts=[home]).refused(f"says that {home} is dead, and it answers.")


def test_everything_that_does_not_fit_is_refused_before_anything_starts(hosts: Hosts, vm: Tree) -> None:
    fleet(hosts, vm, "small", {"name": "large", "memory": "8G"}, {"name": "lonely", "placement": {"labels": {"zone": "b"}}})
    hosts.play("placement").refused("2 violations: vmcp_fleet[1]: large wants", "vmcp_fleet[2]: lonely wants", "has not the label zone=b")
    assert not any(hosts.vms().values())


def test_a_vm_moves_with_its_disk_where_that_is_allowed(hosts: Hosts, vm: Tree) -> None:
    disk = hosts.top / "data.img"
    disk.write_bytes(b"what it has written".ljust(1 << 20, b"\0"))
    fleet(hosts, vm, {"name": "web", "disks": [str(disk)], "placement": {"hosts": "h1"}})
    hosts.play("placement").ok()
    fleet(hosts, vm, {"name": "web", "disks": [str(disk)], "placement": {"hosts": "h2"}})
    hosts.play("placement").refused("web is on h1, which is none of h2. Let it move (vmcp_placement_moves: true)")
    # The hosts share this machine's files, so that the disk is in its own way.
    hosts.play("placement", vmcp_placement_moves=True).refused(f"{disk} is on the new host already.")
    assert hosts.vms()["h1"] == {"web": "running"}
    hosts.play("placement", vmcp_placement_moves=True, vmcp_drain_shared_paths=[str(hosts.top)]).ok()
    assert where(hosts) == {"web": ["h2"]} and hosts.vms()["h2"]["web"] == "running"
    hosts.play("placement").unchanged()


def test_what_left_the_fleet_is_removed_where_that_is_asked_for(hosts: Hosts, vm: Tree) -> None:
    fleet(hosts, vm, "web", "old")
    hosts.play("placement").ok()
    fleet(hosts, vm, "web")
    assert "old on" in hosts.play("placement").ok().said and "old" in where(hosts)
    hosts.play("placement", vmcp_fleet_prune=True).refused("1 VMs are not in vmcp_fleet any more (old), and vmcp_fleet_prune_max allows to remove 10% (0).")
    hosts.play("placement", vmcp_fleet_prune=True, vmcp_fleet_prune_max="50%").ok()
    assert set(where(hosts)) == {"web"}
    hosts.play("placement", vmcp_fleet_prune=True).unchanged()
