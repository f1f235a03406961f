# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong: other firewalls, somebody's hand in ours, a dead dnsmasq, a reboot, tasks that are killed anywhere."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import VmcpError
from ansible_collections.unkey.vmcp.plugins.module_utils.host.networks import join
from ansible_collections.unkey.vmcp.tests.integration.network.ground import HOST_OUTSIDE, NOTHING, OUTSIDE, Ground, reaches, resolve, serve
from ansible_collections.unkey.vmcp.tests.integration.network.killing import killed_at
from ansible_collections.unkey.vmcp.tests.netns import namespaces, wire
from ansible_collections.unkey.vmcp.tests.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for namespaces of its own")

APPS: dict[str, t.Any] = {
    "ipv4": "10.80.0.1/24",
    "nat": True,
    "dhcp": True,
    "forward": [{"host_port": 8080, "vm": "web", "vm_port": 80}],
}

# As Docker and ufw leave a host, through iptables-nft.
_DOCKER = """
table ip filter {
    chain DOCKER-USER { counter return; }
    chain FORWARD { type filter hook forward priority filter; policy drop; jump DOCKER-USER; }
}
"""
_UFW = """
table ip filter {
    chain INPUT { type filter hook input priority filter; policy drop; ct state established accept; }
    chain FORWARD { type filter hook forward priority filter; policy drop; ct state established accept; }
}
table inet corporate {
    chain fw { type filter hook forward priority 5; policy drop; }
}
"""
# As the packages iptables-services and nftables of the Red Hat family do: what is left is rejected by a rule, not by a policy.
_REJECTS = """
table ip filter {
    chain INPUT { type filter hook input priority filter; policy accept; ct state established accept; counter reject with icmp host-prohibited; }
    chain FORWARD { type filter hook forward priority filter; policy accept; ct state established accept; log reject; }
}
"""


def rules_of(ground: Ground, family: str, table: str, chain: str) -> int:
    return sum("rule" in entry for entry in json.loads(ground.host.run("nft", "-j", "list", "chain", family, table, chain))["nftables"])


@pytest.mark.parametrize(
    ("other", "place"),
    [(_DOCKER, ("ip", "filter", "DOCKER-USER")), (_UFW, ("ip", "filter", "FORWARD")), (_REJECTS, ("ip", "filter", "FORWARD"))],
    ids=["docker", "ufw", "a rule that rejects"],
)
def test_traffic_passes_where_another_firewall_drops(ground: Ground, other: str, place: tuple[str, str, str]) -> None:
    ground.host.run("nft", "-f", "-", given=other)
    before = rules_of(ground, *place)
    made = ground.network(**APPS)
    assert made["actions"] == ["define", "forwarding", "links", "rules", "accept", "dns"]
    assert not ground.network(**APPS)["changed"]
    web = ground.vm("web")
    serve(ground.outside, 9000)
    serve(web.inside, 80)
    assert web.reaches(OUTSIDE, 9000)
    assert reaches(ground.outside, HOST_OUTSIDE, 8080)
    assert web.pings("10.80.0.1")
    # It is made anew, as by a restart of the other firewall.
    ground.host.run("nft", "-f", "-", given=f"flush table ip filter\n{other}")
    assert web.is_kept_from(OUTSIDE, 9000)
    assert ground.network()["actions"] == ["accept"]
    assert web.reaches(OUTSIDE, 9000)
    ground.network(state="absent", force=True)
    assert rules_of(ground, *place) == before


def test_rules_of_iptables_nft_that_reject_at_their_end_are_seen(ground: Ground) -> None:
    if ground.host.try_("iptables-nft", "-A", "FORWARD", "-j", "REJECT").returncode:
        pytest.skip("there is no iptables-nft that can reject here")
    ground.network(**APPS)
    web = ground.vm("web")
    serve(ground.outside, 9000)
    assert web.reaches(OUTSIDE, 9000)


def test_rules_of_iptables_legacy_are_told_until_they_let_the_network_pass(ground: Ground) -> None:
    if ground.host.try_("iptables-legacy", "-P", "FORWARD", "DROP").returncode:
        pytest.skip("there is no iptables-legacy here, or no kernel that still takes its rules")
    ground.host.run("iptables-legacy", "-P", "INPUT", "DROP")
    ground.network(**APPS)
    web = ground.vm("web")
    serve(ground.outside, 9000)
    assert web.is_kept_from(OUTSIDE, 9000) and web.pings_in_vain("10.80.0.1")
    (warning,) = ground.warnings
    commands = warning.partition("Run: ")[2].partition(". ")[0]
    ground.host.run("sh", "-ec", commands)
    assert web.reaches(OUTSIDE, 9000) and web.pings("10.80.0.1")
    ground.warnings.clear()
    assert not ground.network(**APPS)["changed"]
    assert ground.warnings == []


