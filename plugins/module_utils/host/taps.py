# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes taps of VMs that go: any number at once. Standard library only.

The kernel waits, for each removal of an interface, until nobody looks at it any more: some 20 ms. For interfaces that are removed as one group it waits once.
"""

from __future__ import annotations

import os
import re
import typing as t

from .network import programs

NET = "/sys/class/net"
REMOVE_S = 30.0
# Taps have it for the moment between two lines of one batch. Whoever else removes taps of ours meanwhile may take these along.
_GROUP = 0x766D6370
_NAME = re.compile(r"[A-Za-z0-9_-]{1,15}")


def remove_taps(names: t.Collection[str]) -> list[str]:
    """The names of those that are still there afterwards. One that is not there is fine. DeadlineExceeded when the kernel does not come to an end with it,
    FailedPrecondition where C(ip) is missing."""
    there = _still(names)
    if there:
        lines = [*(f"link set dev {name} group {_GROUP}" for name in there), f"link delete group {_GROUP}"]
        # What went meanwhile is refused, and the rest done all the same; what became of it is looked at, not asked.
        programs.run(["ip", "-force", "-batch", "-"], "\n".join([*lines, ""]), REMOVE_S, fails=True)
    return _still(there)


def _still(names: t.Collection[str]) -> list[str]:
    return [name for name in names if _NAME.fullmatch(name) and os.path.lexists(f"{NET}/{name}")]
