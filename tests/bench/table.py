# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows, what was left out and why, and the machine: printed, and written into the documentation."""

from __future__ import annotations

import dataclasses
import datetime
import os
import pathlib
import platform
import shutil
import subprocess
import sys

from ground import ROOT

BEGIN, END = "<!-- written by tests/bench/bench.py --write -->", "<!-- end of what bench.py wrote -->"
PAGE = ROOT / "docs" / "benchmarks.md"


@dataclasses.dataclass
class Table:
    """C(rows): what, measured, goal, and whether it is met (yes, no, or nothing where there is no goal)."""

    rows: list[tuple[str, str, str, str]] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    left_out: list[str] = dataclasses.field(default_factory=list)

    def add(self, what: str, measured: str, goal: str = "", met: bool | None = None) -> None:
        self.rows.append((what, measured, goal, "" if met is None else "yes" if met else "no"))
        print(f"{what}: {measured}", file=sys.stderr, flush=True)

    def leave_out(self, what: str, why: str) -> None:
        self.left_out.append(f"{what}: {why}")
        print(f"left out: {what}: {why}", file=sys.stderr, flush=True)

    def text(self) -> str:
        head = ("what", "measured", "goal", "met")
        widths = [max(len(row[column]) for row in [head, *self.rows]) for column in range(4)]
        lines = [head, tuple("-" * width for width in widths), *self.rows]
        out = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines]
        for title, lines_below in (("The words:", self.notes), ("Left out:", self.left_out)):
            out += ["", title, "", *(f"- {line}" for line in lines_below)] if lines_below else []
        return "\n".join(out)

    def write(self, machine: list[str], command: str) -> None:
        """Between the marks of the page; the words around them are a person's."""
        before, mark, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        dummy, end, after = rest.partition(END)
        if not mark or not end:
            raise SystemExit(f"{PAGE} has lost the marks between which the table goes.")
        lines = "\n".join(f"- {line}" for line in machine)
        PAGE.write_text(f"{before}{BEGIN}\n\n`{command}`\n\n{lines}\n\n{self.text()}\n\n{END}{after}", encoding="utf-8")


def machine(place: pathlib.Path) -> list[str]:
    """What the figures depend on."""
    cpus = _lines("/proc/cpuinfo")
    model = next((line.partition(":")[2].strip() for line in cpus if line.startswith("model name")), platform.machine())
    virtual = any(line.startswith("flags") and " hypervisor" in line for line in cpus)
    memory_kib = next(int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal:"))
    said = [
        f"{datetime.date.today().isoformat()}, {_first(['git', '-C', str(ROOT), 'describe', '--always', '--dirty'])}",
        f"{len(os.sched_getaffinity(0))} CPUs {model}{', itself a virtual machine (nested KVM)' if virtual else ''}, {memory_kib / (1 << 20):.1f} GiB memory",
        f"Linux {platform.release().partition('-')[0]}, state on {_said(['df', '--output=fstype', str(place)])[-1]}, "
        f"load {os.getloadavg()[0]:.1f} before the run (what else runs on the machine shows in every figure)",
        f"Python {platform.python_version()}, {_first([str(pathlib.Path(sys.executable).parent / 'ansible'), '--version'])}",
    ]
    return said + [_first([binary, "--version"]) for name in ("firecracker", "qemu-system-x86_64") if (binary := shutil.which(name))]


def _lines(path: str) -> list[str]:
    return pathlib.Path(path).read_text(encoding="utf-8").splitlines()


def _first(command: list[str]) -> str:
    return _said(command)[0]


def _said(command: list[str]) -> list[str]:
    """The lines that a command says; no answer is an answer."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.split("\n")[:-1] or ["unknown"]
