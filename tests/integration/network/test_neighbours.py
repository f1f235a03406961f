# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether somebody answers for an address: asked in namespaces of the test."""

from __future__ import annotations

import os
import shutil
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.host.neighbours import Neighbour
from ansible_collections.unkey.vmcp.tests.netns import Namespace, namespaces, wire

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and ip, for namespaces of its own")
MAC = "02:00:00:00:00:07"


@pytest.fixture
def guest() -> t.Iterator[tuple[Namespace, Namespace]]:
    with namespaces("host", "guest") as (host, made):
        wire(host, "lan0", made, "eth0")
        made.run("ip", "link", "set", "eth0", "address", MAC)
        host.run("ip", "addr", "add", "10.80.0.1/24", "dev", "lan0")
        yield host, made


def answered(host: Namespace, mac: str, addresses: t.Sequence[str], patience_s: float) -> bool:
    def ask() -> bool:
        neighbour = Neighbour("lan0", mac, addresses, "10.80.0.1")
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if neighbour():
                return True
            time.sleep(0.02)
        return False

    return host.call(ask)


# In a thread of a namespace, /sys shows another one's interfaces.
@pytest.mark.parametrize("address", ["10.80.0.7", "fd00:80::7"])
def test_a_guest_answers_for_its_own_address_only(guest: tuple[Namespace, Namespace], address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    host, made = guest
    own = host.run("cat", "/sys/class/net/lan0/address").strip()
    monkeypatch.setattr(Neighbour, "_own_mac", lambda self: bytes.fromhex(own.replace(":", "")))
    assert not answered(host, MAC, [address], 0.5), "nobody has it yet"
    made.run("ip", "addr", "add", f"{address}/{'64' if ':' in address else '24'}", "dev", "eth0", *(["nodad"] if ":" in address else []))
    assert answered(host, MAC, [address], 60)
    assert not answered(host, "02:00:00:00:00:08", [address], 0.5), "somebody else has it"


def test_an_interface_that_is_not_there_has_nobody_on_it() -> None:
    assert not Neighbour("nosuchbr0", MAC, ["10.80.0.7", "fd00::7"])()
