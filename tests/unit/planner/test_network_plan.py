# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What would be done to a network, out of what is wanted and what is found. Nothing here touches a host."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition, InvalidArgument
from ansible_collections.unkey.vmcp.plugins.module_utils.model.network import NetworkRequest, validate_network
from ansible_collections.unkey.vmcp.plugins.module_utils.model.network_definition import Member, NetworkDefinition
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.network_desired import desired_network
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.network_links import batch, boot_script, interface_name, wanted_links
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.network_members import dns_hosts
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.network_plan import NetworkPlan, plan_network
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.network_rules import own_chains
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.network_situation import HostNetwork, Link, NetworkSituation, Route

HOST = HostNetwork(
    links={"lo": Link("lo", 1, up=True), "eth0": Link("eth0", 2, up=True, mtu=9000), "eth1": Link("eth1", 3), "br0": Link("br0", 4, "bridge")},
    addresses={"lo": ("127.0.0.1/8", "::1/128"), "eth0": ("192.0.2.10/24", "fe80::1/64"), "eth1": ("fe80::2/64",)},
    routes=(Route("0.0.0.0/0", "eth0"), Route("192.0.2.0/24", "eth0"), Route("10.50.0.0/16", "tun0"), Route("fe80::/64", "eth0"), Route("10.60.0.0/16", "")),
    machine="m",
)


def request(stored: NetworkDefinition | None = None, **options: t.Any) -> NetworkRequest:
    made, violations = validate_network({"name": "apps", **options}, {**stored.settings, "kind": stored.kind} if stored else None)
    assert made is not None, violations
    return made


def found(definition: NetworkDefinition | None = None, **more: t.Any) -> NetworkSituation:
    return NetworkSituation(**{"name": "apps", "host": HOST, "definition": definition, **more})


def plan(situation: NetworkSituation | None = None, **options: t.Any) -> NetworkPlan:
    situation = situation or found()
    return plan_network(request(situation.definition, **options), situation)


def violations(situation: NetworkSituation | None = None, **options: t.Any) -> dict[str, str]:
    with pytest.raises(InvalidArgument) as caught:
        plan(situation, **options)
    assert all(v.message.endswith(".") for v in caught.value.violations)
    return {v.field: v.message for v in caught.value.violations}


def defined(**options: t.Any) -> NetworkDefinition:
    return desired_network(request(**options), found()).definition


def settled(definition: NetworkDefinition, *vms: str) -> NetworkSituation:
    """Found as defined, with VMs on it."""
    links = dict(HOST.links)
    addresses = dict(HOST.addresses)
    for index, link in enumerate(wanted_links(definition), 10):
        if link.kind:
            links[link.name] = Link(link.name, index, link.kind, link.mtu or 1500, True, link.master, {**link.info, "peers": link.peers})
            addresses[link.name] = link.addresses
        else:
            links[link.name] = dataclasses.replace(links[link.name], master=link.master, up=True)
    members = tuple(
        Member(vm, "eth0", f"vm{number}", f"02:00:00:00:00:0{number}", (f"10.80.0.{number + 10}",) if definition.ipv4 else ()) for number, vm in enumerate(vms)
    )
    return found(definition, host=dataclasses.replace(HOST, links=links, addresses=addresses), members=members, dns="running" if definition.dhcp else "off")


def test_a_new_network_and_one_that_is_as_it_should_be() -> None:
    made = plan(ipv4="10.80.0.1/24", dhcp=True, nat=True)
    assert made.actions == ("define", "links", "dns")
    assert made.definition is not None
    assert made.definition.generated["bridge"] == "vn-apps"
    assert made.diff()["before"]["state"] == "absent"
    again = plan(settled(made.definition), ipv4="10.80.0.1/24", dhcp=True, nat=True)
    assert (again.actions, again.diff()["after"]) == ((), {})


@pytest.mark.parametrize(
    ("more", "actions"),
    [
        ({"rules_differ": True}, ("rules",)),
        ({"cut_off": True}, ("rules",)),
        ({"files_differ": True}, ("update",)),
        ({"forwarding": {"ipv4/ip_forward": "0"}}, ("forwarding",)),
        ({"dns": "ended"}, ("dns",)),
        ({"dns_differs": True}, ("dns",)),
        ({"persisted": False}, ("enable",)),
    ],
)
def test_what_is_found_to_differ_is_put_right_and_nothing_else(more: dict[str, t.Any], actions: tuple[str, ...]) -> None:
    definition = defined(ipv4="10.80.0.1/24", nat=True, dhcp=True)
    assert plan(dataclasses.replace(settled(definition), **more)).actions == actions


