# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What first-boot data tell a guest of its interfaces, in the words of cloud-init's network configuration, version 2. Standard library only, pure."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from .definition import Definition
    from .nic_facts import NicFacts


def network_config(definition: Definition) -> dict[str, t.Any]:
    """All interfaces, by their MAC addresses, since cloud-init looks after no other then; empty where none has its address this way."""
    facts = definition.generated.get("nics", {})
    if not any(one.get("method") == "cloud_init" for one in facts.values()):
        return {}
    ethernets: dict[str, t.Any] = {}
    routed: set[str] = set()
    for nic in definition.config.get("network") or []:
        match = {"match": {"macaddress": nic.get("mac_address") or definition.generated["macs"][nic["id"]]}}
        own = facts.get(nic["id"], {})
        ethernets[nic["id"]] = {**match, **(_static(own, routed) if own.get("method") == "cloud_init" else {"dhcp4": True, "optional": True})}
    return {"version": 2, "ethernets": ethernets}


def _static(facts: NicFacts, routed: set[str]) -> dict[str, t.Any]:
    """C(routed): destinations that an interface before this one leads to."""
    said: dict[str, t.Any] = {"addresses": list(facts["addresses"])}
    ways = [("::/0" if ":" in gateway else "0.0.0.0/0", gateway) for gateway in facts["gateways"]]
    for to, gateway in ways:
        if to == "0.0.0.0/0" and to not in routed:
            said["routes"] = [{"to": to, "via": gateway}]
        elif to not in routed:
            # Of a route to ::/0, cloud-init makes one to ::/64 wherever it does not hand this on to netplan (seen in 22.4.2, Debian 12).
            said["gateway6"] = gateway
    routed.update(to for to, _gateway in ways)
    if facts["nameservers"]:
        said["nameservers"] = {"addresses": list(facts["nameservers"]), "search": [facts["domain"]]}
    if facts.get("mtu"):
        said["mtu"] = facts["mtu"]
    return said