def test_firewalld_is_told_by_its_own_command(ground: Ground) -> None:
    ground.host.run(
        "nft", "-f", "-", given="table inet firewalld {\nchain filter_FORWARD {\ntype filter hook forward priority 10;\nct state new reject\n}\n}\n"
    )
    ground.network(**APPS)
    assert any("firewall-cmd --permanent --zone=trusted --add-interface=vn-apps && firewall-cmd --reload" in text for text in ground.warnings)
    ground.host.run("nft", "-f", "-", given='table inet firewalld {\nchain zones {\niifname "vn-apps" accept\n}\n}\n')
    ground.warnings.clear()
    ground.network(**APPS)
    assert ground.warnings == []


@pytest.mark.parametrize(
    ("words", "actions"),
    [
        (["nft", "flush", "chain", "inet", "TABLE", "in-apps"], ["rules"]),
        (["nft", "flush", "set", "bridge", "TABLE", "macs"], ["rules"]),
        (["nft", "add", "element", "bridge", "TABLE", "v4", '{ "evil0" . 10.80.0.66 }'], ["rules"]),
        (["nft", "flush", "ruleset"], ["rules"]),
        (["ip", "link", "del", "vn-apps"], ["links"]),
        (["ip", "link", "set", "vn-apps", "mtu", "1400"], ["links"]),
        (["ip", "addr", "add", "10.99.0.1/24", "dev", "vn-apps"], ["links"]),
        (["ip", "link", "set", "vn-apps", "down"], ["links"]),
        (["sysctl", "-w", "net.ipv4.ip_forward=0"], ["forwarding"]),
    ],
)
def test_what_somebody_changed_is_found_and_put_right(ground: Ground, words: list[str], actions: list[str]) -> None:
    ground.network(**APPS)
    web = ground.vm("web")
    serve(ground.outside, 9000)
    ground.host.run(*(word.replace("TABLE", ground.store.table) for word in words))
    assert ground.call(act=False, name="apps").result["actions"] == actions
    assert ground.network()["actions"] == actions
    assert not ground.network()["changed"]
    ground.host.run("ip", "link", "set", web.member.tap, "master", "vn-apps")
    assert web.reaches(OUTSIDE, 9000)


def test_a_dead_dnsmasq_is_told_and_started(ground: Ground) -> None:
    ground.network(**APPS)
    (pid,) = ground.host.pids()
    os.kill(pid, signal.SIGKILL)
    until(lambda: ground.host.pids() == [], "all of the host have ended")
    assert ground.info()["dns"] == "ended"
    again = ground.network()
    assert again["actions"] == ["dns"]
    assert again["network"]["dns"] == "running"
    assert ground.warnings == [
        "dnsmasq of network apps had ended, so guests could get no address and resolve no name. It is started again.",
    ]
    ground.network(dhcp=False)
    until(lambda: ground.host.pids() == [], "dnsmasq is gone")


def test_after_a_reboot_plain_files_bring_it_back_and_the_next_task_finds_little_to_do(ground: Ground) -> None:
    """A new namespace with the old files is what a host is after a reboot."""
    ground.network(**APPS, egress={"default": "deny", "allow": [{"protocol": "tcp", "ports": [9000]}]})
    ground.host.call(join, ground.store, {"apps": [ground.vm("web").member]}, time.monotonic() + 90)
    ground.end()
    ground.vms.clear()
    shutil.rmtree(f"{ground.layout.run_dir}.networks")
    with namespaces("reboot", "world") as (rebooted, outside):
        old, ground.host, ground.outside = ground.host, rebooted, outside
        wire(rebooted, "wan0", outside, "eth0")
        rebooted.run("ip", "addr", "add", f"{HOST_OUTSIDE}/24", "dev", "wan0")
        outside.run("ip", "addr", "add", f"{OUTSIDE}/24", "dev", "eth0")
        rebooted.run("/bin/sh", ground.store.files("apps").up)
        rebooted.run("/bin/sh", ground.store.files("apps").up)
        serve(outside, 9000)
        serve(outside, 9001)
        web = ground.vm("web")
        assert web.reaches(OUTSIDE, 9000)
        assert web.is_kept_from(OUTSIDE, 9001)
        again = ground.network()
        assert again["actions"] == ["dns"], "what systemd's unit would have started"
        ground.network(state="absent", force=True)
        ground.end()
        ground.vms.clear()
        assert ground.left_behind() == NOTHING
        ground.host = old


def test_killed_before_each_thing_that_it_does_it_ends_where_it_would_have(ground: Ground) -> None:
    points = 0
    for at in itertools.count(1):
        killed = killed_at(ground.host, at, lambda: ground.network(**APPS))
        ground.network(**APPS)
        assert not ground.network(**APPS)["changed"], f"made after a kill at point {at}"
        gone = killed_at(ground.host, at, lambda: ground.network(state="absent"))
        ground.network(state="absent")
        until(lambda: ground.host.pids() == [], "all of the host have ended")
        assert ground.left_behind() == NOTHING, f"removed after a kill at point {at}"
        points = at
        if not killed and not gone:
            break
    assert points > 30, "the points were seen"


