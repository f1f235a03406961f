# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what the user wrote to C(VmConfig), or to everything that is wrong with it, whatever the backend.

Three steps: C(_clean) walks the tree along its shape (unknown and reserved keys, nulls, what is no JSON value), pydantic checks each value, and
C(rules) checks the values against each other. Values that are wrong in themselves are taken out before the last step, so
that the user sees all violations of all three at once and no violation that is only the echo of another.
"""

from __future__ import annotations

import collections.abc
import difflib
import re
import typing as t

from ..errors import InvalidArgument, Violation
from ..thirdparty_pydantic import ValidationError
from .config import VmConfig
from .fields import RESERVED
from .merge import merge_config
from .rules import ROOT, broken_rules
from .shape import SHAPE
from .units import format_size

# Deeper than any document of a VMM, shallower than Python's recursion limit.
MAX_DEPTH = 40

_NOTHING: t.Mapping[str, t.Any] = {}
Loc = tuple[t.Union[str, int], ...]


def validate(tree: t.Any, path: str = ROOT) -> tuple[t.Optional[VmConfig], list[Violation]]:
    """The configuration, or None and all violations. C(tree) is the inner tree or the outer document C({"config": …}); C(path) names it in messages."""
    config, violations, _given = validate_given(tree, path)
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
    """As C(validate), and third the tree as it was given: only the keys given, values normalised, explicit nulls kept (C(merge_config) reads it).

    C(stored): the configuration into which the tree is to be merged; values are held against each other, and returned, as they will be then. None: not known
    yet; what is left out is then not taken for its default, and rules that look at it wait (the merged tree must be validated once more)."""
    inner, violations = unwrap(tree, path)
    walk = _Walk(path)
    cleaned = walk.fields(inner, SHAPE, (), 0)
    violations += walk.violations
    config, wrong = _parse(cleaned, walk.bad)
    violations += [Violation(notation(loc, path), text) for loc, text in wrong]
    bad = [*walk.bad, *(loc for loc, _text in wrong)]
    given: dict[str, t.Any] = {}
    if config is not None:
        given = config.model_dump(exclude_unset=True)
        _restore_nulls(given, inner, SHAPE)
        if stored:
            config = VmConfig.model_validate(merge_config(stored, given))
        violations += broken_rules(config, frozenset(notation(loc, ROOT) for loc in bad), path, known=given if stored is None else None)
    return (None, violations, {}) if violations or config is None else (config, [], given)


def unwrap(tree: t.Any, path: str = ROOT) -> tuple[t.Any, list[Violation]]:
    """The tree without the outer document C({"config": …}) that the existing API's files have around it; keys beside it are violations."""
    if not isinstance(tree, collections.abc.Mapping) or "config" not in tree:
        return tree, []
    beside = [
        Violation(
            _join(path, _shown(key)),
            "stands beside 'config' in the document; only the tree under 'config' belongs here. Give it as an option of the task, beside 'config'.",
        )
        for key in tree
        if key != "config"
    ]
    return tree["config"], beside


def notation(loc: Loc, path: str = ROOT) -> str:
    """C(config.storage[0].path) of C(("storage", 0, "path"))."""
    for step in loc:
        path = f"{path}[{step}]" if isinstance(step, int) else _join(path, step)
    return path


def nearest(key: str, known: t.Iterable[str]) -> str:
    """A sentence naming the nearest known word, or an empty text."""
    words = list(known)
    folded = {word.lower().replace("_", ""): word for word in words}
    close = difflib.get_close_matches(key.lower().replace("_", "").replace("-", ""), folded, n=1, cutoff=0.55)
    # A part of a name is a frequent slip that edit distance does not see: 'kernel' for 'kernel_path'.
    parts = [word for word in words if key.lower() in word.split("_")] if not close else []
    found = folded[close[0]] if close else (parts[0] if parts else None)
    return f" Did you mean '{found}'?" if found else ""


