# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a tree that is right, along its shape, without pydantic: to import that and build the models takes longer than a microVM takes to boot.

What this accepts, C(VmConfig) accepts, with the very same values (a property test holds them against each other); of everything else pydantic is the
judge, and finds the words (C(judge)). Standard library only.
"""

from __future__ import annotations

import copy
import typing as t

from .readers import (
    read_addresses,
    read_flag,
    read_host_path,
    read_identifier,
    read_mac,
    read_name,
    read_network,
    read_socket_path,
    read_tap,
    read_text,
    read_token,
    read_whole,
)
from .shape import SHAPE
from .units import parse_disk_size, parse_size

Node = t.Mapping[str, t.Any]

# By the names that shape.py has for the types in fields.py.
READERS: dict[str, t.Callable[[t.Any], t.Any]] = {
    "Addresses": read_addresses,
    "DiskSize": parse_disk_size,
    "Flag": read_flag,
    "HostPath": read_host_path,
    "Identifier": read_identifier,
    "KernelArgs": read_text,
    "MacAddress": read_mac,
    "Name": read_name,
    "Size": parse_size,
    "NetworkName": read_network,
    "SocketPath": read_socket_path,
    "TapName": read_tap,
    "Token": read_token,
    "Whole": read_whole,
}


class NotPlain(Exception):
    """Not for this reader to say what is the matter."""


class Plain:
    """What a model of the configuration looks like to those who use it: attributes, and C(model_dump) as pydantic's. Nobody changes one."""

    def __init__(self, values: dict[str, t.Any], given: t.Collection[str]) -> None:
        self.__dict__.update(values)
        self.__dict__["_given"] = given

    def model_dump(self, *, mode: str = "python", exclude_unset: bool = False) -> dict[str, t.Any]:
        """Dictionaries and lists all the way down, of the caller's own. C(mode): all values are JSON's anyway. C(exclude_unset): only what was given."""
        names = [name for name in self.__dict__ if name != "_given" and not (exclude_unset and name not in self.__dict__["_given"])]
        return {name: _dumped(self.__dict__[name], mode, exclude_unset) for name in names}

    def model_copy(self, *, update: t.Mapping[str, t.Any]) -> Plain:
        """Another, with these values in place of its own."""
        values = {name: value for name, value in self.__dict__.items() if name != "_given"}
        return Plain({**values, **update}, {*self.__dict__["_given"], *update})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]  # as pydantic's models

    def __repr__(self) -> str:
        return f"Plain({self.model_dump(exclude_unset=True)!r})"


def accept(cleaned: t.Any) -> t.Optional[Plain]:
    """The configuration of a tree that C(walk) has been through; None where that is not for this reader to say."""
    try:
        return _tree(cleaned, SHAPE)
    except (NotPlain, ValueError):
        # Readers raise ValueError for what is wrong: pydantic will say so, together with all else.
        return None


def _tree(value: t.Any, shape: Node) -> Plain:
    if not isinstance(value, dict):
        raise NotPlain
    return Plain({name: _node(value[name], node) if name in value else _default(node) for name, node in shape.items()}, frozenset(value))


def _node(value: t.Any, node: Node) -> t.Any:
    if node["kind"] == "tree":
        return _tree(value, node["fields"])
    if node["kind"] == "list":
        if not isinstance(value, list) or len(value) > node["max_length"]:
            raise NotPlain
        return [_tree(entry, node["fields"]) for entry in value]
    return _leaf(value, node.get("read"))


def _leaf(value: t.Any, read: t.Optional[Node]) -> t.Any:
    """C(read): the type, and its bounds; None for one that only pydantic knows."""
    if read is None:
        raise NotPlain
    kind = read["as"]
    if kind == "choice":
        if not isinstance(value, str) or value not in read["words"]:
            raise NotPlain
        return value
    if kind == "dict":
        if not isinstance(value, dict):
            raise NotPlain
        return copy.deepcopy(value)
    if kind == "list":
        if not isinstance(value, list):
            raise NotPlain
        found: t.Any = [_leaf(entry, read["of"]) for entry in value]
    else:
        found = READERS[kind](value)
    if any(beyond(found, read[name]) for name, beyond in _BOUNDS if name in read):
        raise NotPlain
    return found


# Whether a value is beyond a bound, by the names that annotated_types has for bounds.
_BOUNDS: tuple[tuple[str, t.Callable[[t.Any, int], bool]], ...] = (
    ("ge", lambda value, bound: value < bound),
    ("le", lambda value, bound: value > bound),
    ("min_length", lambda value, bound: len(value) < bound),
    ("max_length", lambda value, bound: len(value) > bound),
)


def _default(node: Node) -> t.Any:
    if node["kind"] == "tree":
        return None if node["optional"] else _tree({}, node["fields"])
    if node["kind"] == "list":
        return []
    if node.get("required"):
        raise NotPlain
    return copy.deepcopy(node["default"])


def _dumped(value: t.Any, mode: str, exclude_unset: bool) -> t.Any:
    if isinstance(value, Plain):
        return value.model_dump(mode=mode, exclude_unset=exclude_unset)
    if isinstance(value, list):
        return [_dumped(entry, mode, exclude_unset) for entry in value]
    return copy.deepcopy(value) if isinstance(value, dict) else value
