# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks of our own: out through NAT, in through published ports, names, policy, and everything gone afterwards."""

from __future__ import annotations

import json
import os
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.integration.network.ground import (
    HOST_OUTSIDE,
    NOTHING,
    OUTSIDE,
    Ground,
    is_kept_from,
    reaches,
    resolve,
    serve,
)
from ansible_collections.unkey.vmcp.tests.netns import Namespace, namespaces, wire
from ansible_collections.unkey.vmcp.tests.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for namespaces of its own")

APPS: dict[str, t.Any] = {"ipv4": "10.80.0.1/24", "ipv6": "fd00:80::1/64", "nat": True}


def test_made_once_predicted_in_check_mode_and_gone_without_a_trace(ground: Ground) -> None:
    options = {**APPS, "dhcp": True, "isolate": True, "forward": [{"host_port": 8080, "vm": "web", "vm_port": 80}]}
    before = ground.left_behind()
    assert before == NOTHING
    predicted = ground.call(act=False, name="apps", **options)
    assert ground.left_behind() == NOTHING
    made = ground.call(name="apps", **options)
    assert made.result["actions"] == predicted.result["actions"] == ["define", "forwarding", "links", "rules", "dns"]
    assert made.diff == predicted.diff
    assert '        oifname != "vn-apps" masquerade' in made.diff["after"]["rules"]
    assert made.result["network"]["up"]
    assert made.result["network"]["dns"] == "running"
    again = ground.call(name="apps", **options)
    assert (again.result["changed"], again.diff["after"]) == (False, {})
    assert ground.call(name="apps").result["changed"] is False, "what is left out is untouched"
    assert ground.network(state="absent")["actions"] == ["remove"]
    assert ground.left_behind() == NOTHING
    assert ground.network(state="absent")["changed"] is False


def test_vms_go_out_and_are_reached_through_a_published_port_alone(ground: Ground) -> None:
    ground.network(**APPS, forward=[{"host_port": 8080, "vm": "web", "vm_port": 80}, {"host_port": 5353, "vm": "web", "protocol": "udp"}])
    web, db = ground.vm("web"), ground.vm("db")
    serve(ground.outside, 9000)
    for port, protocol in ((80, "tcp"), (81, "tcp"), (5353, "udp")):
        serve(web.inside, port, protocol)
    assert web.pings("10.80.0.1")
    assert web.pings("fd00:80::1")
    assert web.reaches(OUTSIDE, 9000)
    assert reaches(ground.outside, HOST_OUTSIDE, 8080)
    assert reaches(ground.outside, HOST_OUTSIDE, 5353, "udp")
    assert reaches(ground.host, HOST_OUTSIDE, 8080), "the host reaches it by its own address"
    assert db.reaches(web.address, 80), "neighbours see each other"
    assert db.reaches(HOST_OUTSIDE, 8080), "a neighbour reaches it by the host's address"
    assert db.reaches(web.member.addresses[1], 80)
    ground.outside.run("ip", "route", "add", "10.80.0.0/24", "via", HOST_OUTSIDE)
    assert is_kept_from(ground.outside, web.address, 80), "nobody outside begins a connection"
    ground.network(forward=[])
    assert is_kept_from(ground.outside, HOST_OUTSIDE, 8080)
    assert web.reaches(OUTSIDE, 9000)


def test_the_host_is_protected_but_for_what_is_opened(ground: Ground) -> None:
    ground.network(**APPS, dhcp=True, host_ports=[{"port": 2222}])
    web = ground.vm("web")
    for port in (2222, 2223):
        serve(ground.host, port)
    assert web.reaches("10.80.0.1", 2222)
    assert web.is_kept_from("10.80.0.1", 2223)
    assert web.is_kept_from(HOST_OUTSIDE, 2223), "by no address of the host's"
    assert web.is_kept_from("fd00:80::1", 2223)
    assert reaches(ground.outside, HOST_OUTSIDE, 2223), "from elsewhere as before"
    assert web.pings("10.80.0.1")


