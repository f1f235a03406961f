# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest asks for its address as DHCP clients do: before it has one, from its own MAC address."""

from __future__ import annotations

import json
import os
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.host.networks import leave_all
from ansible_collections.unkey.vmcp.tests.integration.network.ground import Ground, Vm
from ansible_collections.unkey.vmcp.tests.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for namespaces of its own")

# Discover, request, and what was acknowledged, as JSON; null when nobody answers.
_CLIENT = r"""
import json, socket, struct, sys, time
interface = "eth0"
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
s.bind((interface, 0x0800))
s.settimeout(0.5)
mac = s.getsockname()[4]

def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF

def send(options):
    body = struct.pack("!BBBBIHH16s16s64s128s", 1, 1, 6, 0, 4711, 0, 0x8000, b"", mac, b"", b"") + bytes([99, 130, 83, 99]) + options + b"\xff"
    body = body.ljust(300, b"\0")
    udp = struct.pack("!HHHH", 68, 67, 8 + len(body), 0) + body
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    s.send(b"\xff" * 6 + mac + b"\x08\x00" + head + udp)

def answer(kind):
    until = time.monotonic() + 2
    while time.monotonic() < until:
        try:
            frame = s.recv(2048)
        except TimeoutError:
            continue
        if frame[23] != 17 or frame[36:38] != b"\0\x44" or frame[46:50] != struct.pack("!I", 4711):
            continue
        options, at, data = {}, 0, frame[42 + 240:]
        while data[at] != 255:
            if data[at]:
                options[data[at]] = data[at + 2 : at + 2 + data[at + 1]]
                at += 1 + data[at + 1]
            at += 1
        if options[53][0] == kind:
            return socket.inet_ntoa(frame[58:62]), options
    return None

deadline = time.monotonic() + float(sys.argv[1])
while True:
    send(bytes([53, 1, 1, 55, 5, 1, 3, 6, 15, 26]))
    offer = answer(2)
    if offer:
        send(bytes([53, 1, 3, 50, 4]) + socket.inet_aton(offer[0]) + bytes([54, 4]) + offer[1][54] + bytes([55, 6, 1, 3, 6, 15, 26, 12]))
        given = answer(5)
        if given:
            break
    if time.monotonic() >= deadline:
        print("null")
        sys.exit()
address, options = given
print(json.dumps({
    "kind": options[53][0], "address": address, "mask": socket.inet_ntoa(options[1]), "router": socket.inet_ntoa(options[3]),
    "dns": socket.inet_ntoa(options[6]), "domain": options[15].decode(), "mtu": int.from_bytes(options[26], "big"), "name": options.get(12, b"").decode(),
}))
"""


def asks(vm: Vm, seconds: float = 60) -> t.Any:
    """As a guest that has no address yet, again and again as they do. dnsmasq reads its files some time after it is told."""
    vm.inside.run("ip", "addr", "flush", "dev", "eth0", "scope", "global")
    return json.loads(vm.inside.run("python3", "-c", _CLIENT, str(seconds), timeout_s=seconds + 60))


def test_a_guest_gets_its_own_address_and_nobody_else_any(ground: Ground) -> None:
    ground.network(ipv4="10.80.0.1/24", nat=True, dhcp=True, mtu=1400)
    web, stranger = ground.vm("web"), ground.vm("stranger")
    assert asks(web) == {
        "kind": 5,
        "address": web.address,
        "mask": "255.255.255.0",
        "router": "10.80.0.1",
        "dns": "10.80.0.1",
        "domain": "apps.internal",
        "mtu": 1400,
        "name": "web",
    }
    (told,) = [member for member in ground.info()["members"] if member["vm"] == "web"]
    assert told["leases"][web.address] > time.time()
    ground.host.call(leave_all, ground.store, ["stranger"], time.monotonic() + 90)
    until(lambda: asks(stranger, 0) is None, "the stranger is told no address")


def test_an_address_that_was_given_back_is_another_guests_at_once(ground: Ground) -> None:
    """dnsmasq keeps a lease that it has given: it must hear that the VM is gone."""
    ground.network(ipv4="10.80.0.1/24", dhcp=True)
    old = ground.vm("old", address="10.80.0.9")
    assert asks(old)["address"] == "10.80.0.9"
    ground.host.call(leave_all, ground.store, ["old"], time.monotonic() + 90)
    new = ground.vm("new", address="10.80.0.9")
    assert asks(new)["address"] == "10.80.0.9"


