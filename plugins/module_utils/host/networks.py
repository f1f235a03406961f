# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks for those who attach VMs to them: what a network is, and how interfaces come and go. Standard library only.

C(NetworkStore(layout)) reads; C(allocate) says, without touching anything, which addresses an interface would get (C(store.taken(NAME)) are those given);
C(join) records, and makes the host let the interface's traffic through; C(leave) takes that back.
"""

from __future__ import annotations

from ..model.addresses import allocate
from ..model.network_definition import BRIDGED, KINDS, OWN, Member, NetworkDefinition
from .network.membership import is_cut_off, join, leave, leave_all, networks_of
from .network.store import NetworkStore

__all__ = ["BRIDGED", "KINDS", "OWN", "Member", "NetworkDefinition", "NetworkStore", "allocate", "is_cut_off", "join", "leave", "leave_all", "networks_of"]
