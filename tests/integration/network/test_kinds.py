# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The other kinds: somebody else's bridge, the real LAN, macvtap, and one network over two hosts."""

from __future__ import annotations

import json
import os
import pathlib
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.host.network import kernel
from ansible_collections.unkey.vmcp.plugins.module_utils.host.networks import leave_all
from ansible_collections.unkey.vmcp.tests.integration.network.ground import NOTHING, Ground, Vm, reaches, resolve, serve
from ansible_collections.unkey.vmcp.tests.netns import Namespace, namespaces, wire
from ansible_collections.unkey.vmcp.tests.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for namespaces of its own")


@pytest.fixture
def lan(ground: Ground) -> t.Iterator[Namespace]:
    """A second network card of the host, and what is behind it."""
    with namespaces("lan") as (made,):
        wire(ground.host, "lan0", made, "eth0")
        made.run("ip", "addr", "add", "192.0.2.1/24", "dev", "eth0")
        serve(made, 80)
        yield made


def links(ground: Ground, *names: str) -> list[t.Any]:
    # Without what changes by itself, and once it is seen that their cables are in.
    keep = ("ifname", "flags", "mtu", "master", "address", "linkinfo")

    def found() -> list[t.Any]:
        return [{key: link.get(key) for key in keep} for link in json.loads(ground.host.run("ip", "-j", "link")) if link["ifname"] in names]

    until(lambda: not any("NO-CARRIER" in link["flags"] for link in found()), "the cables are seen")
    return found()


def test_an_adopted_bridge_is_not_changed(ground: Ground, lan: Namespace) -> None:
    ground.host.run("ip", "link", "add", "br0", "address", "02:00:00:00:00:01", "type", "bridge")
    ground.host.run("ip", "link", "set", "lan0", "master", "br0")
    ground.host.run("ip", "link", "set", "br0", "up")
    ground.host.run("ip", "addr", "add", "192.0.2.2/24", "dev", "br0")
    serve(ground.host, 22)
    before = links(ground, "br0", "lan0")
    made = ground.network("lan", kind="adopted", interface="br0")
    assert made["actions"] == ["define", "rules"]
    assert not ground.network("lan", kind="adopted", interface="br0")["changed"]
    web = ground.vm("web", "lan", address="192.0.2.7")
    assert web.reaches("192.0.2.1", 80)
    assert reaches(lan, "192.0.2.2", 22), "the LAN reaches the host as before"
    assert web.is_kept_from("192.0.2.2", 22), "a VM does not"
    web.inside.run("ip", "addr", "add", "192.0.2.8/24", "dev", "eth0")
    web.inside.run("ip", "addr", "del", "192.0.2.7/24", "dev", "eth0")
    assert web.is_kept_from("192.0.2.1", 80), "it sends from its own address alone"
    ground.network("lan", state="absent", force=True)
    assert links(ground, "br0", "lan0") == before
    assert ground.left_behind()["rules"] == []


def test_an_uplinked_bridge_puts_vms_on_the_lan_and_lets_go_of_the_card(ground: Ground, lan: Namespace) -> None:
    refused = ground.refused("lan", kind="uplink", interface="wan0")
    assert "wan0 has the address 203.0.113.2/24, and the host would be cut off" in refused.msg
    before = links(ground, "lan0")
    made = ground.network("lan", kind="uplink", interface="lan0")
    assert made["actions"] == ["define", "links", "rules"]
    assert made["network"]["bridge"] == "vn-lan"
    assert not ground.network("lan")["changed"]
    web = ground.vm("web", "lan", address="192.0.2.7")
    assert web.reaches("192.0.2.1", 80)
    assert "inet" not in ground.host.run("ip", "addr", "show", "dev", "vn-lan"), "the host is not on that network"
    assert "is the uplink of network lan already" in ground.refused("other", kind="uplink", interface="lan0").msg
    ground.network("lan", state="absent", force=True)
    assert links(ground, "lan0") == before
    assert ground.left_behind()["rules"] == []
    assert "vn-lan" not in ground.left_behind()["links"]


def test_a_vlan_where_the_kernel_has_them_and_a_word_about_the_module_where_not(ground: Ground, lan: Namespace) -> None:
    options = {"kind": "uplink", "interface": "lan0", "vlan": 42}
    if not kernel.has("vlan"):
        assert [lack["field"] for lack in ground.call(act=False, name="lan", **options).result["would_need"]] == ["vlan"]
        refused = ground.refused("lan", **options)
        assert refused.code == "failed_precondition"
        assert "The running kernel has no vlan interfaces (module 8021q). Run 'modprobe 8021q'" in refused.msg
        assert ground.left_behind()["files"] == [], "a network that cannot be is not defined"
        pytest.skip("this kernel has no 8021q: that it is told was tested here, VLANs on the kernel of a guest (test_vlans.py)")
    lan.run("ip", "link", "add", "link", "eth0", "name", "eth0.42", "type", "vlan", "id", "42")
    lan.run("ip", "addr", "add", "198.51.100.1/24", "dev", "eth0.42")
    lan.run("ip", "link", "set", "eth0.42", "up")
    ground.network("lan", **options)
    assert ground.vm("web", "lan", address="198.51.100.7").reaches("198.51.100.1", 80)
    ground.network("lan", state="absent", force=True)