# Solicit and request by DHCPv6 (RFC 8415) from the link-local address, and what the kernel has learnt from the router; null when nobody answers.
_CLIENT6 = r"""
import json, os, socket, struct, subprocess, sys, time
index = socket.if_nametoindex("eth0")
mac = bytes.fromhex(open("/sys/class/net/eth0/address").read().strip().replace(":", ""))
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
limit = time.monotonic() + 90
while True:
    links = json.loads(subprocess.run(["ip", "-j", "-6", "addr", "show", "dev", "eth0", "scope", "link"], capture_output=True, check=True).stdout)
    ready = [a["local"] for link in links for a in link.get("addr_info", []) if "local" in a and not a.get("tentative")]
    if ready:
        break
    assert time.monotonic() < limit, links
    time.sleep(0.05)
deadline = time.monotonic() + float(sys.argv[1])
s.bind((ready[0], 546, 0, index))
s.settimeout(0.5)

def option(code, body):
    return struct.pack("!HH", code, len(body)) + body

def read(data):
    found = {}
    while data:
        code, size = struct.unpack("!HH", data[:4])
        found[code] = data[4 : 4 + size]
        data = data[4 + size :]
    return found

own = option(1, struct.pack("!HH", 3, 1) + mac)

def ask(kind, wanted, more):
    body = bytes([kind, 0, 0x12, 0x34]) + own + option(6, struct.pack("!HH", 23, 24)) + option(8, bytes(2)) + more
    while time.monotonic() < deadline:
        s.sendto(body, ("ff02::1:2", 547, 0, index))
        try:
            data = s.recv(2048)
        except TimeoutError:
            continue
        if data[0] == wanted and data[1:4] == body[1:4]:
            return read(data[4:])

offered = ask(1, 2, option(3, struct.pack("!III", 7, 0, 0)))
if offered is None or 5 not in read(offered.get(3, bytes(12))[12:]):
    print("null")
    sys.exit()
got = ask(3, 7, option(2, offered[2]) + option(3, offered[3]))
address = read(got[3][12:])[5][:16]
while not (routes := json.loads(subprocess.run(["ip", "-j", "-6", "route", "show", "default", "proto", "ra"], capture_output=True, check=True).stdout or "[]")):
    assert time.monotonic() < deadline, "no router has told of itself"
    time.sleep(0.1)
text = [socket.inet_ntop(socket.AF_INET6, number) for number in (address, got[23][:16])]
print(json.dumps({"address": text[0], "dns": text[1], "router": routes[0]["gateway"]}))
"""


def asks6(vm: Vm, seconds: float) -> t.Any:
    """As a guest that has only what its kernel gives itself. It asks for a router, since there may be minutes between two of what routers say unasked."""
    vm.inside.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_ra=2")
    vm.inside.run("ip", "link", "set", "eth0", "down")
    vm.inside.run("ip", "-6", "addr", "flush", "dev", "eth0")
    vm.inside.run("ip", "link", "set", "eth0", "up")
    return json.loads(vm.inside.run("python3", "-c", _CLIENT6, str(seconds), timeout_s=seconds + 180))


def test_a_guest_gets_its_own_ipv6_address_and_learns_of_its_router(ground: Ground) -> None:
    ground.network(ipv4="10.80.0.1/24", ipv6="fd00:80::1/64", dhcp=True)
    web, stranger = ground.vm("web"), ground.vm("stranger")
    (six,) = [address for address in web.member.addresses if ":" in address]
    told = asks6(web, 60)
    assert (told["address"], told["dns"]) == (six, "fd00:80::1")
    own = json.loads(ground.host.run("ip", "-j", "-6", "addr", "show", "dev", "vn-apps", "scope", "link"))
    assert told["router"] in [address.get("local") for link in own for address in link.get("addr_info", [])]
    web.inside.run("ip", "-6", "addr", "add", f"{six}/64", "dev", "eth0", "nodad")
    assert web.pings("fd00:80::1")
    ground.host.call(leave_all, ground.store, ["stranger"], time.monotonic() + 90)
    until(lambda: asks6(stranger, 3) is None, "the stranger is told no address")
