# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests with real guests do in network namespaces, which stand for hosts and for servers beyond them."""

from __future__ import annotations

import os
import shutil
import socket
import time

from ansible_collections.unkey.vmcp.tests.netns import Namespace


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


def bytes_per_second(server: socket.socket, *, sends: bool, warm_up_s: float, seconds: float) -> float:
    """Of one connection that a guest makes: what it is sent, or what comes from it, once the first burst is through."""
    stream, _peer = server.accept()
    with stream:
        stream.settimeout(10)
        # What lies in a large buffer on this side has not reached the guest.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 15)
        moved = {"bytes": 0}

        def move(until: float) -> None:
            while time.monotonic() < until:
                moved["bytes"] += stream.send(bytes(4096)) if sends else len(stream.recv(1 << 16))

        move(time.monotonic() + warm_up_s)
        moved["bytes"], began = 0, time.monotonic()
        move(began + seconds)
        return moved["bytes"] / (time.monotonic() - began)
