# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in a Linux guest whose kernel has VLANs, as in a host: what a network makes by netlink and what it makes when the host boots, and what passes through.

Argument: the path of a shell, or C(load) to import all that is needed and tell which files that were. What is found is said as lines of JSON."""

from __future__ import annotations

import json
import pathlib
import socket
import subprocess
import sys
import typing as t

from ansible_collections.unkey.vmcp.plugins.module_utils.host.launch_taps import TAPS
from ansible_collections.unkey.vmcp.plugins.module_utils.host.network import netlink
from ansible_collections.unkey.vmcp.plugins.module_utils.model.network_definition import NetworkDefinition
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.network_links import batch, boot_script, differences, wanted_links

UPLINK = NetworkDefinition(
    "lan", "uplink", {"interface": "lan0", "vlan": 42}, {"bridge": "vn-lan", "device": "vl-lan", "mac": "02:00:00:00:00:42", "mtu": 1500}
)
DIRECT = NetworkDefinition("direct", "macvtap", {"interface": "lan0", "vlan": 43}, {"device": "vl-direct"})
# As in a launch file: run and uid are its, fail ends it.
TAP = f"""
set -eu
run=/tmp uid=0
fail() {{ echo "$1"; exit 1; }}
{TAPS}
tap vm7 br0 1500 7 vnet_hdr
make_taps
"""


def ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def answers(address: str, name: str) -> bool:
    """Whether somebody on a bridge's network has an address: a machine whose own end is there asks for it."""
    return subprocess.run(["/bin/busybox", "ping", "-c", "1", "-W", "20", "-I", name, address], capture_output=True, check=False).returncode == 0


def lan() -> None:
    """A card, and at the other end of its cable, in a namespace of its own, a machine that speaks in VLAN 42 alone."""
    ip("link", "add", "lan0", "type", "veth", "peer", "name", "far")
    pathlib.Path("/run/netns").mkdir(parents=True, exist_ok=True)
    ip("netns", "add", "far")
    ip("link", "set", "far", "netns", "far")
    ip("link", "set", "lan0", "up")
    for words in ("link set far up", "link add link far name far.42 type vlan id 42", "addr add 198.51.100.1/24 dev far.42", "link set far.42 up"):
        ip("-n", "far", *words.split())


def tells(what: str, definition: NetworkDefinition) -> None:
    """What differs from the definition, and how the kernel describes the VLAN device."""
    found = differences(wanted_links(definition), netlink.observe())
    (device,) = json.loads(ip("-j", "-d", "link", "show", "dev", str(definition.generated["device"])))
    data = device["linkinfo"]["info_data"]
    say(what, differs=found, kind=device["linkinfo"]["info_kind"], id=data["id"], on=device.get("link"), master=device.get("master"))


def say(what: str, **more: t.Any) -> None:
    print(f"said {json.dumps({'what': what, **more})}", flush=True)


def main() -> None:
    if sys.argv[1:] == ["load"]:
        netlink.observe()
        socket.getaddrinfo("127.0.0.1", 0)
        files = {module.__file__ for module in sys.modules.values() if getattr(module, "__file__", None)}
        print(json.dumps(sorted(file for file in files if file)))
        return
    (shell,) = sys.argv[1:]
    lan()
    netlink.ensure(wanted_links(UPLINK))
    tells("by netlink", UPLINK)
    # The host has no address there: one for a moment, as a VM on the bridge would have.
    ip("addr", "add", "198.51.100.7/24", "dev", "vn-lan")
    say("heard", vlan=answers("198.51.100.1", "vn-lan"))
    ip("addr", "del", "198.51.100.7/24", "dev", "vn-lan")
    netlink.remove(wanted_links(UPLINK))
    say("removed", links=sorted(netlink.observe().links))

    directory = pathlib.Path("/tmp/lan")
    directory.mkdir()
    (directory / "links").write_text(batch(wanted_links(UPLINK)))
    (directory / "up").write_text(boot_script(UPLINK, str(directory), {}, False, ""))
    for _again in range(2):
        subprocess.run([shell, str(directory / "up")], check=True)
    tells("at boot", UPLINK)
    netlink.ensure(wanted_links(DIRECT))
    tells("beneath macvtap", DIRECT)
    netlink.remove(wanted_links(DIRECT))

    ip("link", "add", "br0", "type", "bridge", "vlan_filtering", "1")
    subprocess.run([shell, "-c", TAP], check=True)
    (port,) = json.loads(subprocess.run(["bridge", "-j", "vlan", "show", "dev", "vm7"], capture_output=True, text=True, check=True).stdout)
    say("tap", vlans=port["vlans"])
    ip("link", "set", "br0", "type", "bridge", "vlan_filtering", "0")
    refused = subprocess.run([shell, "-c", TAP], capture_output=True, text=True, check=False)
    say("unfiltered", code=refused.returncode, text=refused.stdout.strip())


if __name__ == "__main__":
    main()