@pytest.mark.parametrize(
    ("options", "field", "part"),
    [
        ({"ipv4": "192.0.2.1/25"}, "ipv4", "192.0.2.0/25 overlaps 192.0.2.0/24, to which the host has a route through eth0."),
        ({"ipv4": "10.50.3.1/24"}, "ipv4", "overlaps 10.50.0.0/16, to which the host has a route through tun0."),
        ({"ipv4": "10.60.3.1/24"}, "ipv4", "overlaps 10.60.0.0/16, to which the host has a route."),
        ({"kind": "vxlan", "ipv4": "10.90.0.0/24", "vxlan": {"id": 1, "peers": ["192.0.2.11"]}}, "vxlan.peers", "name none of this host's addresses"),
        ({"kind": "vxlan", "ipv4": "10.90.0.0/30", "vxlan": {"id": 1, "peers": ["192.0.2.10", "192.0.2.11"]}}, "ipv4", "no room for 2 hosts"),
        ({"kind": "vxlan", "vxlan": {"id": 1, "peers": ["192.0.2.10", "fd00::1"]}}, "vxlan.peers", "are of both families"),
    ],
)
def test_what_this_host_cannot_have(options: dict[str, t.Any], field: str, part: str) -> None:
    assert part in violations(**options)[field]


def test_two_networks_do_not_share_what_only_one_can_have() -> None:
    other = dataclasses.replace(
        defined(ipv4="10.81.0.1/24", forward=[{"host_port": 80, "vm": "web"}]), name="other", generated={"bridge": "vn-other", "ranges": {}}
    )
    neighbours = found(others=(other,))
    assert "overlaps 10.81.0.0/24 of network other" in violations(neighbours, ipv4="10.81.0.129/25")["ipv4"]
    assert "is forwarded by network other" in violations(neighbours, ipv4="10.82.0.1/24", forward=[{"host_port": 80, "vm": "a"}])["forward[0].host_port"]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"kind": "uplink", "interface": "eth0"}, "eth0 has the address 192.0.2.10/24, and the host would be cut off"),
        ({"kind": "uplink", "interface": "eth9"}, "eth9 is no interface of this host."),
        ({"kind": "uplink", "interface": "br0"}, "br0 is a bridge. Use kind: adopted."),
        ({"kind": "adopted", "interface": "eth1"}, "eth1 is no bridge (hardware)."),
        ({"ipv4": "10.80.0.1/24", "nat": "eth9"}, "eth9 is no interface of this host."),
    ],
)
def test_what_the_host_lacks_is_no_violation(options: dict[str, t.Any], part: str) -> None:
    assert [lack for lack in plan(**options).would_need if part in lack.message]
    assert plan(kind="uplink", interface="eth1").would_need == ()
    assert plan(kind="uplink", interface="eth0", vlan=7).would_need == ()


def test_hosts_of_one_network_share_its_addresses_out() -> None:
    peers = ["192.0.2.30", "192.0.2.10", "192.0.2.20"]
    parts = []
    for peer in peers:
        host = dataclasses.replace(HOST, addresses={"eth0": (f"{peer}/24",)})
        made = desired_network(request(kind="vxlan", ipv4="10.90.0.0/24", vxlan={"id": 1, "peers": peers}), found(host=host)).definition
        parts.append((made.ipv4, *made.ranges["ipv4"]))
        assert made.mtu == 8950
    assert sorted(parts) == [
        ("10.90.0.1/24", "10.90.0.4", "10.90.0.86"),
        ("10.90.0.2/24", "10.90.0.87", "10.90.0.169"),
        ("10.90.0.3/24", "10.90.0.170", "10.90.0.252"),
    ]


def test_a_change_that_interrupts_needs_leave_when_vms_are_on_the_network() -> None:
    definition = defined(ipv4="10.80.0.1/24")
    assert plan(settled(definition), ipv4="10.80.0.2/24").disruption == "none"
    with pytest.raises(FailedPrecondition, match=r"Changing ipv4 of network apps cuts off the VMs on it \(db, web\)"):
        plan(settled(definition, "web", "db"), ipv4="10.80.0.2/24")
    assert plan(settled(definition, "web"), ipv4="10.80.0.2/24", allow_disruption="restart").disruption == "restart"
    assert plan(settled(definition, "web"), isolate=True, egress={"default": "deny"}).disruption == "none"
    assert "leaves out addresses that VMs db, web have" in violations(settled(definition, "web", "db"), ipv4="10.81.0.1/24")["ipv4"]
    assert "would give the host the address of VM web" in violations(settled(definition, "web"), ipv4="10.80.0.10/24")["ipv4"]


def test_another_peer_that_moves_the_hosts_own_address_interrupts() -> None:
    """Each host's address is its place among the sorted peers, and the VMs on it have it as their gateway."""
    fabric: dict[str, t.Any] = {"kind": "vxlan", "ipv4": "10.80.0.0/24", "range": ["10.80.0.10-10.80.0.99"]}
    definition = defined(**fabric, vxlan={"id": 9, "peers": ["192.0.2.10", "192.0.2.20"]})
    assert definition.ipv4 == "10.80.0.1/24"
    later = plan(settled(definition, "web"), **fabric, vxlan={"id": 9, "peers": ["192.0.2.10", "192.0.2.20", "192.0.2.30"]})
    assert later.disruption == "none"
    before = {"id": 9, "peers": ["192.0.2.5", "192.0.2.10", "192.0.2.20"]}
    with pytest.raises(FailedPrecondition, match=r"Changing ipv4 of network apps cuts off the VMs on it \(web\)"):
        plan(settled(definition, "web"), **fabric, vxlan=before)
    moved = plan(settled(definition, "web"), **fabric, vxlan=before, allow_disruption="restart")
    assert moved.disruption == "restart"
    assert (moved.diff()["before"]["ipv4"], moved.diff()["after"]["ipv4"]) == ("10.80.0.1/24", "10.80.0.2/24")


