# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Linux guests on networks of ours, in a namespace that stands for the host: they have their addresses by each method, names, a way out, and a policy."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import socket
import threading
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground, Tree, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.namespaces import listen, why_no_namespace
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm, use
from ansible_collections.unkey.vmcp.tests.linux_guest import GuestUnavailable, LinuxGuest, cache_directory, linux_guest, with_script
from ansible_collections.unkey.vmcp.tests.netns import Namespace, lead_out, namespaces

# The address by DHCP, or by the kernel's ip=, which in Debian's kernel is for its initramfs to read. Then round after round of what can be reached.
SCRIPT = r"""
/bin/busybox mkdir -p /etc /www /usr/bin /usr/sbin /sbin
/bin/busybox --install -s /bin
echo "www @NAME@" > /www/index.html
ip link set lo up
ip link set eth0 up
cat > /learn << 'END'
#!/bin/sh
case $1 in bound|renew)
    ip addr replace "$ip/$mask" dev eth0
    [ -z "$router" ] || ip route replace default via "${router%% *}"
    : > /etc/resolv.conf
    for server in $dns; do echo "nameserver $server" >> /etc/resolv.conf; done
    echo "dhcp ip=$ip router=$router dns=$dns domain=$domain"
esac
END
chmod 755 /learn
case $(cat /proc/cmdline) in
    *ip=*)
        word=$(sed -n 's/.*\bip=\([^ ]*\).*/\1/p' /proc/cmdline)
        IFS=: read -r own peer router mask host device auto dns rest << END
$word
END
        ip addr add "$own/$mask" dev eth0
        ip route replace default via "$router"
        echo "nameserver $dns" > /etc/resolv.conf
        echo "kernel ip=$own router=$router mask=$mask dns=$dns host=$host auto=$auto" ;;
    *) udhcpc -i eth0 -n -q -t 30 -T 1 -s /learn ;;
esac
router=$(ip route | sed -n 's/^default via \([^ ]*\).*/\1/p')
# A second interface, by what the seed disk says of it: its files lie there as they are, and cloud-init would read the same.
if [ -e /sys/class/net/eth1 ]; then
    mac=$(cat /sys/class/net/eth1/address)
    own=$(cat /dev/vd* | tr -cd 'a-zA-Z0-9:{},./[' | grep -o "macaddress:$mac},addresses:\[[0-9.]*/[0-9]*" | head -n 1)
    ip link set eth1 up
    # Without its network, which is eth0's already.
    ip addr add "$(echo "$own" | sed 's/.*\[\([0-9.]*\).*/\1/')/32" dev eth1
    echo "seed mac=$mac ${own##*\[}"
fi
httpd -p 80 -h /www
ask() {
    what=$1; shift
    if "$@" > /dev/null 2>&1; then said="$said $what=yes"; else said="$said $what=no"; fi
}
as_host() { echo | nc -w 2 192.0.2.2 7000 | grep -q "^192.0.2.1$"; }
spoofed() {
    ip addr add 10.80.0.99/24 dev eth0
    ping -c 1 -W 1 -I 10.80.0.99 "$router"; code=$?
    ip addr del 10.80.0.99/24 dev eth0
    return "$code"
}
round=0
while :; do
    round=$((round + 1)) said=''
    ask gateway ping -c 1 -W 1 "$router"
    ask name nslookup -type=a "@PEER@.apps.internal"
    ask neighbour ping -c 1 -W 1 "$(nslookup -type=a @PEER@.apps.internal | sed -n 's/^Address: *\([0-9.]*\)$/\1/p' | tail -n 1)"
    ask out as_host
    ask refused nc -w 2 192.0.2.2 7001
    ask spoofed spoofed
    echo "round $round$said"
    sleep 1
done
"""

APPS: Tree = {
    "name": "apps",
    "ipv4": "10.80.0.1/24",
    "nat": True,
    "dhcp": True,
    "egress": {"default": "deny", "allow": [{"cidr": "192.0.2.2/32", "ports": [7000], "protocol": "tcp"}]},
    "forward": [{"host_port": 8080, "vm": "web", "vm_port": 80}],
}