class _Walk:
    """Rebuilds the tree from plain dicts and lists along the shape, without nulls, and notes what has no place in it.

    Rebuilding matters on the controller too: Ansible hands filters lazy containers, which a compiled parser would read past."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.violations: list[Violation] = []
        self.bad: list[Loc] = []

    def fields(self, value: t.Any, shape: t.Mapping[str, t.Any], loc: Loc, depth: int) -> t.Any:
        if value is None and not loc:
            return {}
        if not isinstance(value, collections.abc.Mapping):
            return self._reject(loc, f"must be a dictionary, not {_kind(value)}.")
        cleaned = {}
        for key, item in value.items():
            node = shape.get(key) if isinstance(key, str) else None
            if node is None:
                self._unknown(key, shape, loc)
            elif item is not None:
                result = self._node(item, node, (*loc, str(key)), depth + 1)
                if result is not _REJECTED:
                    cleaned[str(key)] = result
        return cleaned

    def _node(self, value: t.Any, node: t.Mapping[str, t.Any], loc: Loc, depth: int) -> t.Any:
        if node["kind"] == "tree":
            return self.fields(value, node["fields"], loc, depth)
        if node["kind"] == "list":
            if not isinstance(value, collections.abc.Sequence) or isinstance(value, (str, bytes)):
                return self._reject(loc, f"must be a list, not {_kind(value)}.")
            entries = [self.fields(entry, node["fields"], (*loc, index), depth) for index, entry in enumerate(value)]
            # An empty entry holds the place of a rejected one: the indices of the others must not shift.
            return [{} if entry is _REJECTED else entry for entry in entries]
        return self._plain(value, loc, depth)

    def _plain(self, value: t.Any, loc: Loc, depth: int) -> t.Any:
        """JSON values of a leaf, as they are; lists and dictionaries copied."""
        if depth > MAX_DEPTH:
            return self._reject(loc, f"is nested more than {MAX_DEPTH} levels deep.")
        if isinstance(value, collections.abc.Mapping):
            if not all(isinstance(key, str) for key in value):
                return self._reject(loc, "has keys that are not text; quote them in YAML.")
            return self._whole({key: self._plain(item, loc, depth + 1) for key, item in value.items()})
        if isinstance(value, collections.abc.Sequence) and not isinstance(value, (str, bytes)):
            copied = [self._plain(item, loc, depth + 1) for item in value]
            return _REJECTED if any(item is _REJECTED for item in copied) else copied
        if value is None or isinstance(value, (str, bool, int, float)):
            return value
        return self._reject(loc, f"must be text, a number, a boolean, a list or a dictionary, not {_kind(value)}.")

    @staticmethod
    def _whole(copied: dict[str, t.Any]) -> t.Any:
        return _REJECTED if any(item is _REJECTED for item in copied.values()) else copied

    def _reject(self, loc: Loc, text: str) -> t.Any:
        if loc not in self.bad:
            self.violations.append(Violation(notation(loc, self.path), text))
            self.bad.append(loc)
        return _REJECTED

    def _unknown(self, key: t.Any, shape: t.Mapping[str, t.Any], loc: Loc) -> None:
        place = re.sub(r"\[\d+\]", "[]", notation(loc, ROOT))
        where = _join(notation(loc, self.path), _shown(key))
        if isinstance(key, str) and key in RESERVED.get(place, ()):
            text = "is reserved: this version of unkey.vmcp does not have it yet. Leave it out."
        else:
            hint = nearest(key, shape) if isinstance(key, str) else ""
            text = f"is no key of the configuration.{hint or ' Known here: ' + ', '.join(shape) + '.'}"
        self.violations.append(Violation(where, text))


_REJECTED: t.Any = object()


def _parse(cleaned: t.Any, rejected: t.Sequence[Loc]) -> tuple[t.Optional[VmConfig], list[tuple[Loc, str]]]:
    """The configuration of what is right, and what is wrong. Wrong values are taken out and the rest is read again, for the rules.
    What lies within a C(rejected) part has been told already."""
    wrong: list[tuple[Loc, str]] = []
    if cleaned is _REJECTED:
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
        return f"must be one of {expected}, not {_shown(given)!r}.{hint}"
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


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _shown(value: t.Any) -> str:
    """A value or key as it can stand in a message: one line, bounded."""
    text = str(value) if isinstance(value, (str, int, float, bool)) else _kind(value)
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _kind(value: t.Any) -> str:
    if isinstance(value, collections.abc.Mapping):
        return "a dictionary"
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, collections.abc.Sequence) and not isinstance(value, bytes):
        return "a list"
    return "null" if value is None else type(value).__name__
