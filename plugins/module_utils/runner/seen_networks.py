# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The networks of this host as a task sees them before it changes anything: what VMs will get there, and what they lack. Standard library only."""

from __future__ import annotations

import typing as t

from ..errors import InvalidArgument
from ..host.networks import NetworkDefinition, NetworkStore
from ..planner.nics import foresee

if t.TYPE_CHECKING:
    from ..host.layout import Layout
    from ..model.definition import Definition
    from ..model.nic_facts import NicFacts


class Networks:
    """Each is read once."""

    def __init__(self, layout: Layout) -> None:
        self._store = NetworkStore(layout)
        self._read: dict[str, t.Optional[NetworkDefinition]] = {}
        self._taken: dict[str, dict[str, tuple[str, str]]] = {}

    def get(self, name: str) -> t.Optional[NetworkDefinition]:
        """None when there is no such network."""
        if name not in self._read:
            self._read[name] = self._store.load(name)
            if self._read[name] is not None:
                self._taken[name] = self._store.taken(name)
        return self._read[name]

    def nearest(self, name: str) -> str:
        """A sentence on the network that may be meant; "" without one."""
        import difflib

        near = difflib.get_close_matches(name, self._store.names(), n=1)
        return f" Did you mean {near[0]}?" if near else ""

    def foresee(self, definition: Definition) -> dict[str, NicFacts]:
        """What the VM's interfaces will get, by id; VMs asked for one after the other get different addresses. InvalidArgument with all that cannot be had."""
        seen = foresee(definition, self.of(definition), self._taken)
        if seen.violations:
            raise InvalidArgument.of(seen.violations)
        return seen.facts

    def of(self, definition: Definition) -> dict[str, NetworkDefinition]:
        """The networks that the VM names, as far as they are here."""
        named = sorted({nic["network"] for nic in definition.config.get("network") or [] if nic.get("network")})
        return {name: network for name in named if (network := self.get(name)) is not None}
