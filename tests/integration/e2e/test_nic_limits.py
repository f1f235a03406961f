# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits of what a guest sends and receives, measured on real VMMs: on QEMU the host keeps them, the others keep them themselves where they can."""

from __future__ import annotations

import json
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground, Tree, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.namespaces import LIMITS, RECEIVES, SENDS, assert_limited, listen, why_no_namespace
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm, use
from ansible_collections.unkey.vmcp.tests.linux_guest import GuestUnavailable, cache_directory, linux_guest, with_script
from ansible_collections.unkey.vmcp.tests.net_guest import FRAME_BYTES, sending_guest
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


# Frames for everybody on a bridge, more than any limit here lets through, to whoever takes them.
_FLOOD = f"""
import socket, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("lanbr", 0))
frame = (b"\\xff" * 6 + b"\\x02" + bytes(4) + b"\\x02" + b"\\x88\\xb5").ljust({FRAME_BYTES}, b"x")
while True:
    for dummy in range(10):
        try:
            s.send(frame)
        except OSError:
            pass
    time.sleep(0.005)
"""
# The same for both directions, which is all that Cloud Hypervisor's own limiter can.
_SAME: Tree = {f"rate_limit_{way}": LIMITS["rate_limit_tx"] for way in ("rx", "tx")}


@pytest.mark.parametrize(
    ("backend", "limits", "receives"),
    [("firecracker", LIMITS, RECEIVES), ("cloudhypervisor", _SAME, SENDS), ("cloudhypervisor", LIMITS, RECEIVES)],
    ids=["Firecracker's", "Cloud Hypervisor's", "the host's for Cloud Hypervisor"],
)
def test_what_a_guest_without_linux_sends_and_receives_is_limited(ground: Playground, host: Namespace, backend: str, limits: Tree, receives: int) -> None:
    """Where no Linux runs on this machine's KVM: a guest that only sends and takes frames, and the counters of the host."""
    vmm = use(backend, ground)
    if not vmm.real:
        pytest.skip(f"only a real {backend} limits anything, and this is {vmm.why}")
    kernel = ground.top / "kernel"
    kernel.write_bytes(sending_guest("sends", backend))
    given: Tree = {"name": "limited", "backend": backend, "memory": "128M", "kernel": str(kernel), "state": "running", "wait_for": [{"console": "sends"}]}
    results = ground.play([task("boot", config={"network": [{"tap_device": "lanbr", **limits}]}, **given)])
    tap = results.ok("boot")["vm"]["nics"][0]["tap"]
    host.start("python3", "-c", _FLOOD)
    deadline = time.monotonic() + 60
    while True:
        sent, received = _bytes_per_second(host, tap, 4.0)
        print(f"sent {sent:.0f} of {SENDS} bytes/s, received {received:.0f} of {receives}")
        if abs(sent / SENDS - 1) < 0.2 and abs(received / receives - 1) < 0.2:
            break
        # The first look meets the burst at the start, and others may meet a machine that is short of time.
        assert time.monotonic() < deadline, (sent, received)


def _bytes_per_second(host: Namespace, tap: str, seconds: float) -> tuple[float, float]:
    """What came from the guest to the bridge (a limit of the host's is kept behind the tap's counter), and what the guest took from its tap."""

    def counted() -> tuple[int, int, float]:
        bridge, own = (json.loads(host.run("ip", "-j", "-s", "link", "show", "dev", name))[0]["stats64"] for name in ("lanbr", tap))
        return bridge["rx"]["bytes"], own["tx"]["bytes"], time.monotonic()

    before = counted()
    time.sleep(seconds)
    after = counted()
    took = after[2] - before[2]
    return (after[0] - before[0]) / took, (after[1] - before[1]) / took
