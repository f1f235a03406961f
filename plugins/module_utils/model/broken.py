# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rule that a configuration breaks, and the rule that most kinds of entries have in common. Standard library only."""

from __future__ import annotations

import dataclasses
import typing as t


@dataclasses.dataclass(frozen=True)
class Broken:
    """Paths are relative to the tree: C(cpu.max_vcpu_count). C(reads): other fields (or lists) that the rule looked at."""

    field: str
    message: str
    reads: tuple[str, ...] = ()


def unique(where: str, key: str, values: t.Sequence[t.Optional[str]]) -> t.Iterator[Broken]:
    seen: dict[str, int] = {}
    for index, value in enumerate(values):
        if value is None:
            continue
        first = seen.setdefault(value, index)
        if first != index:
            yield Broken(f"{where}[{index}].{key}", f"'{value}' is taken by {where}[{first}]. Give each its own.", (f"{where}[{first}].{key}",))
