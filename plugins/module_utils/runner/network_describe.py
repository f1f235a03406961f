# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A network as results show it. Standard library only."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ..model.network_definition import Member, NetworkDefinition


def describe_network(
    definition: NetworkDefinition,
    members: t.Iterable[Member],
    *,
    up: bool,
    dns: str,
    leases: t.Optional[t.Mapping[str, int]] = None,
) -> dict[str, t.Any]:
    """C(leases): address to the end of its lease, in seconds since 1970, of what guests have asked for."""
    listed = []
    for member in members:
        entry = {**member.as_dict(), "name": f"{member.host}.{definition.domain}"}
        if leases is not None:
            entry["leases"] = {address: leases[address] for address in member.addresses if address in leases}
        listed.append(entry)
    return {
        **definition.settings,
        "name": definition.name,
        "kind": definition.kind,
        "state": "present",
        "up": up,
        "bridge": definition.bridge,
        "device": definition.generated.get("device"),
        "interface": definition.parent or definition.settings.get("interface"),
        "ipv4": definition.ipv4 or "",
        "ipv6": definition.ipv6 or "",
        "ranges": definition.ranges,
        "mtu": definition.mtu,
        "domain": definition.domain,
        "nameservers": list(definition.nameservers),
        "dns": dns,
        "created_at": definition.created_at,
        "members": listed,
    }
