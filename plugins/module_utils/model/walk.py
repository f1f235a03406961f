# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree that a user wrote, gone through along its shape: what has no place in it, and what it is without that.

Rebuilding it from plain dicts and lists matters on the controller too: Ansible hands filters lazy containers, which a compiled parser would read past.
"""

from __future__ import annotations

import collections.abc
import math
import re
import typing as t

from ..errors import Violation
from .readers import RESERVED
from .rules import ROOT
from .shape import SHAPE

# Deeper than any document of a VMM, shallower than Python's recursion limit.
MAX_DEPTH = 40

Loc = tuple[t.Union[str, int], ...]
# Stands in for a part that is wrong as a whole.
REJECTED: t.Any = object()


def unwrap(tree: t.Any, path: str = ROOT) -> tuple[t.Any, list[Violation]]:
    """The tree without the outer document C({"config": …}) that the existing API's files have around it; keys beside it are violations."""
    if not isinstance(tree, collections.abc.Mapping) or "config" not in tree:
        return tree, []
    beside = [
        Violation(
            _join(path, shown(key)),
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
    # To find the nearest word is what one does for a mistake; to import what finds it, for a task.
    import difflib

    words = list(known)
    folded = {word.lower().replace("_", ""): word for word in words}
    close = difflib.get_close_matches(key.lower().replace("_", "").replace("-", ""), folded, n=1, cutoff=0.55)
    # A part of a name is a frequent slip that edit distance does not see: 'kernel' for 'kernel_path'.
    parts = [word for word in words if key.lower() in word.split("_")] if not close else []
    found = folded[close[0]] if close else (parts[0] if parts else None)
    return f" Did you mean '{found}'?" if found else ""


def _elsewhere(key: str) -> str:
    """A sentence naming where a key belongs that is right, but in the wrong place; empty when it is in none or in several."""
    places = [place for place in _places(SHAPE, ROOT, key) if "[]" not in place]
    return f" It belongs under {places[0]}." if len(places) == 1 else ""


def _places(shape: t.Mapping[str, t.Any], path: str, key: str) -> t.Iterator[str]:
    for name, node in shape.items():
        if name == key:
            yield path
        if "fields" in node:
            yield from _places(node["fields"], f"{path}.{name}{'[]' if node['kind'] == 'list' else ''}", key)


class Walk:
    """Rebuilds the tree from plain dicts and lists, without nulls. C(violations): what it found; C(bad): the places that it rejected."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.violations: list[Violation] = []
        self.bad: list[Loc] = []

    def fields(self, value: t.Any, shape: t.Mapping[str, t.Any], loc: Loc, depth: int) -> t.Any:
        if value is None and not loc:
            return {}
        if not isinstance(value, collections.abc.Mapping):
            return self._reject(loc, f"must be a dictionary, not {kind_of(value)}.")
        cleaned = {}
        for key, item in value.items():
            node = shape.get(key) if isinstance(key, str) else None
            if node is None:
                self._unknown(key, shape, loc)
            elif item is not None:
                result = self._node(item, node, (*loc, str(key)), depth + 1)
                if result is not REJECTED:
                    cleaned[str(key)] = result
        return cleaned

    def _node(self, value: t.Any, node: t.Mapping[str, t.Any], loc: Loc, depth: int) -> t.Any:
        if node["kind"] == "tree":
            return self.fields(value, node["fields"], loc, depth)
        if node["kind"] == "list":
            if not isinstance(value, collections.abc.Sequence) or isinstance(value, (str, bytes)):
                return self._reject(loc, f"must be a list, not {kind_of(value)}.")
            entries = [self.fields(entry, node["fields"], (*loc, index), depth) for index, entry in enumerate(value)]
            # An empty entry holds the place of a rejected one: the indices of the others must not shift.
            return [{} if entry is REJECTED else entry for entry in entries]
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
            return REJECTED if any(item is REJECTED for item in copied) else copied
        problem = _no_json(value)
        return self._reject(loc, problem) if problem else value

    @staticmethod
    def _whole(copied: dict[str, t.Any]) -> t.Any:
        return REJECTED if any(item is REJECTED for item in copied.values()) else copied

    def _reject(self, loc: Loc, text: str) -> t.Any:
        if loc not in self.bad:
            self.violations.append(Violation(notation(loc, self.path), text))
            self.bad.append(loc)
        return REJECTED

    def _unknown(self, key: t.Any, shape: t.Mapping[str, t.Any], loc: Loc) -> None:
        place = re.sub(r"\[\d+\]", "[]", notation(loc, ROOT))
        where = _join(notation(loc, self.path), shown(key))
        if isinstance(key, str) and key in RESERVED.get(place, ()):
            text = "is reserved: this version of unkey.vmcp does not have it yet. Leave it out."
        else:
            hint = (_elsewhere(key) or nearest(key, shape)) if isinstance(key, str) else ""
            text = f"is no key of the configuration.{hint or ' Known here: ' + ', '.join(shape) + '.'}"
        self.violations.append(Violation(where, text))


def _no_json(value: t.Any) -> str:
    """What keeps a single value out of every JSON document; empty when nothing does."""
    if isinstance(value, float) and not math.isfinite(value):
        return "must be a finite number."
    if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
        return "must be valid Unicode text."
    if value is None or isinstance(value, (str, bool, int, float)):
        return ""
    return f"must be text, a number, a boolean, a list or a dictionary, not {kind_of(value)}."


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def shown(value: t.Any) -> str:
    """A value or key as it can stand in a message: one line, bounded."""
    text = str(value) if isinstance(value, (str, int, float, bool)) else kind_of(value)
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= 80 else f"{text[:77]}..."


def kind_of(value: t.Any) -> str:
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
