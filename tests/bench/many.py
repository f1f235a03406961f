# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What many VMs in one task cost: made, found unchanged, described, removed; and what they leave in memory."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import pathlib
import statistics
import typing as t

from floor import shell_loop
from ground import GREETING, PING, Ground, Task, memory_lacks, settle
from table import Table

PATTERN = "fn-{index:04d}"
LABELS = {"fleet": "bench"}
WAIT_S = 120
PLAY_DEADLINE_S = 420
GROWTH_FROM, GROWTH_TO = 100, 1000
MIB = 1 << 20

# What the two words mean on either side, said in the output. As root, C(security: {jail: false}) takes away the jailer, and no more: that is not bare.
MODES = {
    False: "bare: run by an ordinary user, on both sides: neither jailer nor users or namespaces of the VMs' own",
    True: "jailed (the default): the jailer on both sides. The loop's in one tmpfs, each with another user; ours in a tmpfs and a namespace each",
}


@dataclasses.dataclass
class Figures:
    """Of one way of running so many VMs: each list has a figure a round, in seconds; those of tasks are beyond a ping."""

    count: int
    floor_start: list[float] = dataclasses.field(default_factory=list)
    floor_remove: list[float] = dataclasses.field(default_factory=list)
    start: list[float] = dataclasses.field(default_factory=list)
    again: list[float] = dataclasses.field(default_factory=list)
    info: list[float] = dataclasses.field(default_factory=list)
    remove: list[float] = dataclasses.field(default_factory=list)
    first_use: list[float] = dataclasses.field(default_factory=list)
    start_processor: list[float] = dataclasses.field(default_factory=list)
    remove_processor: list[float] = dataclasses.field(default_factory=list)
    floor_start_processor: list[float] = dataclasses.field(default_factory=list)
    floor_remove_processor: list[float] = dataclasses.field(default_factory=list)
    peaks: dict[str, int] = dataclasses.field(default_factory=dict)
    resident: str = ""
    left: list[str] = dataclasses.field(default_factory=list)

    def ratio(self, ours: str, floor: str) -> float:
        """Of what was measured in turn; the middle one of all rounds."""
        return statistics.median(a / b for a, b in zip(getattr(self, ours), getattr(self, floor), strict=True))

    def middle(self, name: str) -> float:
        return statistics.median(getattr(self, name))


def measure(ground: Ground, count: int, jailed: bool, rounds: int) -> Figures:
    """In each round the floor, then ours. The floor is left out where the backend has none."""
    figures = Figures(count)
    for dummy in range(rounds):
        if ground.backend == "firecracker":
            settle()
            floor = shell_loop(ground, count, jailed)
            figures.floor_start.append(floor.start_s)
            figures.floor_remove.append(floor.remove_s)
            figures.floor_start_processor.append(floor.start_processor_s)
            figures.floor_remove_processor.append(floor.remove_processor_s)
        settle()
        _round(ground, figures, jailed)
    return figures


def rows(table: Table, figures: Figures, mode: str) -> None:
    what = f"{figures.count} VMs"

    def at_500(name: str) -> float:
        """What 500 would take, for a goal that is meant so."""
        return figures.middle(name) * 500 / figures.count

    if figures.floor_start:
        ratio, removal = figures.ratio("start", "floor_start"), figures.ratio("remove", "floor_remove")
        table.add(
            f"{what} from nothing to the first console line, {mode}",
            f"{ratio:.2f} x the shell loop ({figures.middle('start'):.2f} s; {figures.middle('floor_start'):.2f} s){_processor(figures, 'start')}",
            "<= 2 x",
            ratio <= 2,
        )
        removed = f"{removal:.2f} x the shell ({figures.middle('remove'):.2f} s; {figures.middle('floor_remove'):.2f} s){_processor(figures, 'remove')}"
    else:
        table.add(f"{what} from nothing to the first console line, {mode}", f"{figures.middle('start'):.2f} s beyond ping")
        removal, removed = None, f"{figures.middle('remove'):.2f} s beyond ping"
    table.add(f"the same again, nothing to change, {mode}", f"{figures.middle('again'):+.2f} s beyond ping", "<= 1.5 s at 500", at_500("again") <= 1.5)
    table.add(f"`vmcp_vm_info` of {what} that run, {mode}", f"{figures.middle('info'):+.2f} s beyond ping", "<= 1.0 s at 500", at_500("info") <= 1.0)
    table.add(f"removing {what}, {mode}", removed, "<= 2 x", None if removal is None else removal <= 2)
    peak = max(figures.peaks.values())
    each = ", ".join(f"{name} {size / MIB:.0f}" for name, size in sorted(figures.peaks.items()))
    table.add(f"peak memory of a module process, {what}, {mode}", f"{peak / MIB:.0f} MiB ({each}; VmHWM)", "<= 150 MiB at 1000", peak <= 150 * MIB)
    table.add(f"what is resident beside the VMMs while {what} run, {mode}", figures.resident)
    table.add(
        f"what is left after removing {what}, {mode}", "; ".join(figures.left[:3]) or "nothing: no process, no mount, no file", "nothing", not figures.left
    )
    table.add(f"the first `vmcp_vms` of a play (Ansible builds the module), {mode}", f"{figures.middle('first_use'):+.2f} s beyond ping, once")