@dataclasses.dataclass
class Lan:
    """C(host): where Ansible and the VMs are; C(outside): where servers are that know nothing of the VMs' addresses."""

    host: Namespace
    outside: Namespace
    ground: Playground

    def rounds(self, vm: str) -> list[str]:
        return re.findall(r"^round [0-9]+(.*?)\r?\n", self.ground.vm_file(vm, "console.log").read_text(errors="replace"), re.MULTILINE)

    def comes_to(self, vm: str, wanted: dict[str, str]) -> None:
        """In rounds that begin after now the guest can do at no time what it is not to, and in one of them, however slow it is, all that it is to."""
        looked_at = len(self.rounds(vm)) + 1
        deadline = time.monotonic() + 400
        while True:
            rounds = self.rounds(vm)
            for said in rounds[looked_at:]:
                could = dict(word.split("=") for word in said.split())
                assert not [what for what, yes_or_no in wanted.items() if yes_or_no == "no" and could[what] == "yes"], could
                if could == wanted:
                    return
            looked_at = max(looked_at, len(rounds))
            assert time.monotonic() < deadline, self.ground.vm_file(vm, "console.log").read_text(errors="replace")[-3000:]
            time.sleep(0.2)


@pytest.fixture
def lan(ground: Playground) -> t.Iterator[Lan]:
    lack = why_no_namespace("nft", "dnsmasq")
    if lack:
        pytest.skip(lack)
    with namespaces("host", "out") as (host, outside):
        lead_out(host, "up0", outside, "up0")
        outside.run("ip", "addr", "add", "192.0.2.2/24", "dev", "up0")
        ground.prefix = host.prefix
        try:
            yield Lan(host, outside, ground)
            # The network goes last: it is refused to go before its VMs.
            assert not ground.remove_vms()
            ground.play([task("no network", "vmcp_network", name="apps", state="absent")]).ok("no network")
            assert not ground.remove_all()
            assert {line.split()[0].partition("@")[0] for line in host.run("ip", "-br", "link").splitlines()} == {"lo", "up0"}
        finally:
            ground.kill_all()
            ground.prefix = ()


@pytest.fixture
def linux(ground: Playground) -> t.Callable[[str, str], LinuxGuest]:
    def make(name: str, peer: str) -> LinuxGuest:
        try:
            guest = linux_guest(cache_directory())
        except GuestUnavailable as exc:
            pytest.skip(str(exc))
        return with_script(guest, SCRIPT.replace("@NAME@", name).replace("@PEER@", peer), ground.top / f"initrd-{name}")

    return make


class Outside:
    """Servers beyond the host: one that tells each who it is, and one that nobody may reach."""

    def __init__(self, namespace: Namespace) -> None:
        self._servers = [listen(namespace, "192.0.2.2", port) for port in (7000, 7001)]
        self.reached_what_is_refused = False
        for server in self._servers:
            threading.Thread(target=self._serve, args=(server,), daemon=True).start()

    def _serve(self, server: socket.socket) -> None:
        while True:
            try:
                stream, peer = server.accept()
            except OSError:
                return
            with stream:
                self.reached_what_is_refused |= server is self._servers[1]
                stream.sendall(f"{peer[0]}\n".encode())

    def close(self) -> None:
        for server in self._servers:
            server.close()


def vm_on_apps(guest: LinuxGuest, **nic: t.Any) -> Tree:
    return {
        "backend": "qemu",
        "memory": "256M",
        "kernel": str(guest.kernel),
        "initrd": str(guest.initrd),
        "config": {"network": [{"id": "eth0", "network": "apps", **nic}]},
    }


