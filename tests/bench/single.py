# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one VM costs: a task that finds nothing to do, and a start."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import statistics
import typing as t

from floor import one_by_hand
from ground import GREETING, PING, Ground
from table import Table


def no_change(ground: Ground, table: Table, which: str, rounds: int) -> None:
    """A task that finds nothing to do, in turn with a ping, in one play."""
    vm = ground.vm(name=f"same-{len(which)}")
    with _removed(ground, vm["name"]):
        first = {"name": "first", "unkey.vmcp.vmcp_vm": vm}
        pair = [PING, {"name": "vm", "unkey.vmcp.vmcp_vm": vm}]
        # The first of each pays for building the module on the controller, once a play.
        took = ground.play([first, *pair, *(task for dummy in range(rounds) for task in pair)]).seconds
    pings, vms = took["ping"][1:], took["vm"][1:]
    ratio = statistics.median(vm_s / ping_s for vm_s, ping_s in zip(vms, pings, strict=True))
    measured = f"{ratio:.2f} x ping ({statistics.median(pings) * 1000:.0f} ms)"
    table.add(f"`vmcp_vm` with nothing to do, {ground.backend}, {which}", measured, "<= 1.5 x", ratio <= 1.5)


def with_runtime(ground: Ground, table: Table, rounds: int) -> None:
    if os.geteuid() != 0:
        table.leave_out("the system's Python with the installed runtime", "needs root")
        return
    system = dataclasses.replace(ground, python="/usr/bin/python3")
    system.play([], roles=["unkey.vmcp.vmcp_host"])
    no_change(system, table, "the system's Python with the runtime", rounds)


def start(ground: Ground, table: Table, jailed: bool, rounds: int) -> None:
    """From the task's start to the guest's first line, less a ping, against the same VMM with the same file started by hand."""
    vm = ground.vm(name="start", wait_for=[{"console": GREETING}], security={"jail": jailed})
    turn = [PING, {"name": "vm", "unkey.vmcp.vmcp_vm": vm}, {"name": "gone", "unkey.vmcp.vmcp_vm": {"name": "start", "state": "absent"}}]
    with _removed(ground, "start"):
        took = ground.play([task for dummy in range(rounds + 1) for task in turn]).seconds
    by_hand = statistics.median(one_by_hand(ground, jailed) for dummy in range(rounds))
    more = statistics.median(took["vm"][1:]) - statistics.median(took["ping"][1:]) - by_hand
    measured = f"{more * 1000:+.0f} ms over by hand ({by_hand * 1000:.0f} ms) and ping"
    table.add(f"one new Firecracker VM to its first console line, {'jailed' if jailed else 'bare'}", measured, "<= +150 ms", more <= 0.15)


@contextlib.contextmanager
def _removed(ground: Ground, name: str) -> t.Iterator[None]:
    yield
    ground.play([{"name": "gone", "unkey.vmcp.vmcp_vm": {"name": name, "state": "absent"}}])
