# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host, VMs and the world outside, each a namespace, with networks made by the runner as a task of Ansible's would make them.

A VM is a namespace on a veth: what a guest's kernel does is the same. Guests with a kernel of their own are in test_guests.py."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import time
import typing as t

from ansible_collections.unkey.vmcp.plugins.module_utils.call import Call
from ansible_collections.unkey.vmcp.plugins.module_utils.errors import VmcpError
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.networks import Member, NetworkStore, join
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.network import run_network
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.network_info import run_network_info
from ansible_collections.unkey.vmcp.tests.netns import Namespace, wire

OUTSIDE = "203.0.113.1"
HOST_OUTSIDE = "203.0.113.2"
# For what is to come about. What is not is looked at for a moment.
PATIENCE_S = 60.0
Tree = dict[str, t.Any]


@dataclasses.dataclass
class Vm:
    """C(member): as recorded."""

    name: str
    inside: Namespace
    member: Member

    @property
    def address(self) -> str:
        return self.member.addresses[0]

    def reaches(self, address: str, port: int, protocol: str = "tcp") -> bool:
        return reaches(self.inside, address, port, protocol)

    def is_kept_from(self, address: str, port: int, protocol: str = "tcp") -> bool:
        return is_kept_from(self.inside, address, port, protocol)

    def pings(self, address: str, source: str = "") -> bool:
        """Whether it is answered, be it late: a machine may be busy."""
        return self._is_answered(address, source, PATIENCE_S)

    def pings_in_vain(self, address: str, source: str = "") -> bool:
        return not self._is_answered(address, source, 1.5)

    def _is_answered(self, address: str, source: str, patience_s: float) -> bool:
        return self.inside.try_("python3", "-c", _PING, address, source, str(patience_s), timeout_s=patience_s + 60).returncode == 0


def reaches(inside: Namespace, address: str, port: int, protocol: str = "tcp") -> bool:
    """Whether a server there answers, be it late: a machine may be busy."""
    return _answers(inside, address, port, protocol, PATIENCE_S)


def is_kept_from(inside: Namespace, address: str, port: int, protocol: str = "tcp") -> bool:
    """Whether none of three attempts to reach a server comes through."""
    return not _answers(inside, address, port, protocol, 0)


def _answers(inside: Namespace, address: str, port: int, protocol: str, patience_s: float) -> bool:
    return inside.try_("python3", "-c", _ASK, protocol, address, str(port), str(patience_s), timeout_s=patience_s + 60).returncode == 0


# Three times: a first packet may be lost to a bridge or a neighbour that is just being made.
_ASK = """
import socket, sys, time
protocol, address, port, patience = sys.argv[1:]
kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
deadline = time.monotonic() + float(patience)
attempts = 0
while attempts < 3 or time.monotonic() < deadline:
    attempts += 1
    time.sleep(0.02)
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as s:
        s.settimeout(0.7)
        try:
            s.connect((address, int(port)))
            s.send(b"hello")
            if s.recv(64):
                sys.exit(0)
        except OSError:
            pass
sys.exit(1)
"""
_PING = """
import socket, struct, sys, time
address, source, patience = sys.argv[1:]
six = ":" in address
s = socket.socket(*((socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) if six else (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)))
if source:
    s.bind(socket.getaddrinfo(source, None, s.family)[0][4])
s.settimeout(0.1)
body = struct.pack("!BBHHH", 128 if six else 8, 0, 0, 4711, 1)
total = sum(struct.unpack("!4H", body))
body = body[:2] + struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + body[4:]
deadline = time.monotonic() + float(patience)
again = 0
try:
    while time.monotonic() < deadline:
        if time.monotonic() >= again:
            s.sendto(body, socket.getaddrinfo(address, None, s.family)[0][4])
            again = time.monotonic() + 0.4
        try:
            answer = s.recv(256)
        except TimeoutError:
            continue
        answer = answer if six else answer[20:]
        if answer[0] == (129 if six else 0) and answer[4:6] == body[4:6]:
            sys.exit(0)
except OSError:
    pass
sys.exit(1)
"""
# Answers each message with the address that it came from.
_SERVE = """
import socket, sys, threading
protocol, port = sys.argv[1], int(sys.argv[2])
kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
s = socket.socket(socket.AF_INET6, kind)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("::", port))
if protocol == "tcp":
    s.listen()
print("ready", flush=True)
while True:
    if protocol == "udp":
        text, who = s.recvfrom(64)
        s.sendto(who[0].encode(), who)
        continue
    c, who = s.accept()
    with c:
        c.settimeout(20)
        try:
            c.recv(64)
            c.send(who[0].encode())
        except OSError:
            pass
"""


def serve(inside: Namespace, port: int, protocol: str = "tcp") -> None:
    process = inside.start("python3", "-u", "-c", _SERVE, protocol, str(port))
    assert process.stdout and process.stdout.readline().strip() == "ready"


def resolve(inside: Namespace, name: str, server: str = "10.80.0.1") -> str:
    """Asks a name server for an IPv4 address, as a resolver does; "" where there is none."""
    return inside.run("python3", "-c", _RESOLVE, name, server).strip()


