# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What leaves a macvtap device: frames are sent on it as its guest would, and looked at on the LAN."""

from __future__ import annotations

import ipaddress
import os
import struct

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.host.launch_guard import guard_rules
from ansible_collections.unkey.vmcp.plugins.module_utils.host.launch_taps import REMOVE_TAPS, TAPS
from ansible_collections.unkey.vmcp.plugins.module_utils.host.network import kernel
from ansible_collections.unkey.vmcp.tests.netns import namespaces, wire

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for namespaces of its own")

MAC, FOUR, SIX = "02:00:00:00:00:07", "192.0.2.7", "fd00::7"
OWN, OTHER = bytes.fromhex("020000000007"), bytes.fromhex("020000000008")


def frame(kind: int, body: bytes, source: bytes = OWN) -> bytes:
    return b"\xff" * 6 + source + kind.to_bytes(2, "big") + body


def arp(address: str, sender: bytes = OWN) -> bytes:
    return frame(0x806, bytes.fromhex("0001080006040001") + sender + ipaddress.ip_address(address).packed + bytes(6) + bytes([192, 0, 2, 1]))


def udp(source: str, port: int = 4000, target: int = 4000) -> bytes:
    body = struct.pack("!4H", port, target, 12, 0) + bytes(4)
    own = ipaddress.ip_address(source)
    if own.version == 6:
        return frame(0x86DD, struct.pack("!IHBB", 6 << 28, len(body), 17, 64) + own.packed + ipaddress.ip_address("ff02::1").packed + body)
    return frame(0x800, struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 0, 0, 64, 17, 0, own.packed, b"\xff" * 4) + body)


def icmp6(source: str, kind: int, target: str) -> bytes:
    body = struct.pack("!BBHI", kind, 0, 0, 0) + ipaddress.ip_address(target).packed
    return frame(
        0x86DD, struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + ipaddress.ip_address(source).packed + ipaddress.ip_address("ff02::1").packed + body
    )


PASSES = {
    "its ARP": arp(FOUR),
    "a probe": arp("0.0.0.0"),
    "its IPv4": udp(FOUR),
    "a guest that asks for an address": udp("0.0.0.0", 68, 67),
    "its IPv6": udp(SIX),
    "a link-local address": udp("fe80::1234"),
    "that it has its own": icmp6("fe80::1234", 136, SIX),
    "that it has a link-local address": icmp6("fe80::1234", 136, "fe80::1234"),
}
DROPPED = {
    "another's MAC address": frame(0x806, arp(FOUR)[14:], OTHER),
    "ARP that says another's": arp(FOUR, OTHER),
    "ARP for another": arp("192.0.2.8"),
    "another's IPv4": udp("192.0.2.8"),
    "another's IPv6": udp("fd00::8"),
    "that it has another's": icmp6("fe80::1234", 136, "fd00::8"),
    "a router": icmp6("fe80::1234", 134, "fd00::8"),
    "a DHCP server": udp(FOUR, 67, 68),
    "a DHCPv6 server": udp(SIX, 547, 546),
    "neither": frame(0x8847, bytes(50)),
}
# Who sends what is dropped is told that there is no room.
_SEND = """
import contextlib, socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((sys.argv[1], 0))
for text in sys.argv[2:]:
    with contextlib.suppress(OSError):
        s.send(bytes.fromhex(text))
"""
# Tells each frame until one comes that is the last.
_HEAR = """
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind(("eth0", 0))
print("ready", flush=True)
while True:
    frame, where = s.recvfrom(2048)
    if where[2] != 4:
        print(frame.hex(), flush=True)
    if frame.endswith(b"the last"):
        break
"""


def test_a_guest_sends_from_its_own_addresses_alone() -> None:
    if not kernel.has("macvtap"):
        pytest.skip("this kernel has no macvtap")
    if tuple(int(part) for part in os.uname().release.split(".")[:2]) < (5, 16):
        pytest.skip("rules for what leaves a device came with Linux 5.16")
    with namespaces("host", "lan") as (host, lan):
        wire(host, "lan0", lan, "eth0")
        launch = f"""
set -eu
run=$1 uid=0
fail() {{ echo "$1"; exit 1; }}
{TAPS}
{REMOVE_TAPS}
macvtap vm7 lan0 bridge {MAC} '' 3
guard vm7 '{guard_rules(MAC, [FOUR, SIX])}'
"""
        made = host.try_("sh", "-c", f"run=$(mktemp -d); set -- $run; {launch} make_taps; echo $run")
        assert made.returncode == 0, made.stderr
        directory = made.stdout.strip()
        hearing = lan.start("python3", "-u", "-c", _HEAR)
        assert hearing.stdout and hearing.stdout.readline().strip() == "ready"
        last = frame(0x806, arp(FOUR)[14:] + b"the last")
        host.run("python3", "-c", _SEND, "vm7", *(sent.hex() for sent in [*DROPPED.values(), *PASSES.values(), last]))
        heard = set()
        while not (line := hearing.stdout.readline().strip()).endswith(b"the last".hex()):
            heard.add(line)
        assert {what for what, sent in {**DROPPED, **PASSES}.items() if sent.hex() in heard} == set(PASSES)
        host.run("sh", "-c", f"set -- {directory}; {launch} remove_taps; rmdir {directory}")
        assert "vm7" not in host.run("nft", "list", "ruleset") + host.run("ip", "-br", "link")