def test_guests_have_addresses_names_a_way_out_and_a_policy(ground: Playground, lan: Lan, qemu: Vmm, linux: t.Callable[[str, str], LinuxGuest]) -> None:
    web = {"name": "web", "state": "running", "wait_for": ["address"], "wait_timeout": 600, **vm_on_apps(linux("web", "db"))}
    db = {"name": "db", "state": "running", **vm_on_apps(linux("db", "web"), address="10.80.0.50", address_method="kernel")}
    db["cloud_init"] = {"datasource": "nocloud", "hostname": "db"}
    db["config"] = {"network": [*db["config"]["network"], {"id": "eth1", "network": "apps", "address": "10.80.0.60", "address_method": "cloud_init"}]}
    outside = Outside(lan.outside)
    results = ground.play(
        [
            task("no network yet, check", check=True, **web),
            task("no network yet", **web),
            task("network", "vmcp_network", **APPS),
            task("check", check=True, **web),
            task("db", **db),
            task("web", **web),
            task("again", **web),
            task("db again", **db),
            task("db answers", name="db", state="running", wait_for=[{"address": "eth0"}, {"address": "eth1"}], wait_timeout=600),
            task("taken", name="third", **{**vm_on_apps(linux("web", "db"), address="10.80.0.50")}),
            task("out of range", name="third", check=True, **{**vm_on_apps(linux("web", "db"), address="10.81.0.50")}),
            task("no such network", name="third", **{**vm_on_apps(linux("web", "db")), "config": {"network": [{"network": "app"}]}}),
            task("network in use", "vmcp_network", name="apps", state="absent"),
            task("info", "vmcp_vm_info"),
            task("network info", "vmcp_network_info"),
        ]
    )
    assert [lack["field"] for lack in results.ok("no network yet, check")["would_need"]] == ["config.network[0].network"]
    assert "Make it with unkey.vmcp.vmcp_network" in results.refused("no network yet", "failed_precondition")["msg"]
    results.ok("network")
    foreseen, booted = results.ok("check")["vm"]["nics"], results.ok("web")["vm"]["nics"]
    (nic,) = booted
    assert foreseen == booted, "a check tells the addresses"
    assert nic["addresses"][0].startswith("10.80.0.") and nic["address_method"] == "dhcp" and nic["name"] == "web.apps.internal"
    assert results["web"]["waited"][0]["condition"] == "address" and results["web"]["waited"][0]["seconds"] > 0.5, "not before the guest answered"
    assert not results.ok("again")["changed"] and not results.ok("db again")["changed"]
    assert results.ok("db")["vm"]["nics"][0]["addresses"] == ["10.80.0.50"] and results["db"]["vm"]["nics"][0]["address_method"] == "kernel"
    results.ok("db answers")
    assert "belongs to interface eth0 of VM db" in results.refused("taken", "invalid_argument")["violations"][0]["message"]
    assert "is not in 10.80.0.0/24" in results.refused("out of range", "invalid_argument")["violations"][0]["message"]
    assert "Did you mean apps?" in results.refused("no such network", "failed_precondition")["msg"]
    assert results["network in use"].failed and "web" in results["network in use"]["msg"]
    assert {vm["name"]: vm["nics"][0]["addresses"] for vm in results.ok("info")["vms"]} == {"db": ["10.80.0.50"], "web": nic["addresses"]}
    assert {member["vm"] for member in results.ok("network info")["networks"][0]["members"]} == {"db", "web"}

    # --- what the guests themselves see ---
    wanted = {"gateway": "yes", "name": "yes", "neighbour": "yes", "out": "yes", "refused": "no", "spoofed": "no"}
    lan.comes_to("web", wanted)
    lan.comes_to("db", wanted)
    assert not outside.reached_what_is_refused
    console = ground.vm_file("web", "console.log").read_text(errors="replace")
    assert f"dhcp ip={nic['addresses'][0]} router=10.80.0.1 dns=10.80.0.1 domain=apps.internal" in console
    told = ground.vm_file("db", "console.log").read_text(errors="replace")
    assert "kernel ip=10.80.0.50 router=10.80.0.1 mask=255.255.255.0 dns=10.80.0.1 host=db auto=off" in told
    assert f"seed mac={results['db']['vm']['nics'][1]['mac_address']} 10.80.0.60/24" in told
    assert lan.outside.call(_get, "192.0.2.1", 8080).endswith("www web\n"), "a forwarded port"

    # --- isolation is live, and a VM that goes gives back all that it had ---
    results = ground.play([task("isolate", "vmcp_network", name="apps", isolate=True)])
    results.ok("isolate")
    lan.comes_to("web", {**wanted, "neighbour": "no"})
    results = ground.play(
        [
            task("restart", name="web", state="restarted", shutdown_timeout=0, wait_for=["address"], wait_timeout=600),
            task("remove", name="web", state="absent"),
            task("anew", check=True, **web),
            task("network info", "vmcp_network_info"),
        ]
    )
    assert results.ok("restart")["vm"]["nics"] == booted, "chosen once"
    results.ok("remove")
    assert results.ok("anew")["vm"]["nics"] == booted, "and derived from the names, so the same again while it is free"
    assert {member["vm"] for member in results.ok("network info")["networks"][0]["members"]} == {"db"}
    outside.close()


def _get(host: str, port: int) -> str:
    with socket.create_connection((host, port), timeout=90) as stream:
        stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: stream.recv(4096), b"")).decode()