def _processor(figures: Figures, what: str) -> str:
    """Milliseconds of processors a VM, ours and the floor's: what a machine with other work still tells."""
    if not figures.middle(f"floor_{what}_processor"):
        return ""
    ours, floor = (figures.middle(name) / figures.count * 1000 for name in (f"{what}_processor", f"floor_{what}_processor"))
    return f"; processors {figures.ratio(f'{what}_processor', f'floor_{what}_processor'):.2f} x ({ours:.1f}; {floor:.1f} ms a VM)"


def growth(ground: Ground, table: Table, jailed: bool, mode: str) -> None:
    """Cost per VM at a thousand against that at a hundred."""
    lacks = memory_lacks(GROWTH_TO)
    if lacks:
        table.leave_out(f"growth, {mode}", lacks)
        return
    few, many = (measure(ground, count, jailed, rounds) for count, rounds in ((GROWTH_FROM, 3), (GROWTH_TO, 1)))
    for name, words in (("start", "start"), ("again", "nothing to change"), ("info", "`vmcp_vm_info`"), ("remove", "removal")):
        small, large = few.middle(name) / few.count * 1000, many.middle(name) / many.count * 1000
        what = f"growth: cost a VM at {many.count} against that at {few.count}, {words}, {mode}"
        table.add(what, f"{large / small:.2f} x ({large:.2f} ms; {small:.2f} ms)", "<= 1.25 x", large <= 1.25 * small)
    floor = many.middle("floor_start") / many.count / (few.middle("floor_start") / few.count)
    table.add(f"growth of the shell loop itself, {mode}", f"{floor:.2f} x")
    rows(table, many, mode)


# --- one round ---------------------------------------------------------------------------------------------
def _round(ground: Ground, figures: Figures, jailed: bool) -> None:
    common = ground.vm(labels=LABELS, wait_for=[{"console": GREETING}], security={"jail": jailed})
    fleet = {"defaults": common, "vms": [{"name": PATTERN, "count": figures.count}], "overcommit": True, "wait_timeout": WAIT_S}
    gone = {"vms": [], "prune": {"labels": LABELS, "allow_empty": True}}
    info: Task = {"name": "info", "unkey.vmcp.vmcp_vm_info": {}}
    first = {"name": "first use", "unkey.vmcp.vmcp_vms": gone}
    again = {"name": "again", "unkey.vmcp.vmcp_vms": fleet}
    with contextlib.ExitStack() as stack:
        stack.callback(_round_ends, ground, figures, first, gone)
        tasks = [PING, first, {**info, "name": "first info"}, PING, {"name": "start", "unkey.vmcp.vmcp_vms": fleet}, PING, again, again, PING, info, info, PING]
        took = ground.play(tasks, deadline_s=PLAY_DEADLINE_S)
        for name, into in (("start", figures.start), ("again", figures.again), ("info", figures.info), ("first use", figures.first_use)):
            into.append(took.beyond_ping_s(name))
        figures.start_processor.append(took.processor_beyond_ping_s("start"))
        _note_peaks(figures, took.peaks)
        figures.resident = _resident(ground)


def _round_ends(ground: Ground, figures: Figures, first: Task, gone: dict[str, t.Any]) -> None:
    took = ground.play(
        [PING, {**first, "unkey.vmcp.vmcp_vms": {"vms": []}}, PING, {"name": "remove", "unkey.vmcp.vmcp_vms": gone}, PING], deadline_s=PLAY_DEADLINE_S
    )
    figures.remove.append(took.beyond_ping_s("remove"))
    figures.remove_processor.append(took.processor_beyond_ping_s("remove"))
    _note_peaks(figures, took.peaks)
    figures.left = ground.left_behind()


def _note_peaks(figures: Figures, peaks: t.Mapping[str, t.Sequence[int]]) -> None:
    for module, sizes in peaks.items():
        if module != "ping":
            figures.peaks[module] = max(figures.peaks.get(module, 0), *sizes)


def _resident(ground: Ground) -> str:
    """Proportional set sizes: what would be free without them."""
    numbers: collections.Counter[str] = collections.Counter()
    sizes: collections.Counter[str] = collections.Counter()
    for pid, name in ground.resident().items():
        if not name.startswith(("firecracker", "qemu")):
            numbers[name] += 1
            sizes[name] += _pss_bytes(pid)
    said = [f"{number} {name} with {sizes[name] / MIB:.1f} MiB (PSS)" for name, number in numbers.items()]
    return "; ".join(said) or "nothing"


def _pss_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
