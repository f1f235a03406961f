# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the values of a tree, in our words: pydantic finds it, all of it at once."""

from __future__ import annotations

import re
import typing as t

from ..thirdparty_pydantic import ValidationError
from .config import VmConfig
from .shape import SHAPE
from .units import format_size
from .walk import Loc, nearest, shown


def judge(cleaned: t.Any, rejected: t.Sequence[Loc]) -> tuple[t.Optional[VmConfig], list[tuple[Loc, str]]]:
    """The configuration of what is right, and what is wrong. Wrong values are taken out and the rest is read again, for the rules.
    What lies within a C(rejected) part has been told already."""
    wrong: list[tuple[Loc, str]] = []
    # Every round takes at least one value out; a few suffice, because one round finds all errors of one kind.
    for _round in range(4):
        try:
            return VmConfig.model_validate(cleaned), wrong
        except ValidationError as exc:
            found = {_within_shape(error["loc"]): _text(error) for error in reversed(exc.errors(include_url=False))}
            wrong += [(loc, text) for loc, text in reversed(found.items()) if not any(loc[: len(above)] == above for above in rejected)]
            for loc in found:
                _take_out(cleaned, loc)
    return None, wrong


def _within_shape(loc: Loc) -> Loc:
    """pydantic's location without what it adds for unions and validators: up to the leaf, and an index below it."""
    nodes: t.Mapping[str, t.Any] = SHAPE
    for position, step in enumerate(loc):
        if isinstance(step, int):
            continue
        node = nodes.get(step)
        if node is None or node["kind"] == "leaf":
            tail = loc[position + 1 : position + 2]
            return (*loc[: position + 1], *(tail if tail and isinstance(tail[0], int) else ()))
        nodes = node["fields"]
    return loc


def _take_out(tree: t.Any, loc: Loc) -> None:
    """Removes the value at C(loc), or what it is a required part of: up to the nearest key that may be left out."""
    holders = []
    for step in loc:
        holders.append(tree)
        tree = tree.get(step) if isinstance(tree, dict) else tree[step] if isinstance(tree, list) and isinstance(step, int) and step < len(tree) else None
    for depth in range(len(loc) - 1, -1, -1):
        holder, step = holders[depth], loc[depth]
        if isinstance(holder, dict) and step in holder and not _required(loc[: depth + 1]):
            del holder[step]
            return


def _required(loc: Loc) -> bool:
    nodes: t.Mapping[str, t.Any] = SHAPE
    node: t.Mapping[str, t.Any] = {}
    for step in loc:
        if isinstance(step, str):
            node = nodes[step]
            nodes = node.get("fields", {})
    return bool(node.get("required"))


def _text(error: t.Any) -> str:
    """Our sentence for one of pydantic's errors."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        return f"{str(context['error']).rstrip('.')}."
    if kind == "literal_error":
        expected = context["expected"]
        given = error["input"]
        hint = nearest(given, re.findall(r"'([^']*)'", expected)) if isinstance(given, str) else ""
        return f"must be one of {expected}, not {shown(given)!r}.{hint}"
    if kind == "too_long" and isinstance(error["input"], str):
        kind = "string_too_long"
    if str(error["loc"][-1]).endswith("_bytes"):
        context = {name: format_size(value) if isinstance(value, int) else value for name, value in context.items()}
    if kind in _TEXTS:
        return _TEXTS[kind].format(**context) + _unit_hint(error)
    return f"is not valid here: {error['msg']}."


def _unit_hint(error: t.Any) -> str:
    """For the one who wrote 512 and meant MiB."""
    given = error["input"]
    is_size = error["type"] == "greater_than_equal" and str(error["loc"][-1]).endswith("_bytes") and isinstance(given, int)
    return f" A number alone is bytes: for MiB write {given}M." if is_size and 0 < given < 65536 else ""


_TEXTS = {
    "missing": "is required here.",
    "greater_than_equal": "must be at least {ge}.",
    "less_than_equal": "must be at most {le}.",
    "too_short": "must have at least {min_length} entry.",
    "too_long": "must have at most {max_length} entries.",
    "string_too_long": "must have at most {max_length} characters.",
    "list_type": "must be a list.",
    "dict_type": "must be a dictionary.",
    "string_unicode": "must be valid Unicode text.",
}
