# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks on a host with systemd: there again after a reboot, without anybody's doing, and gone when they are removed."""

from __future__ import annotations

import json
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.guests import pvh_guest
from ansible_collections.unkey.vmcp.tests.hosts.nspawn import Host, HostUnavailable, systemd_host
from ansible_collections.unkey.vmcp.tests.integration.systemd.on_host import GREETING, PACKAGES, backends, task
from ansible_collections.unkey.vmcp.tests.waiting import until

APPS: dict[str, t.Any] = {"name": "apps", "ipv4": "10.80.0.1/24", "ipv6": "fd00:80::1/64", "nat": True, "dhcp": True}
UNITS = ["vmcp-network@apps.service", "vmcp-dns@apps.service"]


@pytest.fixture(scope="module")
def bare() -> t.Iterator[Host]:
    try:
        with systemd_host(packages=PACKAGES) as made:
            yield made
    except HostUnavailable as exc:
        pytest.skip(str(exc))


def active(host: Host) -> list[str]:
    return host.run(["systemctl", "is-active", *UNITS], check=False).stdout.split()


def pid(host: Host) -> str:
    return host.run(["systemctl", "show", "--property=MainPID", "--value", UNITS[1]]).stdout.strip()


def test_it_is_there_again_after_a_reboot_and_a_task_finds_nothing_to_do(bare: Host) -> None:
    made = task(bare, "vmcp_network", **APPS)
    assert made["actions"] == ["define", "forwarding", "links", "rules", "dns", "enable"]
    assert (made["network"]["up"], made["network"]["dns"]) == (True, "running")
    assert active(bare) == ["active", "active"]
    again = task(bare, "vmcp_network", **APPS)
    assert (again["changed"], again["actions"]) == (False, [])
    rules = bare.run(["nft", "list", "ruleset"]).stdout
    bare.reboot()
    until(lambda: active(bare) == ["active", "active"], "both are there again")
    assert bare.run(["nft", "list", "ruleset"]).stdout == rules
    assert bare.run(["sysctl", "-n", "net.ipv4.ip_forward"]).stdout.strip() == "1"
    addresses = json.loads(bare.run(["ip", "-j", "addr", "show", "dev", "vn-apps"]).stdout)[0]["addr_info"]
    assert {"10.80.0.1", "fd00:80::1"} <= {address["local"] for address in addresses}
    after = task(bare, "vmcp_network", **APPS)
    assert (after["changed"], after["actions"]) == (False, [])
    assert task(bare, "vmcp_network_info")["networks"][0]["dns"] == "running"


def test_vms_are_on_their_network_again_after_a_reboot(bare: Host) -> None:
    """Nobody's doing again: taps, who may send what, leases and names are there, and were before the VM was."""
    # The same launch file's doing on each.
    backend = backends()[-1]
    task(bare, "vmcp_network", **APPS)
    kernel = bare.root / "opt/kernels/polite"
    kernel.parent.mkdir(parents=True, exist_ok=True)
    kernel.write_bytes(pvh_guest(GREETING, "polite"))
    vm: dict[str, t.Any] = {"name": "web", "backend": backend, "kernel": "/opt/kernels/polite", "memory": "128M", "networks": ["apps"], "autostart": True}
    made = task(bare, "vmcp_vm", **vm, state="running", wait_for=["running"])
    (nic,) = made["vm"]["nics"]
    assert nic["address_method"] == "dhcp"
    bare.reboot()
    deadline = time.monotonic() + 300
    while (now := task(bare, "vmcp_vm_info", names=["web"])["vms"][0])["state"] != "running":
        assert time.monotonic() < deadline, now
        time.sleep(0.5)
    assert now["nics"] == [nic]
    ports = [link["ifname"] for link in json.loads(bare.run(["ip", "-j", "link", "show", "master", "vn-apps"]).stdout) if link]
    assert ports == [nic["tap"]]
    assert f'"{nic["tap"]}"' in bare.run(["nft", "list", "ruleset"]).stdout, "it may send from its own address"
    address = nic["addresses"][0]
    told = bare.run(["sh", "-c", "cat /var/lib/vmcp/networks/apps/dns/*"]).stdout
    assert address in told and nic["mac_address"] in told
    started = "systemctl show --property=ActiveEnterTimestampMonotonic --value"
    network, unit = (int(bare.run(["sh", "-c", f"{started} {name}"]).stdout) for name in (UNITS[0], "vmcp-vm@web.service"))
    assert network < unit, "the network is there first"
    again = task(bare, "vmcp_vm", **vm, state="running", wait_for=["running"])
    assert (again["changed"], again["actions"]) == (False, [])
    after = task(bare, "vmcp_network", **APPS)
    assert (after["changed"], after["actions"]) == (False, [])
    task(bare, "vmcp_vm", name="web", state="absent")
    assert task(bare, "vmcp_network_info")["networks"][0]["members"] == []
    assert bare.run(["ip", "-j", "link", "show", "master", "vn-apps"]).stdout.strip() in ("[]", "")


