# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The short options of a task (C(vcpus), C(memory), C(disks) …), folded into the configuration tree that they stand for."""

from __future__ import annotations

import collections.abc
import re
import typing as t

from ..errors import Violation
from .readers import INTERFACE_NAME_MAX
from .validate import validate_given
from .walk import unwrap
from .words import SHORT_OPTIONS, stands_in


def fold_short_options(params: t.Mapping[str, t.Any], config: t.Any = None) -> tuple[t.Any, list[Violation]]:
    """The configuration tree with the short options of C(params) in it, not yet validated, and violations for each that contradicts C(config).

    Values that are equal once normalised (C("2G") and C(2147483648)) do not contradict each other. A null in C(config) asks for the default and contradicts."""
    inner, violations = unwrap(config)
    given = {option: place for option, place in SHORT_OPTIONS.items() if params.get(option) is not None}
    if not given or not (inner is None or isinstance(inner, collections.abc.Mapping)):
        return (config if config is not None else {}), []
    tree: dict[str, t.Any] = dict(inner or {})
    for option, place in given.items():
        value = _entries(option, params[option])
        branch: t.Any = tree
        for depth, step in enumerate(place):
            if step not in branch:
                branch[step] = {} if depth < len(place) - 1 else value
            elif depth == len(place) - 1 or branch[step] is None:
                if not _same(place[: depth + 1], value, branch[step]):
                    field = ".".join(("config", *place[: depth + 1]))
                    violations.append(Violation(option, f"differs from {field}, which is given too. Give one of them, or both with the same value."))
                break
            elif isinstance(branch[step], collections.abc.Mapping):
                branch[step] = dict(branch[step])
            else:
                break  # wrong in itself, and told as such
            branch = branch[step]
    return tree, violations


def options_used(params: t.Mapping[str, t.Any]) -> tuple[str, ...]:
    """The short options whose values are in the folded tree: those given, less those whose place the configuration fills too."""
    inner, _beside = unwrap(params.get("config"))
    return tuple(option for option, place in SHORT_OPTIONS.items() if params.get(option) is not None and not stands_in(inner, place))


def given_names(violations: t.Sequence[Violation], options: t.Sequence[str]) -> list[Violation]:
    """The violations, with the name of the short option where the value came from one of C(options): C(disks[0].path) for C(config.storage[0].path)."""
    named = []
    for violation in violations:
        field = violation.field
        for option in options:
            path = ".".join(("config", *SHORT_OPTIONS[option]))
            if re.match(rf"{re.escape(path)}(?![A-Za-z0-9_])", field):
                field = option + field[len(path) :]
        named.append(Violation(field, violation.message))
    return named


def _entries(option: str, value: t.Any) -> t.Any:
    """Disks and networks as the tree writes them: a path or name becomes an entry, and the first disk is the root device unless one says so."""
    if option not in ("disks", "networks"):
        return value
    listed = [value] if isinstance(value, (str, collections.abc.Mapping)) else value
    if not isinstance(listed, collections.abc.Sequence):
        return value
    entries: list[t.Any] = [
        _named(option, entry) if isinstance(entry, str) else dict(entry) if isinstance(entry, collections.abc.Mapping) else entry for entry in listed
    ]
    if option == "disks" and entries and isinstance(entries[0], dict) and not any(isinstance(e, dict) and e.get("is_root_device") is not None for e in entries):
        entries[0]["is_root_device"] = True
    return entries


def _named(option: str, name: str) -> dict[str, t.Any]:
    """A disk's path; an interface's tap or bridge, unless its name can only be a network's."""
    if option == "disks":
        return {"path": name}
    return on_network(name) if len(name) > INTERFACE_NAME_MAX else {"tap_device": name}


def name_networks(networks: t.Any, there: t.Callable[[str], bool]) -> t.Any:
    """The value of the option C(networks) with those of its names made entries that are names of networks (C(there)): a text alone may also be a bridge."""
    if isinstance(networks, str):
        return [on_network(networks)] if there(networks) else networks
    if not isinstance(networks, collections.abc.Sequence):
        return networks
    return [on_network(entry) if isinstance(entry, str) and there(entry) else entry for entry in networks]


def on_network(name: str) -> dict[str, t.Any]:
    """The interface that the name of a network stands for. The null: where a tap is stored, it is no longer meant."""
    return {"network": name, "tap_device": None}


def _same(place: tuple[str, ...], short: t.Any, given: t.Any) -> bool:
    return _normalised(place, short) == _normalised(place, given)


def _normalised(place: tuple[str, ...], value: t.Any) -> t.Any:
    """The value as validation makes it, defaults filled in; as it is, where it is wrong in itself."""
    tree: t.Any = value
    if value is None:
        return None
    for step in reversed(place):
        tree = {step: tree}
    parsed, _violations, _given = validate_given(tree, stored=None)
    if parsed is None:
        return ("as given", value)
    result: t.Any = parsed
    for step in place:
        result = getattr(result, step)
    return [entry.model_dump() for entry in result] if isinstance(result, list) else result
