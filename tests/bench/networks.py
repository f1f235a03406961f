# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an interface on a network of ours costs: the same VMs with one and without any, in a namespace that stands for the host."""

from __future__ import annotations

import dataclasses
import os
import shutil
import statistics
import typing as t

from ground import PING, Ground, Task
from table import Table

from ansible_collections.unkey.vmcp.tests.netns import namespaces

FLEET = {"fleet": "bench-nic"}
NETWORK: Task = {"name": "network", "unkey.vmcp.vmcp_network": {"name": "bench", "ipv4": "10.80.0.1/20", "dhcp": True}}
NO_NETWORK: Task = {"name": "no network", "unkey.vmcp.vmcp_network": {"name": "bench", "state": "absent", "force": True}}


def lack() -> str | None:
    if os.geteuid() != 0:
        return "needs root, for a network namespace"
    missing = [name for name in ("ip", "nft", "dnsmasq") if shutil.which(name) is None]
    return f"needs {' and '.join(missing)}" if missing else None


def measure(ground: Ground, table: Table, rounds: int, count: int, many_rounds: int) -> None:
    why = lack()
    if why:
        table.leave_out("interfaces on networks", why)
        return
    with namespaces("bench") as (host,):
        # Control groups are not seen from there, so processor time is not counted.
        inside = dataclasses.replace(ground, prefix=host.prefix, meter="")
        inside.play([NETWORK])
        try:
            _one(inside, table, rounds)
            _many(inside, table, count, many_rounds)
        finally:
            inside.play([NO_NETWORK])


def _one(ground: Ground, table: Table, rounds: int) -> None:
    """In turn, so that both meet the same machine; the first of each pays for building the module on the controller."""
    gone: Task = {"name": "gone", "unkey.vmcp.vmcp_vm": {"name": "nic", "state": "absent"}}
    turn: list[Task] = []
    for name, networks in (("without", []), ("with", ["bench"])):
        turn += [{"name": name, "unkey.vmcp.vmcp_vm": ground.vm(name="nic", networks=networks)}, gone]
    took = ground.play([task for dummy in range(rounds + 1) for task in turn])
    more_s = statistics.median(a - b for a, b in zip(took.seconds["with"][1:], took.seconds["without"][1:], strict=True))
    what = f"an interface on a network, one new {ground.backend} VM"
    table.add(what, f"{more_s * 1000:+.1f} ms over the same VM without one", "<= +15 ms", more_s <= 0.015)


def _many(ground: Ground, table: Table, count: int, rounds: int) -> None:
    gone: Task = {"name": "gone", "unkey.vmcp.vmcp_vms": {"vms": [], "prune": {"labels": FLEET, "allow_empty": True}}}

    def fleet(name: str, networks: t.Sequence[str]) -> Task:
        common = ground.vm(labels=FLEET, networks=list(networks))
        return {"name": name, "unkey.vmcp.vmcp_vms": {"defaults": common, "vms": [{"name": "nic-{index:04d}", "count": count}], "overcommit": True}}

    turn = [fleet("without", []), {**gone, "name": "gone without"}, fleet("with", ["bench"]), {**gone, "name": "gone with"}, PING]
    took = ground.play([gone, *(task for dummy in range(rounds) for task in turn)])
    for words, with_one, without in (("start", "with", "without"), ("removal", "gone with", "gone without")):
        more_s = statistics.median(a - b for a, b in zip(took.seconds[with_one], took.seconds[without], strict=True)) / count
        what = f"interfaces on a network, {count} {ground.backend} VMs in one task, {words}"
        table.add(what, f"{more_s * 1000:+.2f} ms a VM over the same VMs without one", "<= +5 ms a VM", more_s <= 0.005)
