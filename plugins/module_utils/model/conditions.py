# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The conditions of C(wait_for): what a task can wait for, and how each is written."""

from __future__ import annotations

import collections.abc
import re
import typing as t

from ..errors import Violation
from .readers import read_host_path, read_identifier, read_text, read_whole
from .walk import nearest

CONDITIONS_MAX = 32
_HOST_MAX = 253
# Python's resolver raises on an empty label and on one of more than 63 characters.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*|[0-9A-Fa-f:]{{2,39}}(?::[0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{3}})?(?:%[A-Za-z0-9_-]{{1,15}}(?:\.[0-9]{{1,4}})?)?")


def _console(value: t.Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a regular expression")
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as exc:
        raise ValueError(f"is no regular expression that Python understands: {exc}") from exc
    return value


def _port(most: int) -> t.Callable[[t.Any], int]:
    def read(value: t.Any) -> int:
        port = read_whole(value)
        if not 1 <= port <= most:
            raise ValueError(f"must be a port, 1 to {most}")
        return int(port)

    return read


def _host(value: t.Any) -> str:
    if len(read_text(value)) > _HOST_MAX or not _HOST.fullmatch(value):
        raise ValueError("must be a host name or an IP address")
    return str(value)


def _running(value: t.Any) -> bool:
    if value is not True:
        raise ValueError("is written as the word alone, or with true")
    return True


def _address(value: t.Any) -> t.Union[bool, str]:
    """The interface whose guest is to answer; true for each one on a network of ours."""
    if value is True:
        return True
    try:
        return read_identifier(value)
    except ValueError as exc:
        raise ValueError("is written as the word alone, or with the id of an interface") from exc


# Condition -> readers of its keys; all of them are required.
_FORMS: dict[str, dict[str, t.Callable[[t.Any], t.Any]]] = {
    "running": {"running": _running},
    "console": {"console": _console},
    "tcp": {"tcp": _port(65535), "host": _host},
    "file": {"file": read_host_path},
    "vsock": {"vsock": _port((1 << 32) - 2)},
    "address": {"address": _address},
}
# Conditions that may be written as the word alone.
_WORDS = ("running", "address")
_KNOWN = "running, {console: REGEX}, {tcp: PORT, host: ADDRESS}, {file: PATH}, {vsock: PORT}, address"


def read_conditions(value: t.Any, path: str = "wait_for") -> tuple[tuple[dict[str, t.Any], ...], list[Violation]]:
    """The conditions in the form that C(VmRequest.wait_for) describes, and all violations. A single condition may stand without a list."""
    entries = [value] if isinstance(value, (str, collections.abc.Mapping)) else value
    if not isinstance(entries, collections.abc.Sequence):
        return (), [Violation(path, f"must be a list of conditions: {_KNOWN}.")]
    if len(entries) > CONDITIONS_MAX:
        return (), [Violation(path, f"has {len(entries)} conditions; {CONDITIONS_MAX} are the most.")]
    violations: list[Violation] = []
    conditions = [_condition(entry, f"{path}[{index}]", violations) for index, entry in enumerate(entries)]
    return tuple(condition for condition in conditions if condition), violations


def _condition(entry: t.Any, path: str, violations: list[Violation]) -> dict[str, t.Any]:
    if isinstance(entry, str):
        entry = {entry: True} if entry in _WORDS else {entry: None}
    if not isinstance(entry, collections.abc.Mapping):
        violations.append(Violation(path, f"must be a condition: {_KNOWN}."))
        return {}
    kinds = [key for key in entry if key in _FORMS]
    if len(kinds) != 1:
        words = [key for key in entry if isinstance(key, str)]
        hint = nearest(words[0], _FORMS) if words and not kinds else ""
        violations.append(Violation(path, f"must be one condition: {_KNOWN}.{hint}"))
        return {}
    return _read_form(entry, _FORMS[kinds[0]], kinds[0], path, violations)


def _read_form(
    entry: t.Mapping[t.Any, t.Any], form: t.Mapping[str, t.Callable[[t.Any], t.Any]], kind: str, path: str, violations: list[Violation]
) -> dict[str, t.Any]:
    before = len(violations)
    condition = {}
    for key in entry:
        if key not in form:
            violations.append(Violation(path, f"has a key that the condition {kind} does not have. Its keys are: {', '.join(form)}."))
    for key, read in form.items():
        if entry.get(key) is None:
            violations.append(Violation(f"{path}.{key}", f"is required for the condition {kind}."))
            continue
        try:
            condition[key] = read(entry[key])
        except ValueError as exc:
            violations.append(Violation(f"{path}.{key}", f"{exc}."))
    return condition if len(violations) == before else {}
