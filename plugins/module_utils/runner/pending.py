# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the running VM differs from its definition: by our own delay (pending), or by somebody else's hand (drift). Pure, standard library only."""

from __future__ import annotations

import typing as t

from ..model.definition import Definition
from ..planner.changes import changes_between, field_value
from ..planner.situation import Situation


def pending_of(found: Situation) -> list[str]:
    """Fields of the definition that the running process does not have yet."""
    if found.process is None or found.booted is None or found.definition is None or found.booted is found.definition:
        return []
    return [c.field for c in changes_between(found.booted, found.definition) if c.disruption != "none"]


# What a VMM reports in other words than it was told, or does not report: never drift.
_UNREPORTED = ("boot.", "console.", "backend_options", "rng", "vsock.path")


def drift_of(running: Definition, reported: t.Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
    """C([{field, defined, reported}]) for every field that the VMM reports and that is not as it was started."""
    found = []
    for path, value in _leaves(reported, "config"):
        short = path.removeprefix("config.")
        if short.startswith(_UNREPORTED):
            continue
        defined = field_value(running.config, path)
        if defined is not None and defined != value:
            found.append({"field": path, "defined": defined, "reported": value})
    return found


def _leaves(tree: t.Any, path: str) -> t.Iterator[tuple[str, t.Any]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, f"{path}.{key}")
    elif isinstance(tree, list) and tree and all(isinstance(e, dict) and e.get("id") for e in tree):
        for entry in tree:
            yield from _leaves({k: v for k, v in entry.items() if k not in ("id", "path")}, f"{path}[{entry['id']}]")
    elif tree is not None:
        yield path, tree
