# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a task that are not the configuration: one row each, with its reader and its default."""

from __future__ import annotations

import collections.abc
import dataclasses
import re
import typing as t

from .readers import read_flag, read_host_path, read_socket_path, read_text, read_token, read_whole
from .words import APPLY, BACKEND_CHOICES, DISRUPTIONS, KEEP, NAME_PATTERN, STATES_REQUESTED, SUPERVISORS, WORKLOADS, name_rule

# A week: more is a slip, and a deadline in seconds from there overflows nothing.
TIMEOUT_MAX_S = 604800
LABELS_MAX = 64
LABEL_KEY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_./-]{0,125}[A-Za-z0-9])?")
LABEL_VALUE_MAX = 255

Reader = t.Callable[[t.Any], t.Any]


class OptionError(ValueError):
    """Several things wrong within one option. C(found): pairs of the place below the option (C(.on_reboot), C([2]), empty) and a sentence."""

    def __init__(self, found: t.Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(text for _where, text in found))
        self.found = tuple(found)


@dataclasses.dataclass(frozen=True)
class Option:
    """C(read) turns what was given into the value, or raises ValueError with a sentence. C(default) applies when it was not given."""

    read: Reader
    default: t.Any = None


def choice(words: t.Sequence[str]) -> Reader:
    def read(value: t.Any) -> str:
        if value not in words:
            shown = f", not '{value}'" if isinstance(value, str) and value.isprintable() and len(value) <= 40 else ""
            raise ValueError(f"must be one of {', '.join(words)}{shown}")
        return str(value)

    return read


def seconds(value: t.Any) -> int:
    return _between(value, 0, TIMEOUT_MAX_S, "seconds")


def _between(value: t.Any, least: int, most: int, what: str = "") -> int:
    number = read_whole(value)
    if not least <= number <= most:
        raise ValueError(f"must be {least} to {most}{' ' + what if what else ''}")
    return int(number)


def read_name(value: t.Any) -> str:
    # YAML makes a number of the name 123.
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not re.fullmatch(NAME_PATTERN, text):
        raise ValueError(f"must be {name_rule(text)}")
    return text


def _backend_version(value: t.Any) -> str:
    if isinstance(value, float):
        raise ValueError("must be text: quote it in YAML, or 1.10 becomes 1.1")
    return str(read_token(value)).removeprefix("v")


def _endpoint(value: t.Any) -> str:
    text = read_text(value)
    if not text.startswith("unix:///"):
        raise ValueError("must be a unix socket with an absolute path, as in unix:///run/ch.sock")
    return f"unix://{read_socket_path(text.removeprefix('unix://'))}"


def _list_of(words: t.Sequence[str]) -> Reader:
    def read(value: t.Any) -> list[str]:
        entries = [value] if isinstance(value, str) else value
        if not isinstance(entries, collections.abc.Sequence) or not all(entry in words for entry in entries):
            raise ValueError(f"must be a list of {', '.join(words)}")
        return [word for word in words if word in entries]

    return read


def _labels(value: t.Any) -> dict[str, str]:
    if not isinstance(value, collections.abc.Mapping):
        raise ValueError("must be a dictionary of text to text")
    found: list[tuple[str, str]] = []
    labels = {}
    for key, item in value.items():
        name = str(key) if isinstance(key, (str, int)) and not isinstance(key, bool) else ""
        if not LABEL_KEY.fullmatch(name):
            found.append(("", "has a key that is not 1 to 127 letters, digits, '_', '.', '/' or '-', with a letter or digit at both ends."))
            continue
        text = str(item).lower() if isinstance(item, bool) else str(item) if isinstance(item, (int, float)) else item
        if not isinstance(text, str) or not text.isprintable() or len(text) > LABEL_VALUE_MAX:
            found.append((f".{name}", f"must be at most {LABEL_VALUE_MAX} printable characters. Leave a label out to remove it."))
            continue
        labels[name] = text
    if len(labels) > LABELS_MAX:
        found.append(("", f"has {len(labels)} entries; {LABELS_MAX} are the most."))
    if found:
        raise OptionError(found)
    return labels


def record(readers: t.Mapping[str, Reader]) -> Reader:
    """A dictionary of known keys; a null stays: it asks for the default again."""

    def read(value: t.Any) -> dict[str, t.Any]:
        if not isinstance(value, collections.abc.Mapping):
            raise ValueError(f"must be a dictionary with some of {', '.join(readers)}")
        found, result = [], {}
        for key, item in value.items():
            if key not in readers:
                found.append((f".{key}" if isinstance(key, str) and key.isprintable() else "", f"is no key here. Known are: {', '.join(readers)}."))
            else:
                try:
                    result[str(key)] = None if item is None else readers[key](item)
                except ValueError as exc:
                    found.append((f".{key}", f"{exc}."))
        if found:
            raise OptionError(found)
        return result

    return read


def _on_crash(value: t.Any) -> str:
    # YAML makes a boolean of the word no.
    return choice(("no", "restart"))("no" if value is False else value)


def _uid(value: t.Any) -> int:
    uid = _between(value, 0, (1 << 32) - 2)
    if uid == 0:
        raise ValueError("must not be 0: a VM does not run as root. Leave it out for a uid of its own")
    return uid


OPTIONS: dict[str, Option] = {
    "name": Option(read_name),
    "state": Option(choice(STATES_REQUESTED), "present"),
    "backend": Option(choice(BACKEND_CHOICES)),
    "backend_version": Option(_backend_version),
    "workload": Option(choice(WORKLOADS)),
    "labels": Option(_labels),
    "autostart": Option(read_flag),
    "protected": Option(read_flag),
    "restart_policy": Option(record({"on_reboot": choice(("restart", "stop")), "on_crash": _on_crash, "max_per_hour": lambda value: _between(value, 1, 3600)})),
    "security": Option(record({"jail": read_flag, "seccomp": read_flag, "uid": _uid})),
    "allow_disruption": Option(choice(DISRUPTIONS), "none"),
    "apply": Option(choice(APPLY), "now"),
    "shutdown_timeout": Option(seconds),
    "wait_timeout": Option(seconds, 120),
    "lock_timeout": Option(seconds, 60),
    "endpoint": Option(_endpoint),
    "keep": Option(_list_of(KEEP), []),
    "supervisor": Option(choice(SUPERVISORS)),
    "state_dir": Option(read_host_path),
    "run_dir": Option(read_host_path),
}

# Kept in the definition of the VM; the rest only says how this task goes about it.
STORED = ("workload", "labels", "autostart", "protected", "restart_policy", "security", "supervisor")
RESERVED_OPTIONS = ("resources", "secrets")
