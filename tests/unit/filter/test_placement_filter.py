# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter vmcp_placement, as playbooks call it."""

from __future__ import annotations

import typing as t

from ansible_collections.unkey.vmcp.plugins.filter.placement import vmcp_placement

Tree = dict[str, t.Any]


def host(memory: str = "8G", vcpus: int = 16, *, backends: tuple[str, ...] = ("qemu",), vms: tuple[Tree, ...] = (), pages: int = 0, **more: t.Any) -> Tree:
    facts = {
        "cpus": 4,
        "memory_bytes": 64 << 30,
        "kvm": {"usable": True},
        "hugepages": [{"size_bytes": 2 << 20, "total": pages, "free": 0}],
        "backends": [{"backend": name, "version": "1.16.1"} for name in backends],
    }
    return {"host": facts, "vms": list(vms), "capacity": {"memory": memory, "vcpus": vcpus}, **more}


def vm(name: str, memory: str = "1G", **more: t.Any) -> Tree:
    return {"name": name, "config": {"cpu": {"vcpu_count": 1}, "memory": {"size_bytes": memory}}, "labels": {"vmcp_fleet": "default"}, **more}


def decisions(found: Tree) -> dict[str, tuple[str, str | None]]:
    return {decision["name"]: (decision["action"], decision["host"]) for decision in found["decisions"]}


def messages(found: Tree) -> list[str]:
    return [f"{violation['field']}: {violation['message']}" for violation in found["violations"]]


def test_spreads_by_load_and_says_why() -> None:
    fleet = [{"name": "web-{index}", "count": 3, "memory": "2G", "state": "running"}]
    found = vmcp_placement(fleet, {"h1": host(), "h2": host(vms=(vm("old", "4G", labels={}),))}, defaults={"kernel": "/k"})
    assert decisions(found) == {"web-0": ("start", "h1"), "web-1": ("start", "h1"), "web-2": ("start", "h2")}
    assert found["decisions"][0]["reason"] == "h1 is the least loaded host that takes it (0% before, 25% with it)"
    assert found["entries"]["h1"]["web-0"] == {"kernel": "/k", "name": "web-0", "memory": "2G", "state": "running", "labels": {"vmcp_fleet": "default"}}
    assert found["claims"] == {"web-0": "h1", "web-1": "h1", "web-2": "h2"}
    assert found["summary"]["start"] == 3 and not found["violations"]
    assert found["hosts"]["h2"]["vcpus_free"] == 14


def test_refuses_all_that_does_not_fit_at_once() -> None:
    fleet = {
        "large": {"memory": "16G"},
        "fc": {"backend": "firecracker"},
        "there": {"placement": {"hosts": "rack2-*"}},
        "zoned": {"placement": {"labels": {"zone": "b"}}},
        "paged": {"config": {"memory": {"size_bytes": "1G", "hugepages": True}}},
        "one": {"placement": {"apart": "pair"}},
        "two": {"placement": {"apart": "pair"}},
    }
    found = vmcp_placement(fleet, {"h1": host(labels={"zone": "a"})})
    assert messages(found) == [
        "vmcp_fleet.fc: fc wants 1 vCPU and 528MiB memory with firecracker, and fits nowhere: h1 has no firecracker.",
        "vmcp_fleet.large: large wants 1 vCPU and 16.0GiB memory, and fits nowhere: h1 has 8GiB of its 8GiB memory left.",
        "vmcp_fleet.paged: paged wants 1 vCPU, 16MiB memory and 1GiB in huge pages of 2MiB, and fits nowhere: h1 has 0 in huge pages of 2MiB left.",
        "vmcp_fleet.there: there wants 1 vCPU and 528MiB memory with host rack2-*, and fits nowhere: h1 is none of rack2-*.",
        "vmcp_fleet.two: two wants 1 vCPU and 528MiB memory, and fits nowhere: h1 has another VM of the group pair.",
        "vmcp_fleet.zoned: zoned wants 1 vCPU and 528MiB memory with zone=b, and fits nowhere: h1 has not the label zone=b.",
    ]
    assert decisions(found)["one"] == ("start", "h1")


def test_what_is_written_wrong_is_told_at_once_with_its_path() -> None:
    fleet: list[Tree] = [
        {"name": "a", "memory": "1Q", "placement": {"zone": "a"}},
        {"name": "b", "state": "absent", "placement": {"labels": ["x"], "hosts": {}}},
        {"name": "B"},
    ]
    found = vmcp_placement(fleet, {"h1": host(), "h2": {**host(), "capacity": {"ram": 1}}}, defaults={"name": "x"}, fenced=["h9"])
    assert messages(found) == [
        "vmcp_fleet_defaults.name: belongs to one entry: no two VMs share it.",
        "vmcp_fleet[2].name: must be 1 to 63 characters of a-z, 0-9 and '-', starting with a letter or digit, such as 'b'.",
        "vmcp_fleet[0].config: '1Q' is not a size: give bytes as a whole number, or a number with a suffix: 512M, 16G, 4GiB.",
        "vmcp_fleet[0].placement.zone: is no key here. Known are: hosts, labels, apart.",
        "vmcp_fleet[1].state: is no state to be in. Take the entry out to have its VM removed (vmcp_fleet_prune).",
        "vmcp_fleet[1].placement.labels: must be a dictionary of a label to the value that the host must have.",
        "vmcp_fleet[1].placement.hosts: must be a text or a list of texts.",
        "vmcp_fenced_hosts: h9 is no host of this fleet.",
        "hostvars.h2.vmcp_host_capacity: ram is no key here. Known are: vcpus, memory, cpu_overcommit, memory_overcommit, memory_reserve.",
    ]