@pytest.mark.parametrize("backend_name", ["firecracker", "cloudhypervisor"])
def test_taps_of_the_other_backends(ground: Playground, lan: Lan, backend_name: str, guest: t.Callable[..., str]) -> None:
    """A guest without Linux does not speak; what is told to it can be read."""
    backend = use(backend_name, ground)
    given: Tree = {"name": "other", "backend": backend_name, "memory": "128M", "kernel": guest("halt"), "networks": ["apps"], **backend.options}
    metadata: Tree = {"config": {"network": [{"id": "net0", "network": "apps", "address_method": "mmds"}]}, "networks": None}
    results = ground.play(
        [
            task("network", "vmcp_network", **APPS),
            task("boot", state="running", **given),
            task("again", state="running", **given),
            *([task("by metadata", allow_disruption="restart", shutdown_timeout=0, **{**given, **metadata})] if backend_name == "firecracker" else []),
            {"name": "links", "ansible.builtin.command": "ip -json link show type bridge_slave"},
            task("moved", "vmcp_network", name="apps", ipv4="10.80.0.254/24", allow_disruption="restart"),
            task("as it was", "vmcp_vm_info", name="other"),
            task("from now on", name="other", state="restarted", shutdown_timeout=0),
            task("and again", state="running", **{**given, **(metadata if backend_name == "firecracker" else {})}),
            task("no more", name="other", config={"network": []}, allow_disruption="restart", shutdown_timeout=0),
            task("network info", "vmcp_network_info"),
        ]
    )
    (nic,) = results.ok("boot")["vm"]["nics"]
    assert nic["network"] == "apps" and nic["address_method"] == "dhcp"
    assert not results.ok("again")["changed"]
    if backend.real:
        assert [link["ifname"] for link in json.loads(results.ok("links")["stdout"]) if link] == [nic["tap"]]
    if backend_name == "firecracker":
        told = results.ok("by metadata")["vm"]["nics"][0]
        assert (told["addresses"], told["address_method"]) == (nic["addresses"], "mmds")
    assert results.ok("as it was")["vms"][0]["nics"][0]["gateways"] == ["10.80.0.1"]
    (moved,) = results.ok("from now on")["vm"]["nics"]
    assert (moved["gateways"], moved["addresses"]) == (["10.80.0.254"], nic["addresses"])
    assert not results.ok("and again")["changed"]
    if backend_name == "firecracker":
        assert '"10.80.0.254"' in ground.vm_file("other", "metadata.json").read_text()
    assert results.ok("no more")["vm"]["nics"] == []
    assert results.ok("network info")["networks"][0]["members"] == []


def test_many_vms_join_at_once(ground: Playground, lan: Lan, guest: t.Callable[..., str]) -> None:
    """Two hundred in one task, and in two tasks beside each other: no address is given twice."""
    backend = use("firecracker", ground)
    common: Tree = {"backend": "firecracker", "memory": "128M", "kernel": guest("halt"), "networks": ["apps"], **backend.options}
    first: Tree = {"defaults": common, "vms": [{"name": "a-{index:03d}", "count": 100}]}
    second: Tree = {"defaults": common, "vms": [{"name": "b-{index:03d}", "count": 100}]}
    ground.play([task("network", "vmcp_network", **APPS)]).ok("network")
    beside: list[t.Any] = []
    thread = threading.Thread(target=lambda: beside.append(ground.ad_hoc("vmcp_vms", **second)))
    thread.start()
    time.sleep(0.5)
    ours = ground.ad_hoc("vmcp_vms", **first)
    thread.join()
    assert not ours.failed and not beside[0].failed, (ours, beside)
    results = ground.play(
        [
            task("again", "vmcp_vms", **first),
            task("network info", "vmcp_network_info"),
            task("no more", "vmcp_vms", vms=[{"name": f"{letter}-{{index:03d}}", "count": 100, "state": "absent"} for letter in "ab"]),
            task("nobody", "vmcp_network_info"),
        ]
    )
    assert not results.ok("again")["changed"]
    members = results.ok("network info")["networks"][0]["members"]
    addresses = [address for member in members for address in member["addresses"]]
    assert len(members) == len(addresses) == len(set(addresses)) == 200
    results.ok("no more")
    assert results.ok("nobody")["networks"][0]["members"] == []
    assert not any(pathlib.Path(ground.state, "vms").iterdir())
