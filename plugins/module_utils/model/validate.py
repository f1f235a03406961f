# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what the user wrote to C(VmConfig), or to everything that is wrong with it, whatever the backend.

Three steps: C(walk) goes through the tree along its shape (unknown and reserved keys, nulls, what is no JSON value); each value is checked, by C(plain)
where all are right and by pydantic where not (C(judge)); and C(rules) checks the values against each other. Values that are wrong in themselves are taken
out before the last step, so that the user sees all violations of all three at once and no violation that is only the echo of another.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import types
import typing as t

from ..errors import InvalidArgument, Violation
from .merge import merge_config
from .plain import accept
from .rules import ROOT, broken_rules
from .shape import SHAPE
from .walk import REJECTED, Loc, Walk, notation, unwrap

if t.TYPE_CHECKING:
    from .config import VmConfig

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
    """The configuration of what is right, and what is wrong. What lies within a C(rejected) part has been told already."""
    if cleaned is REJECTED:
        return None, []
    plain = accept(cleaned)
    if plain is not None:
        return t.cast("VmConfig", plain), []
    from .judge import judge

    return judge(cleaned, rejected)


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