def test_vms_on_an_isolated_network_do_not_see_each_other(ground: Ground) -> None:
    ground.network(**APPS, isolate=True)
    web, db = ground.vm("web"), ground.vm("db")
    serve(web.inside, 80)
    serve(ground.outside, 9000)
    assert db.is_kept_from(web.address, 80)
    assert db.pings_in_vain(web.address)
    # Through the gateway, which would send it back.
    db.inside.run("ip", "route", "add", f"{web.address}/32", "via", "10.80.0.1")
    assert db.is_kept_from(web.address, 80)
    assert db.reaches(OUTSIDE, 9000)
    ground.network(isolate=False)
    assert db.reaches(web.address, 80)


def test_egress(ground: Ground) -> None:
    ground.network(**APPS, egress={"default": "deny", "allow": [{"cidr": "203.0.113.0/24", "ports": [9000, "9002-9003"], "protocol": "tcp"}]})
    web = ground.vm("web")
    for port in (9000, 9001, 9003):
        serve(ground.outside, port)
    assert web.reaches(OUTSIDE, 9000)
    assert web.reaches(OUTSIDE, 9003)
    assert web.is_kept_from(OUTSIDE, 9001)
    assert web.pings_in_vain(OUTSIDE)
    assert web.pings("10.80.0.1")
    ground.network(egress={"deny": [{"cidr": f"{OUTSIDE}/32", "ports": [9000], "protocol": "tcp"}]})
    assert web.is_kept_from(OUTSIDE, 9000)
    assert web.reaches(OUTSIDE, 9001)


def test_a_vm_cannot_send_as_somebody_else(ground: Ground) -> None:
    ground.network(**APPS)
    web, evil = ground.vm("web"), ground.vm("evil")
    serve(ground.outside, 9000)
    assert evil.pings("10.80.0.1")
    evil.inside.run("ip", "addr", "add", "10.80.0.200/24", "dev", "eth0")
    evil.inside.run("ip", "addr", "add", "fd00:80::bad/64", "dev", "eth0", "nodad")
    assert evil.pings_in_vain("10.80.0.1", "10.80.0.200"), "another address"
    assert evil.pings_in_vain("fd00:80::1", "fd00:80::bad"), "another IPv6 address"
    evil.inside.run("ip", "addr", "del", "10.80.0.200/24", "dev", "eth0")
    evil.inside.run("ip", "link", "set", "eth0", "address", "02:00:00:00:66:66")
    assert evil.pings_in_vain("10.80.0.1"), "another MAC address"
    evil.inside.run("ip", "link", "set", "eth0", "address", evil.member.mac)
    evil.inside.run("ip", "route", "replace", "default", "via", "10.80.0.1")
    assert evil.pings("10.80.0.1")
    _claims_addresses_of_others(ground, evil.inside, web.address)
    ground.network(anti_spoofing=False)
    evil.inside.run("ip", "link", "set", "eth0", "address", "02:00:00:00:66:66")
    assert evil.pings("10.80.0.1")


def _claims_addresses_of_others(ground: Ground, evil: Namespace, address: str) -> None:
    """Says in ARP and neighbour discovery that it has the address of another: nobody hears it."""
    ground.host.run("ip", "neigh", "flush", "dev", "vn-apps")
    ground.host.run("ip", "neigh", "add", address, "lladdr", "02:00:00:00:00:07", "dev", "vn-apps", "nud", "stale")
    evil.run("python3", "-c", _CLAIM, address)
    assert "02:00:00:00:00:07" in ground.host.run("ip", "neigh", "show", address)


_CLAIM = """
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
mac = s.getsockname()[4]
for operation in (1, 2):
    claimed, asked = socket.inet_aton(sys.argv[1]), socket.inet_aton("10.80.0.1")
    s.send(b"\\xff" * 6 + mac + bytes.fromhex("08060001080006 04") + bytes([0, operation]) + mac + claimed + mac + asked)
"""


