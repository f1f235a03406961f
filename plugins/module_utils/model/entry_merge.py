# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an entry of C(vmcp_vms) goes over its defaults. Standard library only, pure: nothing is changed in place.

Dictionaries merge, lists replace, null removes a default. A null for which there is no default stays: it asks for the default of creation again. A value
has two ways of being written, a short option and a place in the tree; whichever way an entry takes goes over either way of the defaults.
"""

from __future__ import annotations

import collections.abc
import typing as t

from ..errors import Violation
from .words import SHORT_OPTIONS, stands_in

Options = dict[str, t.Any]


def merge_entry(defaults: t.Mapping[str, t.Any], entry: t.Mapping[str, t.Any]) -> Options:
    """The options of one VM."""
    inner = _inner(entry.get("config"))
    common: Options = dict(defaults)
    if "config" in common:
        common["config"] = _inner(common["config"])
    for option, place in SHORT_OPTIONS.items():
        if option in entry and stands_in(common.get("config"), place):
            common["config"] = _without(common["config"], place)
        if option in common and stands_in(inner, place):
            del common[option]
    over = {**entry, "config": inner} if "config" in entry else entry
    # A null at the top means the same as an option left out.
    return {key: value for key, value in _merged(common, over).items() if value is not None}


def _merged(under: t.Mapping[str, t.Any], over: t.Mapping[str, t.Any]) -> Options:
    result = dict(under)
    for key, value in over.items():
        if value is None and key in under:
            del result[key]
        elif isinstance(value, collections.abc.Mapping) and isinstance(under.get(key), collections.abc.Mapping):
            result[key] = _merged(under[key], value)
        else:
            result[key] = value
    return result


def _inner(config: t.Any) -> t.Any:
    """Without the outer document C({"config": …}) that the existing API's files have around it."""
    return config["config"] if isinstance(config, collections.abc.Mapping) and set(config) == {"config"} else config


def _without(tree: t.Mapping[str, t.Any], place: tuple[str, ...]) -> Options:
    step, *rest = place
    if not rest:
        return {key: value for key, value in tree.items() if key != step}
    return {**tree, step: _without(tree[step], tuple(rest))}


def blame(violation: Violation, path: str, written: t.Mapping[str, t.Any], defaults: t.Mapping[str, t.Any], secrets: t.Optional[str]) -> Violation:
    """The violation of a VM's options, by where the user wrote the value: in the entry, in the defaults, or among the secrets."""
    field = violation.field
    first = field.partition(".")[0].partition("[")[0]
    if first in ("metadata", "cloud_init") and secrets is not None:
        return Violation(f"secrets.{secrets}.{field}", violation.message)
    if not _wrote(written, field) and _wrote(defaults, field):
        return Violation(f"defaults.{field}", violation.message)
    return Violation(f"{path}.{field}" if field else path, violation.message)


def _wrote(options: t.Mapping[str, t.Any], field: str) -> bool:
    """Whether the value at C(field), or the nearest part of the way to it that is a whole, stands in C(options)."""
    tree: t.Any = {**options, "config": _inner(options.get("config"))} if "config" in options else options
    for part in field.split("."):
        step = part.partition("[")[0]
        if not isinstance(tree, collections.abc.Mapping):
            return True
        if step not in tree:
            return False
        tree = tree[step]
    return True
