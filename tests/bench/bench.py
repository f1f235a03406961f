# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints what our tasks cost as ratios measured in one run:  python tests/bench/bench.py [--vms N] [--growth] [--write]

Every figure is taken against a floor that is measured beside it, in turn, so that a machine that is slow today is slow for both. Nothing is asserted:
this is for reading, and for comparing two checkouts on one machine. Firecracker is the real one when 'firecracker' is on PATH and /dev/kvm opens; else
QEMU runs a few VMs where that tells anything, the rows that need Firecracker are left out, and the reason is printed.

It takes minutes, and clears up after itself also when it fails or is interrupted. As root it measures the jailer too.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import sys
import typing as t

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

import clones  # noqa: E402
import many  # noqa: E402
import networks  # noqa: E402
import payload  # noqa: E402
import single  # noqa: E402
import today  # noqa: E402
import units  # noqa: E402
from ground import Ground, NoOtherUser, ground, ground_of_ordinary_user, memory_lacks  # noqa: E402
from meter import NoMeter, counted  # noqa: E402
from table import PAGE, Table, machine  # noqa: E402

QEMU_VMS = 8
NETWORK_VMS = 100
NO_FIRECRACKER = "no 'firecracker' on PATH, or /dev/kvm does not open"
PARTS = ("single", "many", "systemd", "networks", "today", "payload", "clones")


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, _ended)
    signal.signal(signal.SIGALRM, _ended)
    signal.alarm(options.minutes * 60)
    table = Table()
    backend = _backend()
    with contextlib.ExitStack() as stack:
        try:
            meter = stack.enter_context(counted())
        except NoMeter as exc:
            table.leave_out("processor time", str(exc))
            meter = ""
        made = stack.enter_context(ground(backend, meter))
        about = machine(made.place)
        if "single" in options.only:
            _single(made, table, options)
        each_s = _many(made, table, options) if "many" in options.only else None
        if "networks" in options.only:
            networks.measure(made, table, options.rounds, min(options.vms, NETWORK_VMS), options.many_rounds)
        if "today" in options.only and backend == "firecracker":
            today.today(made, table, each_s, options.vms)
        elif "today" in options.only:
            table.leave_out("what people do today", NO_FIRECRACKER)
        if "payload" in options.only:
            payload.sizes(made, table)
        if "clones" in options.only:
            clones.rows(made, table)
        if "systemd" in options.only and backend == "firecracker":
            units.rows(table, backend, options.vms, options.many_rounds)
        elif "systemd" in options.only:
            table.leave_out("many VMs under systemd", NO_FIRECRACKER)
    print("\n" + "\n".join(f"- {line}" for line in about) + f"\n\n{table.text()}")
    if options.write:
        table.write(about, " ".join(["tests/bench/bench.py", *(word for word in sys.argv[1:] if word != "--write")]))
        print(f"\nwritten to {PAGE.relative_to(PAGE.parents[1])}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vms", type=int, default=500, metavar="N", help="how many VMs in one task (default 500)")
    parser.add_argument("--rounds", type=int, default=15, help="for one VM (default 15)")
    parser.add_argument("--many-rounds", type=int, default=3, help="for many VMs (default 3)")
    parser.add_argument("--growth", action="store_true", help="also compare 1000 VMs with 100: minutes more, and 16 GiB of memory")
    parser.add_argument("--runtime", action="store_true", help="also with the system's Python and the runtime that the role vmcp_host installs (applied first)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts of the bench (default all)")
    parser.add_argument("--minutes", type=int, default=30, help="ends the run, and clears up, when it takes longer (default 30)")
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    return parser.parse_args()


def _single(made: Ground, table: Table, options: argparse.Namespace) -> None:
    single.no_change(made, table, "this environment's Python", options.rounds)
    if options.runtime:
        single.with_runtime(made, table, options.rounds)
    else:
        table.leave_out("the system's Python with the installed runtime", "give --runtime, as root")
    for jailed, where in _ways(made, table, "the start of one Firecracker VM"):
        single.start(where, table, jailed, options.rounds)


def _many(made: Ground, table: Table, options: argparse.Namespace) -> float | None:
    """Seconds that a VM cost, bare."""
    if made.backend != "firecracker":
        figures = many.measure(made, QEMU_VMS, True, options.many_rounds)
        many.rows(table, figures, "QEMU: no Firecracker here")
    lacks = memory_lacks(options.vms)
    if lacks:
        table.leave_out(f"{options.vms} VMs", lacks)
        return None
    each_s = None
    for jailed, where in _ways(made, table, f"{options.vms} Firecracker VMs against the shell loop"):
        mode = many.MODES[jailed].partition(":")[0].partition(" ")[0]
        table.notes.append(many.MODES[jailed])
        figures = many.measure(where, options.vms, jailed, options.many_rounds)
        many.rows(table, figures, mode)
        each_s = each_s or figures.middle("start") / figures.count
        if options.growth:
            many.growth(where, table, jailed, mode)
    return each_s


def _ways(made: Ground, table: Table, what: str) -> t.Iterator[tuple[bool, Ground]]:
    """Whether jailed, and where, for what this machine can do of it. Bare is what an ordinary user has."""
    if made.backend != "firecracker":
        table.leave_out(what, NO_FIRECRACKER)
        return
    if os.geteuid() != 0:
        yield False, made
        table.leave_out(f"{what}, jailed", "needs root")
        return
    try:
        with ground_of_ordinary_user(made.backend, made.meter) as theirs:
            yield False, theirs
    except NoOtherUser as exc:
        table.leave_out(f"{what}, bare", str(exc))
    if shutil.which("jailer"):
        yield True, made
    else:
        table.leave_out(f"{what}, jailed", "no 'jailer' on PATH")


def _backend() -> str:
    real = shutil.which("firecracker") and os.access("/dev/kvm", os.R_OK | os.W_OK)
    if not real and not shutil.which("qemu-system-x86_64"):
        raise SystemExit("Neither Firecracker nor QEMU is here: install qemu-system-x86, or put firecracker on PATH.")
    return "firecracker" if real else "qemu"


def _ended(number: int, frame: t.Any) -> t.NoReturn:
    signal.alarm(0)
    raise SystemExit(f"ended by {signal.Signals(number).name} (see --minutes)")


if __name__ == "__main__":
    raise SystemExit(main())
