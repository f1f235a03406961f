# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What placement speaks of: what a VM wants, what a host has, and what was decided. Plain data; sizes in bytes."""

from __future__ import annotations

import dataclasses
import typing as t

# What can be decided about a VM. 'stay': its host cannot be reached, and nobody declared it dead. 'refuse': see the violations.
ACTIONS = ("keep", "start", "move", "stay", "refuse")


@dataclasses.dataclass(frozen=True)
class Demand:
    """C(memory): of ordinary pages. C(hugepages): pairs of page size and bytes."""

    vcpus: int = 1
    memory: int = 0
    hugepages: tuple[tuple[int, int], ...] = ()

    def within(self, other: Demand) -> bool:
        """Whether it wants no more of anything."""
        had = dict(other.hugepages)
        return self.vcpus <= other.vcpus and self.memory <= other.memory and all(size <= had.get(page, 0) for page, size in self.hugepages)


@dataclasses.dataclass(frozen=True)
class Rules:
    """Where a VM may be. C(hosts): names or shell patterns, any of which; C(labels): all of which the host must have; C(apart): groups of which no two
    VMs share a host; C(backend): what must be installed there, None for any."""

    hosts: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    apart: tuple[str, ...] = ()
    backend: t.Optional[str] = None
    backend_version: t.Optional[str] = None


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A VM of the fleet. C(path): where the user wrote it. C(options): for C(vmcp_vms), without what is said about the placement."""

    name: str
    path: str
    demand: Demand
    rules: Rules = Rules()
    priority: int = 0
    options: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict, compare=False, hash=False)


@dataclasses.dataclass(frozen=True)
class Host:
    """C(capacity): what all VMs together may have there. C(backends): C(firecracker) and C(firecracker 1.16.1) for each that can be used.
    C(found): VMs that are there, by name; of a host that is not C(reachable) nobody knows. C(fenced): the user says that it is dead."""

    name: str
    capacity: Demand = Demand(0)
    reachable: bool = True
    drained: bool = False
    fenced: bool = False
    labels: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    backends: frozenset[str] = frozenset()
    found: t.Mapping[str, Demand] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Decision:
    """C(host): where the VM is to be, None when refused and nowhere. C(former): where it is when it has to move. C(reason): a sentence."""

    name: str
    action: str
    host: t.Optional[str]
    reason: str
    former: t.Optional[str] = None

    def as_dict(self) -> dict[str, t.Any]:
        return dataclasses.asdict(self)