def test_a_dead_dnsmasq_is_started_by_its_unit(bare: Host) -> None:
    task(bare, "vmcp_network", **APPS)
    before = pid(bare)
    bare.run(["kill", "-KILL", before])
    deadline = time.monotonic() + 300
    while pid(bare) in ("0", before) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert pid(bare) not in ("0", before)


def test_what_somebody_stopped_is_started_and_a_change_reaches_dnsmasq(bare: Host) -> None:
    task(bare, "vmcp_network", **APPS)
    bare.run(["systemctl", "stop", UNITS[1]])
    assert "dns" in task(bare, "vmcp_network", **APPS)["actions"]
    assert active(bare) == ["active", "active"]
    before = pid(bare)
    assert "dns" in task(bare, "vmcp_network", name="apps", domain="other.internal")["actions"]
    assert pid(bare) != before
    off = task(bare, "vmcp_network", name="apps", dhcp=False)
    assert "dns" in off["actions"]
    assert active(bare) == ["active", "inactive"]
    assert not task(bare, "vmcp_network", name="apps", dhcp=False)["changed"]


def test_rules_are_there_again_after_the_hosts_own_firewall_has_emptied_all_tables(bare: Host) -> None:
    task(bare, "vmcp_network", **APPS)
    bare.run(["systemctl", "start", "nftables"])
    before = pid(bare)
    bare.run(["systemctl", "restart", "nftables"])
    # Our units are restarted after it, and systemctl waits for what it was asked alone.
    deadline = time.monotonic() + 300
    while (pid(bare) in ("0", before) or active(bare) != ["active", "active"]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert "chain out-apps" in bare.run(["nft", "list", "ruleset"]).stdout
    assert pid(bare) not in ("0", before), "dnsmasq too, since its unit needs the other"
    assert not task(bare, "vmcp_network", **APPS)["changed"]


def test_a_removal_leaves_nothing(bare: Host) -> None:
    task(bare, "vmcp_network", **APPS)
    assert task(bare, "vmcp_network", name="apps", state="absent")["actions"] == ["remove"]
    assert active(bare) == ["inactive", "inactive"]
    assert "vmcp" not in bare.run(["nft", "list", "ruleset"]).stdout
    assert bare.run(["sysctl", "-n", "net.ipv4.ip_forward"]).stdout.strip() == "0"
    assert "vn-apps" not in bare.run(["ip", "link"]).stdout
    assert bare.run(["sh", "-c", "ls -A /var/lib/vmcp/networks /run/vmcp.networks /etc/systemd/system/vmcp-networks.target.wants"]).stdout.split() == [
        "/etc/systemd/system/vmcp-networks.target.wants:",
        "/run/vmcp.networks:",
        "/var/lib/vmcp/networks:",
    ]
    assert bare.run(["sh", "-c", "pgrep dnsmasq || echo none"]).stdout.strip() == "none"
