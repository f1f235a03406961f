# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs straight on the real LAN, by macvtap: a Linux guest that reaches it, and what each backend is handed."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.host.network import kernel
from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground, Tree, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.namespaces import LIMITS, assert_limited, listen, why_no_namespace
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm, use
from ansible_collections.unkey.vmcp.tests.linux_guest import GuestUnavailable, cache_directory, linux_guest, with_script
from ansible_collections.unkey.vmcp.tests.netns import Namespace, namespaces, wire

DIRECT: Tree = {"name": "direct", "kind": "macvtap", "interface": "lan0"}
SCRIPT = """
/bin/busybox --install -s /bin
ip link set eth0 up
ip addr add 192.0.2.7/24 dev eth0
until ping -c 1 -W 1 192.0.2.1 > /dev/null; do sleep 1; done
echo "lan answers"
ip addr add 192.0.2.8/24 dev eth0
if ping -c 1 -W 2 -I 192.0.2.8 192.0.2.1 > /dev/null; then echo "spoofing works"; else echo "spoofing is refused"; fi
ip addr del 192.0.2.8/24 dev eth0
dd if=/dev/zero bs=64k 2> /dev/null | nc 192.0.2.1 5000 > /dev/null &
sleep 1
nc 192.0.2.1 5001 < /dev/null > /dev/null
"""


@dataclasses.dataclass
class Lan:
    host: Namespace
    outside: Namespace

    def links(self) -> set[str]:
        return {link["ifname"] for link in json.loads(self.host.run("ip", "-j", "link"))}


@pytest.fixture
def lan(ground: Playground) -> t.Iterator[Lan]:
    """The host's own interface on a LAN, on which it has no address, and another machine there."""
    lack = why_no_namespace("nft") or ("" if kernel.has("macvtap") else "this kernel has no macvtap")
    if lack:
        pytest.skip(lack)
    with namespaces("host", "lan") as (host, outside):
        wire(host, "lan0", outside, "eth0")
        outside.run("ip", "addr", "add", "192.0.2.1/24", "dev", "eth0")
        ground.prefix = host.prefix
        made = Lan(host, outside)
        try:
            ground.play([task("network", "vmcp_network", **DIRECT)]).ok("network")
            yield made
            assert not ground.remove_vms()
            assert made.links() == {"lo", "lan0"}, "nothing is left"
            ground.play([task("no network", "vmcp_network", name="direct", state="absent")]).ok("no network")
        finally:
            ground.kill_all()
            ground.prefix = ()


def said(console: pathlib.Path, words: str, since: int = 0, timeout_s: float = 240) -> int:
    """Where a guest said it, after C(since)."""
    deadline = time.monotonic() + timeout_s
    while (at := (console.read_text(errors="replace") if console.exists() else "").find(words, since)) < 0:
        assert time.monotonic() < deadline, console.read_text(errors="replace")[-2000:]
        time.sleep(0.2)
    return at


def test_a_linux_guest_is_on_the_lan(ground: Playground, lan: Lan, qemu: Vmm) -> None:
    try:
        guest = with_script(linux_guest(cache_directory()), SCRIPT, ground.top / "initrd-direct")
    except GuestUnavailable as exc:
        pytest.skip(str(exc))
    vm: Tree = {
        "name": "web",
        "backend": "qemu",
        "memory": "256M",
        "kernel": str(guest.kernel),
        "initrd": str(guest.initrd),
        "config": {"network": [{"id": "eth0", "network": "direct", "address": "192.0.2.7", "mac_address": "02:00:00:00:00:07", **LIMITS}]},
    }
    servers = listen(lan.outside, "192.0.2.1", 5000), listen(lan.outside, "192.0.2.1", 5001)
    results = ground.play(
        [
            task("check", check=True, state="running", **vm),
            task("boot", state="running", **vm),
            task("again", state="running", **vm),
            task("unheard", name="web", state="running", wait_for=["address"], wait_timeout=5),
            task("info", "vmcp_network_info"),
            task("used", "vmcp_network", name="direct", state="absent"),
        ]
    )
    (nic,) = results.ok("boot")["vm"]["nics"]
    assert results.ok("check")["vm"]["nics"] == [nic]
    assert (nic["network"], nic["addresses"], nic["mac_address"]) == ("direct", ["192.0.2.7"], "02:00:00:00:00:07")
    assert not results.ok("again")["changed"]
    assert "do not hear each other" in results.refused("unheard", "failed_precondition")["msg"]
    assert [member["vm"] for member in results.ok("info")["networks"][0]["members"]] == ["web"]
    assert "web" in results.refused("used", "failed_precondition")["msg"]
    assert {link for link in lan.links() if not link.startswith(("vq", "ifb"))} == {"lo", "lan0", nic["tap"]}
    said(ground.vm_file("web", "console.log"), "lan answers")
    said(ground.vm_file("web", "console.log"), "spoofing is refused")
    assert "02:00:00:00:00:07" in lan.outside.run("ip", "neigh", "show", "192.0.2.7")
    assert_limited(*servers)
    ground.play([task("end", name="web", state="shutdown", shutdown_timeout=0)]).ok("end")
    assert lan.links() == {"lo", "lan0"}


def test_cloud_hypervisor_is_handed_the_device(ground: Playground, lan: Lan, guest: t.Callable[..., str]) -> None:
    backend = use("cloudhypervisor", ground)
    if not backend.real:
        pytest.skip(f"a fake is handed nothing; Cloud Hypervisor was {backend.why}")
    limit = {"bandwidth": {"size": 1 << 20, "refill_ms": 100}}
    nics = [{"id": "eth0", "network": "direct", "rate_limit_rx": limit, "rate_limit_tx": limit}, {"id": "eth-1", "network": "direct"}]
    vm: Tree = {"name": "ch", "backend": "cloudhypervisor", "memory": "128M", "kernel": guest("halt"), "config": {"network": nics}, **backend.options}
    results = ground.play(
        [
            task("boot", state="running", **vm),
            task("again", state="running", **vm),
            task("restart", name="ch", state="restarted", shutdown_timeout=0),
            task("info", "vmcp_vm_info", name="ch"),
        ]
    )
    told = results.ok("boot")["vm"]["nics"]
    assert not results.ok("again")["changed"]
    assert results.ok("restart")["vm"]["nics"] == told
    assert lan.links() == {"lo", "lan0", *(nic["tap"] for nic in told)}
    (info,) = results.ok("info")["vms"]
    assert info["state"] == "running" and not info.get("drift")


def test_firecracker_says_which_backends_can(ground: Playground, lan: Lan, guest: t.Callable[..., str]) -> None:
    backend = use("firecracker", ground)
    vm: Tree = {"name": "fc", "backend": "firecracker", "memory": "128M", "kernel": guest("halt"), "networks": ["direct"], **backend.options}
    results = ground.play([task("refused", check=True, **vm)])
    (violation,) = results.refused("refused", "invalid_argument")["violations"]
    assert violation["field"] == "config.network[0].network"
    assert "Use Cloud Hypervisor or QEMU" in violation["message"]
