# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left of a host while VMs are placed, and why it does not take one."""

from __future__ import annotations

import fnmatch

from ...module_utils.model.units import format_size
from .data import Demand, Host, Rules, Wanted


def shown(size: int) -> str:
    """For people: exact where it is short, else in GiB."""
    exact = format_size(max(0, size))
    return exact if len(exact) <= 7 else f"{max(0, size) / (1 << 30):.1f}GiB"


class Room:
    """What is left of one host. It only ever shrinks: what a VM leaves by moving away is free in the next run, when it has left."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.vcpus = host.capacity.vcpus
        self.memory = host.capacity.memory
        self.pages = dict(host.capacity.hugepages)
        self.groups: dict[str, str] = {}

    def take(self, demand: Demand) -> None:
        self.vcpus -= demand.vcpus
        self.memory -= demand.memory
        for page, size in demand.hugepages:
            self.pages[page] = self.pages.get(page, 0) - size

    def settle(self, vm: Wanted) -> None:
        """The VM's groups are represented here from now on."""
        for group in vm.rules.apart:
            self.groups.setdefault(group, vm.name)

    def holds(self, demand: Demand) -> bool:
        if demand.vcpus > self.vcpus or demand.memory > self.memory:
            return False
        return all(size <= self.pages.get(page, 0) for page, size in demand.hugepages)

    def holds_more(self, demand: Demand, had: Demand) -> bool:
        """Whether a VM that is here with C(had), which is taken off already, may become C(demand). What it does not want more of is not asked for, so that
        a host that is too full already does not drive its VMs away."""
        if demand.vcpus > had.vcpus and demand.vcpus - had.vcpus > self.vcpus:
            return False
        if demand.memory > had.memory and demand.memory - had.memory > self.memory:
            return False
        before = dict(had.hugepages)
        return all(size - before.get(page, 0) <= max(0, self.pages.get(page, 0)) for page, size in demand.hugepages)

    def grow(self, demand: Demand, had: Demand) -> None:
        self.take(demand)
        self.vcpus += had.vcpus
        self.memory += had.memory
        for page, size in had.hugepages:
            self.pages[page] = self.pages.get(page, 0) + size

    @property
    def load(self) -> float:
        """The share that is taken, of what there is least left of."""
        whole = self.host.capacity
        shares = [1 - self.vcpus / whole.vcpus if whole.vcpus else 1.0, 1 - self.memory / whole.memory if whole.memory else 1.0]
        return max(shares)

    # --- why not ----------------------------------------------------------------------------------------
    def lack(self, demand: Demand) -> str:
        """What there is too little of, for people; empty when it fits."""
        if demand.vcpus > self.vcpus:
            return f"has {max(0, self.vcpus)} of its {self.host.capacity.vcpus} vCPUs left"
        if demand.memory > self.memory:
            return f"has {shown(self.memory)} of its {shown(self.host.capacity.memory)} memory left"
        for page, size in demand.hugepages:
            if size > self.pages.get(page, 0):
                return f"has {shown(self.pages.get(page, 0))} in huge pages of {shown(page)} left"
        return ""

    def conflict(self, rules: Rules, name: str = "") -> str:
        """That a VM of one of its groups is here already; empty when there is none."""
        for group in rules.apart:
            other = self.groups.get(group)
            if other is not None and other != name:
                return f"has another VM of the group {group}"
        return ""


def unsuitable(rules: Rules, host: Host) -> str:
    """Why the host is none for such VMs, however empty it is; empty when it is one."""
    if rules.hosts and not any(fnmatch.fnmatchcase(host.name, pattern) for pattern in rules.hosts):
        return f"is none of {', '.join(rules.hosts)}"
    missing = [f"{key}={value}" for key, value in rules.labels if host.labels.get(key) != value]
    if missing:
        return f"has not the label {' and '.join(missing)}"
    if rules.backend is None:
        return "" if host.backends else "has no backend that can be used"
    wanted = f"{rules.backend} {rules.backend_version}" if rules.backend_version else rules.backend
    return "" if wanted in host.backends else f"has no {wanted}"