def test_a_host_out_of_sight_keeps_its_vms() -> None:
    hosts = {"h1": host(), "h2": {"reachable": False}}
    found = vmcp_placement(["web", "db"], hosts, claims={"web": "h2", "gone": "h2"})
    assert decisions(found) == {"db": ("start", "h1"), "web": ("stay", "h2")}
    assert found["decisions"][1]["reason"] == "h2 cannot be reached, and may have it running. Bring h2 back, or say that it is dead: vmcp_fenced_hosts."
    assert found["claims"] == {"web": "h2", "db": "h1", "gone": "h2"}
    assert not found["violations"] and "web" not in found["entries"]["h1"]


def test_a_host_declared_dead_gives_its_vms_away() -> None:
    found = vmcp_placement(["web"], {"h1": host(), "h2": {"reachable": False}}, claims={"web": "h2"}, fenced="h2")
    assert decisions(found) == {"web": ("start", "h1")}
    assert found["decisions"][0]["reason"].endswith("it was on h2, which is declared dead: its disks there are lost to it")
    alive = vmcp_placement(["web"], {"h1": host(), "h2": host(vms=(vm("web"),))}, claims={"web": "h2"}, fenced="h2")
    assert messages(alive) == ["vmcp_fenced_hosts: says that h2 is dead, and it answers. Remove its VMs, or take it off the list."]
    assert decisions(alive) == {"web": ("keep", "h2")}


def test_nothing_new_starts_while_too_little_is_known() -> None:
    hosts = {"h1": host(vms=(vm("web"),)), "h2": {"reachable": False}}
    found = vmcp_placement(["web", "db"], hosts, claims_complete=False)
    assert decisions(found) == {"db": ("refuse", None), "web": ("keep", "h1")}
    assert "db may be on h2: it cannot be reached, and too few of the hosts that keep the claims were asked" in messages(found)[0]


def test_a_vm_in_two_places_is_refused_and_so_is_one_on_its_way_out_of_sight() -> None:
    found = vmcp_placement(["web"], {"h1": host(vms=(vm("web"),)), "h2": host(vms=(vm("web"),))})
    assert messages(found) == ["vmcp_fleet[0]: web is on h1 and h2. Remove it from all but one of them."]
    found = vmcp_placement(["web"], {"h1": host(vms=(vm("web"),)), "h2": {"reachable": False}}, claims={"web": "h2"})
    assert "web is on h1 and was given to h2, which cannot be reached: it may run there." in messages(found)[0]
    assert found["claims"] == {"web": "h2"}


def test_moves_only_what_cannot_stay_and_only_where_that_is_allowed() -> None:
    hosts = {"h1": host(vms=(vm("web"), vm("db")), labels={"zone": "a"}), "h2": host(labels={"zone": "b"})}
    fleet = [{"name": "web", "placement": {"labels": {"zone": "b"}}}, "db"]
    refused = vmcp_placement(fleet, hosts)
    assert messages(refused) == [
        "vmcp_fleet[0]: web is on h1, which has not the label zone=b. Let it move (vmcp_placement_moves: true), or change what it asks for."
    ]
    moved = vmcp_placement(fleet, hosts, moves=True)
    assert decisions(moved) == {"db": ("keep", "h1"), "web": ("move", "h2")}
    assert moved["decisions"][1]["former"] == "h1" and moved["decisions"][1]["reason"].startswith("h1 has not the label zone=b; h2 is the least loaded")
    drained = {**hosts, "h1": {**hosts["h1"], "drained": True}}
    stays = vmcp_placement(["web", "db"], drained)
    assert [notice["message"] for notice in stays["notices"]] == [
        "db is still on h1, which is drained.",
        "web is still on h1, which is drained.",
    ] and not stays["violations"]
    assert decisions(vmcp_placement(["web", "db"], drained, moves=True)) == {"db": ("move", "h2"), "web": ("move", "h2")}


def test_a_vm_that_grows_past_its_host_is_told_what_is_left() -> None:
    hosts = {"h1": host("4G", vms=(vm("web", "2G"), vm("db", "1G"))), "h2": host("8G")}
    fleet = [{"name": "web", "memory": "4G"}, {"name": "db", "memory": "1G"}]
    assert messages(vmcp_placement(fleet, hosts))[0].startswith(
        "vmcp_fleet[0]: web is on h1, which has 992MiB of its 4GiB memory left, too little for it to grow to 1 vCPU and 4112MiB memory."
    )
    assert decisions(vmcp_placement(fleet, hosts, moves=True)) == {"db": ("keep", "h1"), "web": ("move", "h2")}


def test_a_claim_that_was_not_carried_out_is_kept() -> None:
    found = vmcp_placement(["web"], {"h1": host(), "h2": host(vms=(vm("db", "4G"),))}, claims={"web": "h2"})
    assert decisions(found) == {"web": ("start", "h2")}
    assert found["decisions"][0]["reason"] == "was given to h2 before, and is not there yet"


def test_what_left_the_fleet_is_surplus() -> None:
    found = vmcp_placement(
        [], {"h1": host(vms=(vm("old"), vm("mine", labels={}), vm("theirs", labels={"vmcp_fleet": "other"})))}, claims={"old": "h1", "lost": "h1"}
    )
    assert found["surplus"] == {"old": "h1"} and found["claims"] == {"old": "h1"}