def test_names_and_addresses_by_dhcp(ground: Ground) -> None:
    ground.network(**APPS, dhcp=True, domain="apps.test")
    web, db = ground.vm("web"), ground.vm("db", hostname="database")
    for name, vm in (("database", db), ("web", web)):
        until(lambda name=name, vm=vm: resolve(web.inside, f"{name}.apps.test") == vm.address, f"the name of {name}")
    assert resolve(web.inside, "nobody.apps.test") == ""
    info = ground.info()
    assert {member["vm"]: member["addresses"][0] for member in info["members"]} == {"web": web.address, "db": db.address}
    assert {member["name"] for member in info["members"]} == {"web.apps.test", "database.apps.test"}


def test_the_same_holds_for_ipv6(ground: Ground) -> None:
    ground.host.run("ip", "addr", "add", "2001:db8::2/64", "dev", "wan0", "nodad")
    ground.outside.run("ip", "addr", "add", "2001:db8::1/64", "dev", "eth0", "nodad")
    egress = {"default": "deny", "allow": [{"cidr": "2001:db8::1/128", "ports": [9000], "protocol": "tcp"}]}
    ground.network(**APPS, egress=egress, forward=[{"host_port": 8080, "vm": "web", "vm_port": 80}])
    web, db = ground.vm("web"), ground.vm("db")
    for port in (9000, 9001):
        serve(ground.outside, port)
    serve(web.inside, 80)
    serve(ground.host, 22)
    six = web.member.addresses[1]
    assert web.reaches("2001:db8::1", 9000), "under the host's address: nobody outside has a route back"
    assert web.is_kept_from("2001:db8::1", 9001)
    assert web.is_kept_from("2001:db8::2", 22), "the host is protected"
    assert reaches(ground.outside, "2001:db8::2", 8080)
    ground.outside.run("ip", "route", "add", "fd00:80::/64", "via", "2001:db8::2")
    assert is_kept_from(ground.outside, six, 80)
    # A neighbour advertisement for an address of another, as an attacker sends it.
    ground.host.run("ip", "neigh", "replace", six, "lladdr", "02:00:00:00:00:07", "dev", "vn-apps", "nud", "stale")
    db.inside.run("python3", "-c", _ADVERTISE, six)
    assert "02:00:00:00:00:07" in ground.host.run("ip", "neigh", "show", six)

    def is_heard() -> bool:
        web.inside.run("python3", "-c", _ADVERTISE, six)
        return web.member.mac in ground.host.run("ip", "neigh", "show", six)

    until(is_heard, "who has it may say so")


# Arguments: what it says that it has, and, if given, an address to hide that behind, in an extension header where the target would be without one.
_ADVERTISE = """
import socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
mac = s.getsockname()[4]
target = socket.inet_pton(socket.AF_INET6, sys.argv[1])
link_local = bytes.fromhex("fe80000000000000") + bytes([mac[0] ^ 2]) + mac[1:3] + b"\\xff\\xfe" + mac[3:]
everybody = socket.inet_pton(socket.AF_INET6, "ff02::1")
body = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + target + b"\\2\\1" + mac
total = sum(struct.unpack(f"!{len(body) // 2}H", body)) + sum(struct.unpack("!16H", link_local + everybody)) + len(body) + 58
while total >> 16:
    total = (total & 0xFFFF) + (total >> 16)
body = body[:2] + struct.pack("!H", ~total & 0xFFFF) + body[4:]
hidden = b"".join(socket.inet_pton(socket.AF_INET6, word) for word in sys.argv[2:])
# Destination options of 24 octets: one of a kind that nobody knows, which is to be skipped.
options = bytes([58, 2, 0x1E, 20, 0, 0, 0, 0]) + hidden if hidden else b""
head = struct.pack("!IHBB", 6 << 28, len(options) + len(body), 60 if options else 58, 255) + link_local + everybody
s.send(b"\\x33\\x33\\0\\0\\0\\1" + mac + b"\\x86\\xdd" + head + options + body)
"""


