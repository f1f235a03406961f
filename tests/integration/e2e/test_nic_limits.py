# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of what a guest sends and receives, measured on a real one: on QEMU the host keeps them."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground, Tree, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.namespaces import LIMITS, assert_limited, listen, why_no_namespace
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm
from ansible_collections.unkey.vmcp.tests.linux_guest import GuestUnavailable, cache_directory, linux_guest, with_script
from ansible_collections.unkey.vmcp.tests.netns import Namespace, namespaces

SCRIPT = (
    """
ip link set eth0 up
ip addr add 10.9.0.2/24 dev eth0
dd if=/dev/zero bs=64k 2>/dev/null | nc 10.9.0.1 5000 >/dev/null &
sleep 1
nc 10.9.0.1 5001 </dev/null >/dev/null
""".replace("\n", "\n/bin/busybox ")
    .removesuffix("/bin/busybox ")
    .replace("| nc", "| /bin/busybox nc")
)


@pytest.fixture
def host(ground: Playground) -> t.Iterator[Namespace]:
    lack = why_no_namespace("tc", "nft")
    if lack:
        pytest.skip(lack)
    with namespaces("host") as (made,):
        made.run("ip", "link", "add", "lanbr", "type", "bridge")
        made.run("ip", "addr", "add", "10.9.0.1/24", "dev", "lanbr")
        made.run("ip", "link", "set", "lanbr", "up")
        ground.prefix = made.prefix
        try:
            yield made
            left = ground.remove_all()
            assert not left and "vq" not in made.run("ip", "-br", "link", "show", "type", "ifb")
        finally:
            ground.kill_all()
            ground.prefix = ()


def test_what_a_guest_sends_and_receives_is_limited(ground: Playground, host: Namespace, qemu: Vmm) -> None:
    try:
        linux = with_script(linux_guest(cache_directory()), SCRIPT, ground.top / "initrd")
    except GuestUnavailable as exc:
        pytest.skip(str(exc))
    servers = listen(host, "10.9.0.1", 5000), listen(host, "10.9.0.1", 5001)
    given: Tree = {"name": "limited", "backend": "qemu", "memory": "256M", "kernel": str(linux.kernel), "initrd": str(linux.initrd)}
    results = ground.play([task("boot", state="running", config={"network": [{"tap_device": "lanbr", **LIMITS}]}, **given)])
    results.ok("boot")
    assert_limited(*servers)
    assert ground.play([task("stop", name="limited", state="shutdown", shutdown_timeout=0)]).ok("stop")["changed"]
    assert "vm" not in host.run("ip", "-br", "link", "show", "type", "tun")