def test_macvtap_is_known_and_nothing_is_made_for_it(ground: Ground, lan: Namespace) -> None:
    made = ground.network("direct", kind="macvtap", interface="lan0", mode="private")
    assert made["actions"] == ["define"]
    assert made["network"]["interface"] == "lan0"
    assert made["network"]["bridge"] is None
    assert not ground.network("direct")["changed"]
    assert ground.left_behind()["rules"] == []
    assert "no interface of this host" in ground.refused("other", kind="macvtap", interface="lan7").msg
    assert ground.network("direct", state="absent")["changed"]
    assert {**ground.left_behind(), "links": []} == NOTHING


@pytest.fixture
def hosts(top: pathlib.Path) -> t.Iterator[tuple[Ground, Ground]]:
    """Two hosts and a cable."""
    with namespaces("one", "world1", "two", "world2") as (one, world1, two, world2):
        made = []
        for number, (host, world) in enumerate(((one, world1), (two, world2)), 1):
            directory = top / str(number)
            directory.mkdir()
            made.append(Ground(directory, host, world))
        wire(one, "cable", two, "cable")
        for number, host in ((1, one), (2, two)):
            host.run("ip", "addr", "add", f"172.31.0.{number}/24", "dev", "cable")
        try:
            yield made[0], made[1]
        finally:
            for ground in made:
                ground.end()


FABRIC: dict[str, t.Any] = {"kind": "vxlan", "ipv4": "10.90.0.0/24", "nat": True, "vxlan": {"id": 90, "peers": ["172.31.0.2", "172.31.0.1"]}}


def test_one_network_over_two_hosts(hosts: tuple[Ground, Ground]) -> None:
    made = [ground.network("fabric", **FABRIC)["network"] for ground in hosts]
    assert [network["ipv4"] for network in made] == ["10.90.0.1/24", "10.90.0.2/24"]
    assert [network["ranges"]["ipv4"] for network in made] == [["10.90.0.3", "10.90.0.128"], ["10.90.0.129", "10.90.0.254"]]
    assert made[0]["mtu"] == 1450
    assert not any(ground.network("fabric", **FABRIC)["changed"] for ground in hosts)
    here, there = (ground.vm(f"web{number}", "fabric") for number, ground in enumerate(hosts, 1))
    serve(there.inside, 80)
    assert here.reaches(there.address, 80)
    assert here.pings("10.90.0.1")
    assert here.pings("10.90.0.2"), "the other host, by its address on the network"
    serve(hosts[0].outside, 9000)
    assert here.reaches("203.0.113.1", 9000), "out through its own host"
    asked = hosts[0].refused("fabric", vxlan={"id": 90, "peers": ["172.31.0.1", "172.31.0.2", "172.31.0.3", "172.31.0.4", "172.31.0.5", "172.31.0.6"]})
    assert asked.violations[0].field == "vxlan.peers" and "another host might give them again" in asked.msg
    hosts[0].network("fabric", isolate=True)
    assert here.is_kept_from(there.address, 80)
    hosts[0].network("fabric", isolate=False)
    assert here.reaches(there.address, 80)


def resolves(vm: Vm, name: str, server: str, address: str) -> None:
    """Whether a name becomes what it should be: dnsmasq reads its files some time after it is told."""
    until(lambda: resolve(vm.inside, f"{name}.fabric.internal", server) == address, f"{name} is {address}")


def test_names_of_vms_on_the_other_host(hosts: tuple[Ground, Ground], top: pathlib.Path) -> None:
    """As the documentation does it, with what each host tells."""
    for ground in hosts:
        ground.network("fabric", **FABRIC, dhcp=True)
    here, there = (ground.vm(f"web{number}", "fabric") for number, ground in enumerate(hosts, 1))
    first, second = (ground.info("fabric") for ground in hosts)
    members = [*first["members"], *second["members"]]
    names = {member["name"]: member["addresses"] for member in members}
    told = [ground.network("fabric", dns_names=names) for ground in hosts]
    assert [result["actions"] for result in told] == [["update"], ["update"]]
    assert not any(ground.network("fabric", dns_names=names)["changed"] for ground in hosts)
    for vm, other, gateway in ((here, there, "10.90.0.1"), (there, here, "10.90.0.2")):
        resolves(vm, other.name, gateway, other.address)
        resolves(vm, vm.name, gateway, vm.address)
    # A VM that is gone has no name any more where it was, whatever was told of it.
    hosts[0].host.call(leave_all, hosts[0].store, ["web1"], time.monotonic() + 30)
    resolves(here, "web1", "10.90.0.1", "")
    assert hosts[0].network("fabric", dns_names={})["actions"] == ["update"]
    resolves(here, "web2", "10.90.0.1", "")


def test_who_is_no_peer_is_not_heard(hosts: tuple[Ground, Ground]) -> None:
    for ground in hosts:
        ground.network("fabric", **{**FABRIC, "range": ["10.90.0.100-10.90.0.109"] if ground is hosts[0] else ["10.90.0.110-10.90.0.119"]})
    here, there = (ground.vm(f"web{number}", "fabric") for number, ground in enumerate(hosts, 1))
    serve(here.inside, 80)
    assert there.reaches(here.address, 80)
    changed = hosts[0].network("fabric", vxlan={"id": 90, "peers": ["172.31.0.1"]})
    assert changed["actions"] == ["update", "links", "rules"]
    assert there.is_kept_from(here.address, 80)
    hosts[0].network("fabric", vxlan={"id": 90, "peers": ["172.31.0.1", "172.31.0.2"]})
    assert there.reaches(here.address, 80)


def test_a_vxlan_without_this_host_among_its_peers(ground: Ground) -> None:
    refused = ground.refused("fabric", **FABRIC)
    assert refused.violations[0].as_dict() == {"field": "vxlan.peers", "message": "name none of this host's addresses. Name its own in vxlan.local."}
