# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests with real guests do in network namespaces, which stand for hosts and for servers beyond them."""

from __future__ import annotations

import os
import shutil
import socket
import time

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Tree
from ansible_collections.unkey.vmcp.tests.netns import Namespace

# Limits of an interface: 400 kB/s to the guest, 250 kB/s from it.
RECEIVES, SENDS = 400_000, 250_000
LIMITS: Tree = {
    "rate_limit_rx": {"bandwidth": {"size": RECEIVES // 4, "refill_ms": 250}, "ops": {"size": 10_000, "refill_ms": 1000}},
    "rate_limit_tx": {"bandwidth": {"size": SENDS // 4, "refill_ms": 250}},
}


def why_no_namespace(*programs: str) -> str | None:
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    missing = [name for name in ("ip", *programs) if shutil.which(name) is None]
    if missing:
        return f"there is no {' and no '.join(missing)} on PATH"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "/dev/net/tun does not open"
    return None


def listen(namespace: Namespace, address: str, port: int) -> socket.socket:
    """A socket that listens in the namespace; it stays there, whoever uses it."""

    def make() -> socket.socket:
        made = socket.create_server((address, port))
        made.settimeout(90)
        return made

    return namespace.call(make)


def bytes_per_second(server: socket.socket, limit: int, *, sends: bool) -> float:
    """Of one connection that a guest makes: what it is sent, or what comes from it, once the first burst is through. Where the machine is too busy to come up
    to the limit, it is measured again; what is beyond the limit tells at once."""
    stream, _peer = server.accept()
    with stream:
        stream.settimeout(60)
        # What lies in a large buffer on this side has not reached the guest.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 15)
        moved = {"bytes": 0}

        def move(until: float) -> None:
            while time.monotonic() < until:
                moved["bytes"] += stream.send(bytes(4096)) if sends else len(stream.recv(1 << 16))

        move(time.monotonic() + 1)
        for _again in range(30):
            moved["bytes"], began = 0, time.monotonic()
            move(began + 4)
            rate = moved["bytes"] / (time.monotonic() - began)
            if rate > 0.8 * limit:
                break
            print(f"{rate:.0f} bytes/s are too few: again")
        return rate


def assert_limited(first: socket.socket, second: socket.socket) -> None:
    """What a guest that is held to C(LIMITS) sends to the first and receives from the second, each within a fifth."""
    with first, second:
        sent = bytes_per_second(first, SENDS, sends=False)
        received = bytes_per_second(second, RECEIVES, sends=True)
    print(f"sent {sent:.0f} of {SENDS} bytes/s, received {received:.0f} of {RECEIVES}")
    assert abs(sent / SENDS - 1) < 0.2
    assert abs(received / RECEIVES - 1) < 0.2
