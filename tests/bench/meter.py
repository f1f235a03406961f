# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processor time of all that we start, the VMMs too: a control group of our own counts it. On a busy machine it says more than the clock does."""

from __future__ import annotations

import contextlib
import os
import pathlib
import typing as t


class NoMeter(Exception):
    """Why processor time cannot be counted here."""


@contextlib.contextmanager
def counted() -> t.Iterator[str]:
    """This process and its children are in a group of their own meanwhile; the path of the file that counts (C(read_s)). NoMeter where it cannot be."""
    parent = _parent()
    own = parent / f"vmcp-bench-{os.getpid()}"
    try:
        own.mkdir()
        (own / "cgroup.procs").write_text(str(os.getpid()))
    except OSError as exc:
        raise NoMeter(f"no control group can be made: {exc}") from exc
    try:
        yield str(own / ("cpuacct.usage" if (own / "cpuacct.usage").exists() else "cpu.stat"))
    finally:
        (parent / "cgroup.procs").write_text(str(os.getpid()))
        own.rmdir()


def read_s(counter: str) -> float:
    """Seconds so far, of either version's file."""
    text = pathlib.Path(counter).read_text(encoding="ascii")
    if counter.endswith("cpuacct.usage"):
        return int(text) / 1e9
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("usage_usec"))) / 1e6


def _parent() -> pathlib.Path:
    """The directory of the group that we are in: version 1's hierarchy that counts, else version 2's."""
    ours = [line.split(":", 2) for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines()]
    mounts = [line.split() for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()]
    for kind, option, controllers in (("cgroup", "cpuacct", "cpuacct"), ("cgroup2", "", "")):
        at = [words[1] for words in mounts if words[2] == kind and (not option or option in words[3].split(","))]
        path = [where for dummy, names, where in ours if controllers in names.split(",")]
        if at and path:
            return pathlib.Path(at[0] + path[0])
    raise NoMeter("no hierarchy of control groups that counts processor time is mounted")
