# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what the user wrote to C(VmConfig), or to everything that is wrong with it, whatever the backend.

Three steps: C(walk) goes through the tree along its shape (unknown and reserved keys, nulls, what is no JSON value), pydantic checks each value, and
C(rules) checks the values against each other. Values that are wrong in themselves are taken out before the last step, so
that the user sees all violations of all three at once and no violation that is only the echo of another.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import re
import types
import typing as t

from ..errors import InvalidArgument, Violation
from ..thirdparty_pydantic import ValidationError
from .config import VmConfig
from .merge import merge_config
from .rules import ROOT, broken_rules
from .shape import SHAPE
from .units import format_size
from .walk import REJECTED, Loc, Walk, nearest, notation, shown, unwrap

_NOTHING: t.Mapping[str, t.Any] = types.MappingProxyType({})


# Trees read before: a fleet's VMs are of few kinds. A bound, because each of a thousand could be of its own kind.
_READ_MAX = 128
_read: dict[tuple[str, str], tuple[t.Optional[VmConfig], tuple[Violation, ...]]] = {}


def validate(tree: t.Any, path: str = ROOT) -> tuple[t.Optional[VmConfig], list[Violation]]:
    """The configuration, or None and all violations. C(tree) is the inner tree or the outer document C({"config": …}); C(path) names it in messages.

    Equal trees give the very same object, which nobody changes."""
    try:
        key = (repr(tree), path)
    except RecursionError:
        key = None
    if key is not None and key in _read:
        config, found = _read[key]
        return config, list(found)
    config, violations, _given = validate_given(tree, path)
    if len(_read) >= _READ_MAX:
        _read.clear()
    if key is not None:
        _read[key] = (config, tuple(violations))
    return config, violations


def read_config(tree: t.Any, path: str = ROOT) -> VmConfig:
    """As C(validate), for a tree that ought to be right; InvalidArgument with all violations otherwise."""
    config, violations = validate(tree, path)
    if config is None:
        raise InvalidArgument.of(violations)
    return config


def validate_given(
    tree: t.Any, path: str = ROOT, *, stored: t.Optional[t.Mapping[str, t.Any]] = _NOTHING
) -> tuple[t.Optional[VmConfig], list[Violation], dict[str, t.Any]]:
    """As C(validate), and third the tree as it was given: only the keys given, values normalised, explicit nulls kept (C(merge_config) reads it)."""
    reading = read_tree(tree, path, stored=stored)
    return (None, reading.violations, {}) if reading.violations or reading.config is None else (reading.config, [], reading.given)


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a tree says as far as it is right. C(config): of the values that are, None where there is no telling; C(bad): the fields that are not, as
    C(config.storage[0].path); C(given): as C(validate_given) returns it."""

    config: t.Optional[VmConfig]
    violations: list[Violation]
    given: dict[str, t.Any]
    bad: frozenset[str]


def read_tree(tree: t.Any, path: str = ROOT, *, stored: t.Optional[t.Mapping[str, t.Any]] = _NOTHING) -> Reading:
    """C(stored): the configuration into which the tree is to be merged; values are held against each other, and returned, as they will be then. None: not
    known yet; what is left out is then not taken for its default, and rules that look at it wait (the merged tree must be validated once more)."""
    inner, violations = unwrap(tree, path)
    walk = Walk(path)
    cleaned = walk.fields(inner, SHAPE, (), 0)
    violations += walk.violations
    config, wrong = _parse(cleaned, walk.bad)
    violations += [Violation(notation(loc, path), text) for loc, text in wrong]
    bad = frozenset(notation(loc, ROOT) for loc in (*walk.bad, *(loc for loc, _text in wrong)))
    given: dict[str, t.Any] = {}
    if config is not None:
        given = config.model_dump(exclude_unset=True)
        _restore_nulls(given, inner, SHAPE)
        if stored:
            # Walked as well: what is stored may have keys of another version, which are kept and not judged.
            config, _wrong = _parse(Walk(path).fields(merge_config(stored, given), SHAPE, (), 0), ())
    if config is not None:
        violations += broken_rules(config, bad, path, known=given if stored is None else None)
    return Reading(config, violations, given, bad)


def _parse(cleaned: t.Any, rejected: t.Sequence[Loc]) -> tuple[t.Optional[VmConfig], list[tuple[Loc, str]]]:
    """The configuration of what is right, and what is wrong. Wrong values are taken out and the rest is read again, for the rules.
    What lies within a C(rejected) part has been told already."""
    wrong: list[tuple[Loc, str]] = []
    if cleaned is REJECTED:
        return None, wrong
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
        return _TEXTS[kind].format(**context)
    return f"is not valid here: {error['msg']}."


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


def _restore_nulls(given: t.Any, tree: t.Any, shape: t.Mapping[str, t.Any]) -> None:
    """Puts the explicit nulls of C(tree) back into C(given): they ask for the default, which is not the same as leaving the option out."""
    if not isinstance(tree, collections.abc.Mapping):
        return
    for key, item in tree.items():
        node = shape.get(key) if isinstance(key, str) else None
        if node is None:
            continue
        if item is None:
            given[str(key)] = None
        elif key not in given:
            continue  # it was wrong, and taken out
        elif node["kind"] == "tree":
            _restore_nulls(given[key], item, node["fields"])
        elif node["kind"] == "list":
            for kept, entry in zip(given[key], item, strict=True):
                _restore_nulls(kept, entry, node["fields"])