# Again when it is not heard, as a resolver does too.
_RESOLVE = """
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
question = b"".join(bytes([len(p)]) + p.encode() for p in sys.argv[1].split(".")) + b"\\0\\0\\1\\0\\1"
for attempt in range(15):
    s.sendto(struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + question, (sys.argv[2], 53))
    try:
        answer = s.recv(512)
    except TimeoutError:
        continue
    print(socket.inet_ntoa(answer[-4:]) if struct.unpack("!H", answer[6:8])[0] else "")
    break
else:
    sys.exit("nobody answers")
"""


class Ground:
    """C(host): with one way out, to C(outside)."""

    def __init__(self, top: pathlib.Path, host: Namespace, outside: Namespace) -> None:
        self.top, self.host, self.outside = top, host, outside
        self.layout = Layout(str(top / "s"), str(top / "r"))
        self.store = NetworkStore(self.layout)
        self.warnings: list[str] = []
        self.vms: list[Vm] = []
        wire(host, "wan0", outside, "eth0")
        host.run("ip", "addr", "add", f"{HOST_OUTSIDE}/24", "dev", "wan0")
        outside.run("ip", "addr", "add", f"{OUTSIDE}/24", "dev", "eth0")
        host.run("ip", "route", "add", "default", "via", OUTSIDE)

    def call(self, *, act: bool = True, function: t.Callable[[Call], t.Any] = run_network, **options: t.Any) -> t.Any:
        call = Call(
            options={"state_dir": self.layout.state_dir, "run_dir": self.layout.run_dir, **options},
            act=act,
            environ=dict(os.environ),
            uid=0,
            warn=self.warnings.append,
            require_libraries=lambda: None,
        )
        return self.host.call(function, call)

    def network(self, name: str = "apps", **options: t.Any) -> Tree:
        return dict(self.call(name=name, **options).result)

    def refused(self, name: str = "apps", **options: t.Any) -> VmcpError:
        try:
            result = self.network(name, **options)
        except VmcpError as exc:
            assert exc.msg.rstrip().endswith((".", "?", "')")), exc.msg
            return exc
        raise AssertionError(f"was not refused: {result}")

    def info(self, name: str = "apps") -> Tree:
        (found,) = self.call(function=run_network_info, names=[name]).result["networks"]
        return dict(found)

    def vm(self, name: str, network: str = "apps", *, address: str = "", **more: t.Any) -> Vm:
        """A VM that is on a network, its interface up and its addresses set."""
        mac = "02:" + ":".join(f"{octet:02x}" for octet in hashlib.sha256(f"{name}{network}".encode()).digest()[:5])
        tap = f"vmt{hashlib.sha256(f'{self.top}{name}{network}'.encode()).hexdigest()[:10]}"
        wished = Member(name, "eth0", tap, mac, (address,) if address else (), **more)
        (member,) = self.host.call(join, self.store, {network: [wished]}, time.monotonic() + 30)[network]
        made = Vm(name, Namespace(name[:8]), member)
        # From here on it is ended with the ground, whatever goes wrong with it.
        self.vms.append(made)
        inside = made.inside
        wire(self.host, tap, inside, "eth0")
        definition = self.store.get(network)
        self.host.run("ip", "link", "set", tap, "master", str(definition.bridge))
        inside.run("ip", "link", "set", "eth0", "address", mac)
        for one in member.addresses:
            inside.run("ip", "addr", "add", f"{one}/{definition.prefix_length(one) or 24}", "dev", "eth0", *(["nodad"] if ":" in one else []))
        for gateway in definition.gateways:
            inside.run("ip", *(["-6"] if ":" in gateway else []), "route", "add", "default", "via", gateway)
        return made

    def left_behind(self) -> Tree:
        """What there is on the host beside what it had at first."""
        return {
            "links": sorted(link["ifname"] for link in json.loads(self.host.run("ip", "-j", "link")) if link["ifname"] not in ("lo", "wan0")),
            "routes": [r["dst"] for r in json.loads(self.host.run("ip", "-j", "route")) if r["dev"] != "wan0"],
            "rules": [e for e in json.loads(self.host.run("nft", "-j", "list", "ruleset"))["nftables"] if "metainfo" not in e],
            "forwarding": self.host.run("sysctl", "-n", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding").split(),
            "processes": self.host.pids(),
            "files": sorted(str(path) for root in (self.top / "s", self.top / "r.networks") for path in root.glob("**/*") if path.name != "networks"),
        }

    def end(self) -> None:
        """The kernel takes the links of a namespace away some time after it is gone."""
        for vm in self.vms:
            vm.inside.remove()
        deadline = time.monotonic() + 90
        taps = {vm.member.tap for vm in self.vms}
        while taps & {link["ifname"] for link in json.loads(self.host.run("ip", "-j", "link"))}:
            assert time.monotonic() < deadline, "the links of VMs that are gone are still there"
            time.sleep(0.05)


NOTHING: Tree = {"links": [], "routes": [], "rules": [], "forwarding": ["0", "0"], "processes": [], "files": []}
