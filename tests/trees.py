# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees that no user would write, for tests that nothing ever ends in a traceback."""

from __future__ import annotations

import random
import typing as t

VALUES: tuple[t.Any, ...] = (
    None, True, False, 0, -1, 1, 3, 10**30, 1.5, float("nan"), float("inf"), "", "x", "5", "1G", "/a", "/a/../b", "a\nb", "\udcff", "9" * 5000,
    "1." + "9" * 400, [], [None], [[]], [{}], {}, {"a": {}}, {1: 2}, {"id": "x"}, {"path": "/a"}, "9" * 15 + "p",
)  # fmt: skip


def random_tree(chance: random.Random, shape: t.Mapping[str, t.Any]) -> t.Any:
    """Something like a configuration: keys along C(shape), values from everywhere, now and then a part that has no place there."""
    if chance.random() < 0.04:
        return chance.choice(VALUES)
    tree: dict[t.Any, t.Any] = {}
    for key, node in shape.items():
        if chance.random() < 0.5:
            continue
        if node["kind"] == "list":
            tree[key] = [random_tree(chance, node["fields"]) for dummy in range(chance.randrange(3))]
        else:
            tree[key] = random_tree(chance, node["fields"]) if node["kind"] == "tree" else chance.choice(VALUES)
    if chance.random() < 0.1:
        tree[chance.choice(["unknown", 7, None, "numa", "\x1b[31m"])] = chance.choice(VALUES)
    return tree
