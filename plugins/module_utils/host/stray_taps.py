# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taps of ours that were left over: their VM is gone, and so is the record from which its launch file would have removed them. Standard library only."""

from __future__ import annotations

import os
import re
import typing as t

from .allocations import taps_given
from .files import read_kernel
from .taps import NET, remove_taps

if t.TYPE_CHECKING:
    from .layout import Layout

_OURS = re.compile(r"vm[0-9a-f]{12}")


def clear_stray_taps(layout: Layout, bridges: t.Iterable[str]) -> list[str]:
    """Removes from C(bridges), which nobody but the VMs below this state directory uses, taps that were given to none of them and that no process has open.
    Their names."""
    there = [name for bridge in bridges for name in _ports(bridge) if _OURS.fullmatch(name)]
    if not there:
        return []
    given = taps_given(layout)
    stray = [name for name in there if name not in given and not _is_open(name)]
    # One that went meanwhile is fine, and one that does not go is no reason to fail what somebody asked for.
    remove_taps(stray)
    return stray


def _ports(bridge: str) -> list[str]:
    try:
        return os.listdir(f"{NET}/{bridge}/brif")
    except OSError:
        # No such bridge: then nothing is on it.
        return []


def _is_open(tap: str) -> bool:
    """A tap has its carrier from the process that has it open."""
    try:
        return read_kernel(f"{NET}/{tap}/carrier").strip() == "1"
    except OSError:
        # It is down, or went: nobody can tell, so it is left alone.
        return True
