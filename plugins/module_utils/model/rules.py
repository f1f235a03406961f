# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold between the values of a configuration, whatever the backend.

A rule is a generator of C(Broken): where, what is wrong with the remedy, and which fields it looked at. One that looked at a field that is
wrong in itself is not reported: the user has been told the cause. The rules are in C(machine_rules) and C(device_rules).
"""

from __future__ import annotations

import re
import typing as t

from ..errors import Violation
from .device_rules import DEVICE_RULES
from .machine_rules import MACHINE_RULES

if t.TYPE_CHECKING:
    from .config import VmConfig

ROOT = "config"


def broken_rules(config: VmConfig, bad: frozenset[str], path: str = ROOT, *, known: t.Optional[t.Mapping[str, t.Any]] = None) -> list[Violation]:
    """All broken rules. C(bad): fields that are wrong in themselves, as C(config.storage[0].path). C(known): the part of the tree that may be relied on,
    when the rest of C(config) is only assumed; None for all of it."""
    found = []
    for rule in (*MACHINE_RULES, *DEVICE_RULES):
        for broken in rule(config):
            looked_at = [f"{ROOT}.{field}" for field in (broken.field, *broken.reads)]
            if known is not None and not all(_is_known(known, field) for field in (broken.field, *broken.reads)):
                continue
            if not any(overlap(field, wrong) for field in looked_at for wrong in bad):
                found.append(Violation(f"{path}.{broken.field}" if path else broken.field, broken.message))
    return found


def _is_known(known: t.Any, field: str) -> bool:
    for step in re.findall(r"[^.\[\]]+", field):
        if isinstance(known, dict) and step in known:
            known = known[step]
        elif isinstance(known, list) and step.isdigit() and int(step) < len(known):
            known = known[int(step)]
        else:
            return False
    return True


def overlap(field: str, wrong: str) -> bool:
    """Whether one is the other or lies within it."""
    return any(a == b or a.startswith((f"{b}.", f"{b}[")) for a, b in ((field, wrong), (wrong, field)))
