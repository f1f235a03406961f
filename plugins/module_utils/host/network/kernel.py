# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What types of interfaces the running kernel has: tried in a network namespace made for that and thrown away. Standard library only."""

from __future__ import annotations

import typing as t

from ...errors import Violation
from ...planner.network_links import wanted_links
from . import programs
from .netlink import no_kind

if t.TYPE_CHECKING:
    from ...model.network_definition import NetworkDefinition

# A vlan or macvtap needs something beneath it.
_TRIES = {
    "bridge": "ip link add vmcpt type bridge",
    "vxlan": "ip link add vmcpt type vxlan id 1 dstport 4789",
    "vlan": "ip link add vmcpu type veth peer name vmcpv && ip link add link vmcpu name vmcpt type vlan id 1",
    "macvtap": "ip link add vmcpu type veth peer name vmcpv && ip link add link vmcpu name vmcpt type macvtap",
}


def has(kind: str) -> bool:
    try:
        programs.run(["unshare", "--net", "--", "/bin/sh", "-c", _TRIES[kind]])
    except programs.RefusedError:
        return False
    return True


def lacks(definition: NetworkDefinition) -> list[Violation]:
    """The types of interfaces that the network needs and the kernel does not have, each with its module."""
    kinds = {link.kind for link in wanted_links(definition) if link.kind} | ({"macvtap"} if definition.kind == "macvtap" else set())
    fields = {"vlan": "vlan", "vxlan": "vxlan"}
    return [Violation(fields.get(kind, "kind"), no_kind(kind)) for kind in sorted(kinds) if not has(kind)]
