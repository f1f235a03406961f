# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest on a macvtap device may send, in the words of nft: the same as on a bridge (C(planner.network_rules)). Pure, standard library only."""

from __future__ import annotations

import typing as t

from ..model.addresses import to_number


def guard_rules(mac: str, addresses: t.Sequence[str]) -> str:
    """Rules for a chain that sees what leaves the device, separated by semicolons. C(addresses): at most one of each family; of one that is not named the
    guest may have any, since it learns it on a LAN that is not ours."""
    rules = [
        f"ether saddr != {mac} drop",
        f"ether type arp arp saddr ether != {mac} drop",
        "ether type != { arp, ip, ip6 } drop",
        # No server of DHCP, and no router.
        "ether type ip udp sport 67 drop",
        "ether type ip6 udp sport 547 drop",
        "ether type ip6 icmpv6 type { nd-router-advert, nd-redirect } drop",
    ]
    for address in addresses:
        rules += _of_six(address) if ":" in address else _of_four(address)
    return "; ".join(rules)


def _of_four(address: str) -> list[str]:
    """0.0.0.0 is who has none yet."""
    return [f"ether type arp arp saddr ip != {{ 0.0.0.0, {address} }} drop", f"ether type ip ip saddr != {{ 0.0.0.0, {address} }} drop"]


def _of_six(address: str) -> list[str]:
    """Link-local addresses guests give themselves. What a neighbour advertisement speaks about is looked up as a number: nft knows no name for it."""
    return [
        f"ether type ip6 icmpv6 type nd-neighbor-advert @th,64,10 != 0x3fa @th,64,128 != {to_number(address):#034x} drop",
        f"ether type ip6 ip6 saddr != fe80::/10 ip6 saddr != {{ ::, {address} }} drop",
    ]