def test_killed_while_names_are_told_dnsmasq_knows_them_after_the_next_run(ground: Ground) -> None:
    ground.network(**APPS, range="10.80.0.10-10.80.0.99")
    web = ground.vm("web")
    for at in itertools.count(1):
        names = {"db": f"10.80.0.{100 + at}"}
        killed = killed_at(ground.host, at, lambda names=names: ground.network(dns_names=names))
        ground.network(dns_names=names)
        assert not ground.network(dns_names=names)["changed"], f"after a kill at point {at}"
        until(lambda names=names: resolve(web.inside, "db.apps.internal") == names["db"], f"the name is answered after a kill at point {at}")
        if not killed:
            break
    assert at > 5, "the points were seen"


def test_many_tasks_and_vms_at_once(ground: Ground) -> None:
    ground.network(**APPS)
    failures: list[VmcpError] = []

    def change(number: int) -> None:
        try:
            ground.network(mtu=1400 + number)
        except VmcpError as exc:
            failures.append(exc)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(4)]
    threads.append(threading.Thread(target=lambda: [ground.vm(f"vm-{number}") for number in range(3)]))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(ground.info()["members"]) == 3
    assert not ground.network()["changed"]


def test_a_change_that_cuts_vms_off_is_refused_unless_allowed_and_their_addresses_stay(ground: Ground) -> None:
    ground.network(**APPS)
    web = ground.vm("web", address="10.80.0.9")
    refused = ground.refused(ipv4="10.80.0.2/24")
    assert refused.code == "failed_precondition"
    assert [v.as_dict() for v in refused.violations] == [
        {"field": "ipv4", "message": "needs allow_disruption: restart while VMs are on the network"},
    ]
    moved = ground.network(ipv4="10.80.0.2/24", allow_disruption="restart")
    assert (moved["actions"], moved["disruption"]) == (["update", "links", "dns"], "restart")
    assert web.pings("10.80.0.2")
    assert web.pings_in_vain("10.80.0.1")
    other = ground.refused(ipv4="10.81.0.1/24", allow_disruption="restart")
    assert other.violations[0].as_dict() == {
        "field": "ipv4",
        "message": "10.81.0.0/24 leaves out addresses that VM web have. Take them off the network first.",
    }
    assert "would give the host the address of VM web" in ground.refused(ipv4="10.80.0.9/24", allow_disruption="restart").msg
    other_kind = ground.refused(kind="macvtap", interface="wan0")
    assert other_kind.msg == "kind: cannot become macvtap: network apps is of kind bridge. Remove it first (state: absent)."


def test_without_dnsmasq_the_error_says_how_to_get_it(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.unkey.vmcp.plugins.module_utils.host.network import programs

    monkeypatch.setattr(programs, "_PATH", "/bin:/usr/bin")
    if shutil.which("dnsmasq", path="/bin:/usr/bin"):
        pytest.skip("dnsmasq is where it cannot be hidden")
    refused = ground.refused(**APPS)
    assert refused.code == "failed_precondition"
    fields = {v.field: v.message for v in refused.violations}
    assert "dnsmasq" in fields["dhcp"] and "role unkey.vmcp.vmcp_host" in fields["dhcp"]
    assert ground.call(act=False, name="apps", **APPS).result["would_need"], "in check mode a host that is bare is no failure"
    assert ground.left_behind()["files"] == []


def test_a_definition_of_a_newer_version_is_left_alone_and_can_be_removed(ground: Ground) -> None:
    ground.network(**APPS)
    path = ground.store.files("apps").definition
    body = json.loads(pathlib.Path(path).read_text())
    pathlib.Path(path).write_text(json.dumps({**body, "schema_version": 99, "collection_version": "9.0.0"}))
    assert "written by unkey.vmcp 9.0.0" in ground.refused(mtu=1400).msg
    assert "written by unkey.vmcp 9.0.0" in ground.info()["error"]
    assert "Set force: true to remove it all the same" in ground.refused(state="absent").msg
    ground.network(state="absent", force=True)
    until(lambda: ground.host.pids() == [], "all of the host have ended")
    left = ground.left_behind()
    assert {**left, "forwarding": []} == {**NOTHING, "forwarding": []}


def test_namespaces_are_all_that_was_touched() -> None:
    """The machine's own network has no interface of ours."""
    names = [link["ifname"] for link in json.loads(subprocess.run(["ip", "-j", "link"], capture_output=True, text=True, check=True).stdout)]
    assert not [name for name in names if name.startswith(("vn-", "vmt"))]


def test_a_host_that_learns_its_way_out_from_a_router_keeps_it_when_it_forwards(ground: Ground) -> None:
    ground.host.run("ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "wan0")
    accept = "net.ipv6.conf.wan0.accept_ra"
    assert ground.host.run("sysctl", "-n", accept).strip() == "1"
    ground.network(ipv6="fd00:80::1/64", nat=True)
    assert ground.host.run("sysctl", "-n", accept).strip() == "2"
    assert not ground.network()["changed"]
    ground.network(state="absent")
    assert ground.host.run("sysctl", "-n", accept).strip() == "1"
    assert {**ground.left_behind(), "routes": []} == NOTHING