@pytest.mark.parametrize("family", ["ipv4 and ipv6", "ipv6"])
def test_nobody_has_the_link_local_address_of_gateway_or_neighbour(ground: Ground, family: str) -> None:
    """By its link-local address guests know their router."""
    ground.network(**{option: value for option, value in APPS.items() if option in family or option == "nat"})
    web, evil = ground.vm("web"), ground.vm("evil")
    for vm in (web, evil):
        # The addresses that a kernel gives itself follow from the MAC address that the interface has when it comes up.
        for words in (("link", "set", "eth0", "down"), ("-6", "addr", "flush", "dev", "eth0"), ("link", "set", "eth0", "up")):
            vm.inside.run("ip", *words)
    (gateway,) = _link_local(ground.host, "vn-apps")
    own, others = _link_local(evil.inside, "eth0"), _link_local(web.inside, "eth0")
    assert web.pings(f"{gateway}%eth0") and evil.pings(f"{others[0]}%eth0"), "as it should be, all hear each other"
    for claimed, hearer, link in ((gateway, web.inside, "eth0"), (others[0], ground.host, "vn-apps")):
        hearer.run("ip", "neigh", "replace", claimed, "lladdr", "02:00:00:00:00:07", "dev", link, "nud", "stale")
        for behind in ([], [evil.member.addresses[-1]]):
            evil.inside.run("python3", "-c", _ADVERTISE, claimed, *behind)
            assert "02:00:00:00:00:07" in hearer.run("ip", "neigh", "show", claimed)
        hearer.run("ip", "neigh", "del", claimed, "dev", link)
    evil.inside.run("ip", "addr", "del", f"{own[0]}/64", "dev", "eth0")
    evil.inside.run("ip", "addr", "add", f"{others[0]}/64", "dev", "eth0", "nodad")
    assert evil.pings_in_vain(f"{gateway}%eth0", f"{others[0]}%eth0"), "a neighbour's link-local address"
    evil.inside.run("ip", "addr", "del", f"{others[0]}/64", "dev", "eth0")
    evil.inside.run("ip", "neigh", "flush", "dev", "eth0")
    evil.inside.run("ip", "addr", "add", "fe80::7/64", "dev", "eth0", "nodad")
    assert evil.pings(f"{gateway}%eth0", "fe80::7%eth0"), "one that a guest has made up is nobody's"


def _link_local(namespace: Namespace, link: str) -> list[str]:
    """Once the kernel has made sure that nobody else has it."""
    deadline = time.monotonic() + 90
    while True:
        listed = json.loads(namespace.run("ip", "-j", "-6", "addr", "show", "dev", link, "scope", "link"))
        found = [entry for one in listed for entry in one.get("addr_info", []) if "local" in entry]
        if found and not any(entry.get("tentative") for entry in found):
            return [entry["local"] for entry in found]
        assert time.monotonic() < deadline, listed
        time.sleep(0.1)


def test_through_the_interface_that_is_named_and_no_other(ground: Ground) -> None:
    with namespaces("lan") as (lan,):
        wire(ground.host, "lan0", lan, "eth0")
        ground.host.run("ip", "addr", "add", "192.0.2.2/24", "dev", "lan0")
        lan.run("ip", "addr", "add", "192.0.2.1/24", "dev", "eth0")
        lan.run("ip", "route", "add", "10.80.0.0/24", "via", "192.0.2.2")
        ground.network(**{**APPS, "nat": "wan0"})
        web = ground.vm("web")
        serve(ground.outside, 9000)
        serve(lan, 9000)
        assert web.reaches(OUTSIDE, 9000)
        assert web.is_kept_from("192.0.2.1", 9000)
        ground.network(nat=True)
        assert web.reaches("192.0.2.1", 9000)
