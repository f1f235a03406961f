# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode on a host of which nothing can be written: whatever a task tried to touch, be it a cache, a lock file or a directory, would fail it.

The other tests of check mode look at the directories of VMs before and after. Here every file system is read-only to Ansible and its modules, but for the
directory in which Ansible puts what it runs."""

from __future__ import annotations

import os
import pathlib
import tarfile
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import GREETING, Playground, Results, Tree, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.namespaces import why_no_namespace
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm
from ansible_collections.unkey.vmcp.tests.integration.faults.host_trace import trace
from ansible_collections.unkey.vmcp.tests.netns import Namespace, lead_out, namespaces

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes mount namespaces")]

# $0: what stays writable. /proc and /sys are the kernel's; device files are no matter of their file system. A mount that cannot be reached any more
# cannot be changed either: what counts is looked at in the end.
_READ_ONLY = r"""
mount --make-rprivate /
mount --bind "$0" "$0"
while read -r _id _parent _device _root point _rest; do
    point=$(printf '%b' "$point")
    case $point in "$0" | /proc | /proc/* | /sys | /sys/* | /dev | /dev/*) continue ;; esac
    mount -o remount,bind,ro "$point" 2>/dev/null || mount -o remount,bind,ro,nosuid,nodev,noexec "$point" 2>/dev/null || :
done < /proc/self/mountinfo
for place in / /etc /opt /root /run /tmp /var /var/cache /var/lib "$0/.."; do
    if [ -w "$place" ]; then echo "$place can be written"; exit 99; fi
done
exec "$@"
"""


@pytest.fixture
def own(ground: Playground, top: pathlib.Path) -> str:
    """The part that Ansible needs: its home, its temporary files, and what the test is told."""
    directory = top / "own"
    directory.mkdir()
    temporary = str(directory / "tmp")
    ground.environment = {
        "HOME": str(directory),
        "ANSIBLE_HOME": str(directory / "ansible"),
        "ANSIBLE_LOCAL_TEMP": temporary,
        "ANSIBLE_REMOTE_TMP": temporary,
        "TMPDIR": str(directory),
    }
    return str(directory)


def read_only(ground: Playground, own: str, tasks: list[Tree]) -> Results:
    before, ground.records = ground.prefix, pathlib.Path(own)
    ground.prefix = (*before, "unshare", "-m", "sh", "-ec", _READ_ONLY, own)
    try:
        return ground.play(tasks, arguments=["--check"])
    finally:
        ground.prefix, ground.records = before, None


def test_nothing_can_be_written_and_nothing_is(ground: Playground, own: str, qemu: Vmm, guest: t.Callable[..., str], top: pathlib.Path) -> None:
    kernel = guest("halt")
    with tarfile.open(top / "tree.tar", "w") as packed:
        packed.add(kernel, "boot/kernel")
    given = {"backend": "qemu", "memory": "128M", "kernel": kernel, "shutdown_timeout": 0}
    (top / "plain.img").write_bytes(bytes(1 << 20))
    asked = [
        task("define", name="new", **given),
        task("boot", name="new", state="running", **given),
        task("many", "vmcp_vms", vms=[{"name": "a"}, {"name": "b", "state": "running"}], defaults=given),
        task("disk", "vmcp_disk", name="data", size="10M", filesystem="ext4"),
        task("image", "vmcp_image", name="plain", path=str(top / "plain.img")),
        task("root file system", "vmcp_image", name="root", kind="rootfs", path=str(top / "tree.tar")),
        task("host", "vmcp_host_info"),
        task("info", "vmcp_vm_info"),
    ]
    results = read_only(ground, own, asked)
    for step in asked[:6]:
        assert results.ok(step["name"])["changed"], step
    assert results.ok("host") and results.ok("info")["vms"] == []
    assert not [result for result in results.all if result.get("warnings") and "kept" in str(result["warnings"])]
    assert not pathlib.Path(ground.state).exists() and not pathlib.Path(f"{ground.run_dir}.locks").exists()

    ground.play([task("boot", name="web", state="running", wait_for=[{"console": GREETING}], **given)]).ok("boot")
    before = trace(ground)
    asked = [
        task("labels", name="web", labels={"a": "b"}),
        task("restart for memory", name="web", memory="192M", allow_disruption="restart"),
        task("later", name="web", memory="192M", apply="next_boot"),
        task("sandbox", name="web", security={"seccomp": False}, allow_disruption="recreate"),
        task("pause", name="web", state="paused"),
        task("restart", name="web", state="restarted"),
        task("shut down", name="web", state="shutdown"),
        task("remove", name="web", state="absent"),
        task("secrets", name="web", cloud_init={"user_data": "x"}, allow_disruption="replace_data"),
        task("several", "vmcp_vms", vms=[{"name": "web", "labels": {"c": "d"}}, {"name": "other"}], defaults=given),
    ]
    looks = [
        task("wait", name="web", state="running", wait_for=[{"console": "never"}]),
        task("console", "vmcp_console", name="web"),
        task("info", "vmcp_vm_info"),
    ]
    results = read_only(ground, own, [*asked, *looks])
    for step in asked:
        assert results.ok(step["name"])["changed"], step
    assert not results.ok("wait")["changed"] and GREETING in results.ok("console")["lines"]
    (seen,) = results.ok("info")["vms"]
    assert seen["state"] == "running"
    assert trace(ground) == before


def test_networks_are_only_looked_at(ground: Playground, own: str, qemu: Vmm, guest: t.Callable[..., str]) -> None:
    lack = why_no_namespace("nft", "dnsmasq")
    if lack:
        pytest.skip(lack)
    with namespaces("host", "out") as (host, outside):
        lead_out(host, "up0", outside, "up0")
        ground.prefix = host.prefix
        try:
            _only_looks_at_networks(ground, own, host, guest("halt"))
            assert not ground.remove_all()
        finally:
            ground.kill_all()
            ground.prefix = ()


def _only_looks_at_networks(ground: Playground, own: str, host: Namespace, kernel: str) -> None:
    apps: Tree = {"name": "apps", "ipv4": "10.80.0.1/24", "ipv6": "fd00:80::1/64", "nat": True, "dhcp": True, "isolate": True}
    fabric: Tree = {"name": "fabric", "kind": "vxlan", "ipv4": "10.90.0.0/16", "vxlan": {"id": 90, "peers": ["192.0.2.1", "192.0.2.2"]}}
    vm: Tree = {"backend": "qemu", "memory": "128M", "kernel": kernel, "networks": ["apps"]}
    nothing = _network_of(ground, host)
    asked = [
        task("new", "vmcp_network", **apps),
        task("between hosts", "vmcp_network", **fabric),
        task("on a card", "vmcp_network", name="lan", kind="macvtap", interface="up0"),
    ]
    results = read_only(ground, own, [*asked, task("not there", "vmcp_network", name="gone", state="absent"), task("info", "vmcp_network_info")])
    for step in asked:
        assert results.ok(step["name"])["changed"], step
    assert not results.ok("not there")["changed"] and results.ok("info")["networks"] == []
    assert _network_of(ground, host) == nothing
    assert not pathlib.Path(ground.state).exists() and not pathlib.Path(f"{ground.run_dir}.locks").exists()

    made = ground.play([task("network", "vmcp_network", **apps), task("between", "vmcp_network", **fabric), task("vm", name="web", state="present", **vm)])
    for name in ("network", "between", "vm"):
        made.ok(name)
    before = _settled(ground, host)
    asked = [
        task("policy", "vmcp_network", name="apps", isolate=False, egress={"default": "deny"}, forward=[{"host_port": 80, "vm": "web"}]),
        task("moved", "vmcp_network", name="apps", ipv4="10.80.0.254/24", allow_disruption="restart"),
        task("without names", "vmcp_network", name="apps", dhcp=False, nat=False),
        task("smaller", "vmcp_network", name="fabric", mtu=1300),
        task("removed", "vmcp_network", name="apps", state="absent", force=True),
        task("another", name="db", state="running", **vm),
        task("off", name="web", config={"network": []}),
        task("gone", name="web", state="absent"),
    ]
    results = read_only(ground, own, [*asked, task("as it is", "vmcp_network", **apps), task("info", "vmcp_network_info")])
    for step in asked:
        assert results.ok(step["name"])["changed"], step
    assert not results.ok("as it is")["changed"]
    assert [network["name"] for network in results.ok("info")["networks"]] == ["apps", "fabric"]
    assert _network_of(ground, host) == before
    ended = ground.play(
        [task("vm", name="web", state="absent"), *(task(name, "vmcp_network", name=name, state="absent") for name in ("apps", "fabric"))],
    )
    for name in ("vm", "apps", "fabric"):
        ended.ok(name)


def _settled(ground: Playground, host: Namespace) -> Tree:
    """Once nothing moves any more: an interface's carrier is seen, and its addresses are found to be nobody else's, some time after they are made."""
    deadline = time.monotonic() + 90
    before = _network_of(ground, host)
    while True:
        time.sleep(2)
        now = _network_of(ground, host)
        if now == before:
            return now
        assert time.monotonic() < deadline, (before, now)
        before = now


def _network_of(ground: Playground, host: Namespace) -> Tree:
    """All that a network is made of, with the times of its files."""
    files = pathlib.Path(ground.state).glob("networks/**/*")
    return {
        "files": sorted((str(path), path.stat().st_mtime_ns) for path in files),
        "links": host.run("ip", "-o", "link"),
        # Without link-local ones, which come by themselves some time after an interface is up.
        "addresses": [line for line in host.run("ip", "-o", "addr").splitlines() if " fe80:" not in line],
        "routes": [line for family in ("-4", "-6") for line in host.run("ip", family, "route").splitlines() if "fe80:" not in line],
        "rules": [line for line in host.run("nft", "list", "ruleset").splitlines() if "counter packets" not in line],
        "forwarding": host.run("sysctl", "-n", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"),
        "processes": host.pids(),
    }
