# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM's network interfaces as results show them. Standard library only."""

from __future__ import annotations

import typing as t

from ..model.definition import Definition

if t.TYPE_CHECKING:
    from ..model.nic_facts import NicFacts


def nics(definition: Definition) -> list[dict[str, t.Any]]:
    """C([{id, mac_address, tap}]): what was given, else what was chosen once; and of those on networks of ours C(network), C(addresses), C(name) …"""
    macs, taps = definition.generated.get("macs", {}), definition.generated.get("taps", {})
    return [
        {
            "id": nic.get("id"),
            "mac_address": nic.get("mac_address") or macs.get(nic.get("id")),
            "tap": taps.get(nic.get("id")) or nic.get("tap_device"),
            **_on_network(definition.generated.get("nics", {}).get(nic.get("id"))),
        }
        for nic in definition.config.get("network") or []
    ]


def _on_network(facts: t.Optional[NicFacts]) -> dict[str, t.Any]:
    """Addresses without prefix length, for whoever connects to them; C(name): as others on the network find it."""
    if facts is None:
        return {}
    return {
        "network": facts["network"],
        "addresses": [address.partition("/")[0] for address in facts["addresses"]],
        "gateways": facts["gateways"],
        "name": f"{facts['hostname']}.{facts['domain']}",
        "address_method": facts["method"],
    }