def test_a_removal_names_who_uses_it() -> None:
    definition = defined(ipv4="10.80.0.1/24")
    with pytest.raises(FailedPrecondition, match=r"Network apps is used by 2 VMs: db, web\."):
        plan(settled(definition, "web", "db"), state="absent")
    assert plan(settled(definition, "web"), state="absent", force=True).actions == ("remove",)
    assert plan(found(), state="absent").actions == ()
    assert plan(found(remains=True), state="absent").actions == ("remove",)
    with pytest.raises(FailedPrecondition, match="broken"):
        plan(found(broken="it is broken."), ipv4="10.80.0.1/24")
    with pytest.raises(FailedPrecondition, match="Set force: true"):
        plan(found(broken="it is broken."), state="absent")
    assert plan(found(broken="it is broken."), state="absent", force=True).actions == ("remove",)


def test_interface_names_fit_the_kernel() -> None:
    assert interface_name("vn", "apps") == "vn-apps"
    assert interface_name("vn", "twelve-chars") == "vn-twelve-chars"
    long = interface_name("vn", "thirteen-char")
    assert len(long) == 15 and long != interface_name("vn", "thirteen-chaR")


def test_what_a_booting_host_runs() -> None:
    definition = defined(kind="uplink", interface="eth1", vlan=42)
    script = boot_script(definition, "/var/lib/vmcp/networks/apps", {}, True, "vmcp: network apps")
    assert "await eth1\nhas vl-apps || ip link add link eth1 name vl-apps type vlan id 42\n" in script
    assert batch(wanted_links(definition)).splitlines()[-2:] == ["link set dev vl-apps master vn-apps", "link set dev vl-apps up"]
    tunnel = defined(kind="vxlan", ipv4="10.90.0.0/24", vxlan={"id": 9, "peers": ["192.0.2.10", "192.0.2.11"]})
    script = boot_script(tunnel, "/x", {"ipv4/ip_forward": "1"}, True, "m")
    assert "type vxlan id 9 local 192.0.2.10 dstport 4789" in script
    assert "dst 192.0.2.11 self permanent" in script and "dst 192.0.2.10 " not in script
    assert "say ipv4/ip_forward 1" in script


def test_rules_are_what_was_asked_for_and_in_this_order() -> None:
    text = own_chains(
        "vmcp", defined(ipv4="10.80.0.1/24", nat="eth0", egress={"default": "deny", "allow": [{"cidr": "fd00::/8"}], "deny": [{"protocol": "icmp"}]})
    )
    lines = [line.strip() for line in text.splitlines()]
    assert lines.index("meta l4proto { icmp, icmpv6 } counter reject with icmpx admin-prohibited") < lines.index("ip6 daddr fd00::/8 return")
    assert 'oifname "eth0" masquerade' in lines
    assert 'oifname != "eth0" counter reject with icmpx no-route comment "the way out is eth0 alone"' in lines
    assert "tcp dport 53 accept" not in lines


def test_rules_of_the_older_iptables_are_told_with_all_that_is_to_be_run() -> None:
    definition = defined(ipv4="10.80.0.1/24", ipv6="fd00:80::1/64", dhcp=True)
    asked = {"ipv4": "10.80.0.1/24", "ipv6": "fd00:80::1/64", "dhcp": True}
    missing = ("iptables-legacy -I FORWARD -i vn-apps -j ACCEPT", "ip6tables-legacy -I INPUT -i vn-apps -j ACCEPT")
    (notice,) = plan(dataclasses.replace(settled(definition), legacy=missing), **asked).notices
    assert "Run: iptables-legacy -I FORWARD -i vn-apps -j ACCEPT; ip6tables-legacy -I INPUT -i vn-apps -j ACCEPT." in notice
    assert plan(settled(definition), **asked).notices == ()


def test_names_that_the_user_gives_are_beside_those_of_the_vms() -> None:
    """But of the addresses that the host gives itself its own VMs' names are the truth, also when one is gone."""
    names = {"db.apps.internal": ["10.80.1.9", "10.80.0.77"], "web": "10.80.1.8", "gone": "10.80.0.20", "mail.example.org": "10.80.1.25"}
    definition = defined(ipv4="10.80.0.1/16", range="10.80.0.10-10.80.0.99", dhcp=True, dns_names=names)
    web = Member("web", "eth0", "vm0", "02:00:00:00:00:01", ("10.80.0.10",))
    assert dns_hosts(definition, [web]).splitlines() == [
        "10.80.0.10 web.apps.internal web",
        "10.80.1.9 db.apps.internal db",
        "10.80.1.25 mail.example.org",
    ]
