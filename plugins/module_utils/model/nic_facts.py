# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a definition keeps of an interface on a network of ours: C(generated["nics"]), by id of the interface. Standard library only."""

from __future__ import annotations

import typing as t

# How many interfaces on macvtap networks a VM can have: each is handed to the VMM under a number of one digit, which is all that every shell opens.
DIRECT_MAX = 6


class NicFacts(t.TypedDict, total=False):
    """What is recorded of an interface on a network of ours when its VM is defined. C(bridge): where its tap goes; None on macvtap, which has a C(parent)
    interface and a C(mode), and C(guarded) where the guest sends from its own addresses alone. C(addresses): with prefix length where the network has one,
    IPv4 first. C(gateways), C(nameservers): without. C(method): never C(auto)."""

    network: str
    bridge: t.Optional[str]
    parent: t.Optional[str]
    mode: str
    guarded: bool
    mtu: t.Optional[int]
    addresses: list[str]
    gateways: list[str]
    nameservers: list[str]
    domain: str
    hostname: str
    method: str
