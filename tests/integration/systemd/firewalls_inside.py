# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a host made for it (test_firewalls.py): a network of ours, VMs on it and the world outside, beside a firewall that its own package brought.

The last line is JSON: what was seen, by when."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import tempfile
import typing as t

from ansible_collections.unkey.vmcp.tests.integration.network.ground import HOST_OUTSIDE, OUTSIDE, Ground, is_kept_from, reaches, resolve, serve
from ansible_collections.unkey.vmcp.tests.netns import Namespace
from ansible_collections.unkey.vmcp.tests.waiting import PATIENCE_S, until

APPS: dict[str, t.Any] = {"ipv4": "10.80.0.1/24", "nat": True, "dhcp": True, "forward": [{"host_port": 8080, "vm": "web", "vm_port": 80}]}
FABRIC: dict[str, t.Any] = {"kind": "vxlan", "vxlan": {"id": 90, "peers": [HOST_OUTSIDE, OUTSIDE]}, "ipv4": "10.90.0.0/24"}


class Here(Namespace):
    """The host's own network, which is where its firewall is."""

    def __init__(self) -> None:
        self.name = "the host's"
        self.started: list[subprocess.Popen[str]] = []

    @property
    def prefix(self) -> tuple[str, ...]:
        return ()

    def call(self, function: t.Callable[..., t.Any], *arguments: t.Any, **options: t.Any) -> t.Any:
        return function(*arguments, **options)

    def start(self, *words: str) -> subprocess.Popen[str]:
        self.started.append(super().start(*words))
        return self.started[-1]

    def remove(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()


def shell(text: str) -> str:
    return subprocess.run(["sh", "-ec", text], capture_output=True, text=True, timeout=120, check=True).stdout


def passes(ground: Ground) -> dict[str, bool]:
    """What gets through, looked at until all of it does: a firewall that is being made anew is not there at once."""
    web, other = ground.vms
    looks: dict[str, t.Callable[[], bool]] = {
        "out": lambda: web.reaches(OUTSIDE, 9000),
        "in by a published port": lambda: reaches(ground.outside, HOST_OUTSIDE, 8080),
        "names": lambda: _resolves(web.inside),
        "neighbour": lambda: web.pings(other.address),
    }
    seen = {what: eventually(look) for what, look in looks.items()}
    return {**seen, "what the host has not opened": not web.is_kept_from("10.80.0.1", 2222)}


def eventually(holds: t.Callable[[], bool], timeout_s: float = PATIENCE_S) -> bool:
    try:
        return bool(until(holds, "what is looked at", timeout_s))
    except AssertionError:
        return False


def _resolves(inside: Namespace) -> bool:
    try:
        return resolve(inside, "web.apps.internal") != ""
    except AssertionError:
        return False


def again(ground: Ground, name: str, **options: t.Any) -> t.Any:
    """What another task does, and says of firewalld."""
    ground.warnings.clear()
    return [ground.network(name, **options)["actions"], [warning for warning in ground.warnings if "firewalld" in warning]]


def ufw(ground: Ground) -> dict[str, t.Any]:
    seen: dict[str, t.Any] = {"policy": shell("ufw status verbose | sed -n 's/^Default: //p'").strip()}
    seen["made"] = ground.network(**APPS)["actions"]
    populate(ground)
    seen["at first"] = passes(ground)
    shell("ufw disable && ufw --force enable")
    again(ground, "apps", **APPS)
    seen["after it was off and on"] = passes(ground)
    seen["and then"] = again(ground, "apps", **APPS)
    return seen


def firewalld(ground: Ground) -> dict[str, t.Any]:
    seen: dict[str, t.Any] = {"policy": shell("firewall-cmd --get-default-zone").strip()}
    seen["made"] = ground.network(**APPS)["actions"]
    populate(ground)
    seen["out at first"] = not ground.vms[0].is_kept_from(OUTSIDE, 9000)
    shell(commands(ground))
    shell("systemctl restart firewalld")
    seen["after it was restarted"] = passes(ground)
    seen["and then"] = again(ground, "apps", **APPS)
    ground.network("fabric", **FABRIC)
    peer = Peer(ground)
    seen["a peer at first"] = peer.gets_in(0.0)
    seen["a peer needs"] = commands(ground)
    shell(commands(ground))
    seen["a peer after the commands"] = peer.gets_in(PATIENCE_S)
    seen["and then a vxlan"] = again(ground, "fabric", **FABRIC)
    return seen


class Peer:
    """Another host of the vxlan: its end of the tunnel, outside."""

    def __init__(self, ground: Ground) -> None:
        self.inside = ground.outside
        self.gateway = str(ground.info("fabric")["ipv4"]).partition("/")[0]
        words = f"link add vx90 type vxlan id 90 local {OUTSIDE} remote {HOST_OUTSIDE} dstport 4789"
        for line in (words, "addr add 10.90.0.200/24 dev vx90", "link set vx90 up"):
            self.inside.run("ip", *line.split())

    def gets_in(self, timeout_s: float) -> bool:
        """Whether the host hears who has its address, asked through the tunnel."""

        def answered() -> bool:
            self.inside.try_("ip", "neigh", "flush", "dev", "vx90")
            is_kept_from(self.inside, self.gateway, 9)
            found = json.loads(self.inside.run("ip", "-j", "neigh", "show", "dev", "vx90") or "[]")
            return any("lladdr" in entry for entry in found)

        return eventually(answered, timeout_s)


def commands(ground: Ground) -> str:
    """What the last warning about firewalld says to run."""
    warning = [warning for warning in ground.warnings if "firewalld" in warning][-1]
    return warning.partition("Run: ")[2].partition(". The host")[0]


def populate(ground: Ground) -> None:
    web = ground.vm("web")
    ground.vm("db")
    serve(web.inside, 80)


def main(which: str) -> None:
    top = pathlib.Path(tempfile.mkdtemp(prefix="n", dir="/tmp"))
    top.chmod(0o755)
    outside = Namespace("world")
    ground = Ground(top, Here(), outside)
    serve(outside, 9000)
    serve(ground.host, 2222)
    try:
        seen = {"ufw": ufw, "firewalld": firewalld}[which](ground)
    finally:
        for name in ("apps", "fabric"):
            ground.network(name, state="absent", force=True)
        for vm in ground.vms:
            vm.inside.remove()
        outside.remove()
        ground.host.remove()
    eventually(lambda: "vn-" not in shell("ip link show"))
    seen["left"] = shell("nft list ruleset | grep -F vmcp- || true; ip -o link show | grep -F vn- || true")
    print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1])
