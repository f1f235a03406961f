# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a given configuration changes a stored one. Standard library only, pure: nothing is changed in place.

Trees here are dicts of JSON values without the C(config) key: C(stored) as in C(Definition.config) (C({}) for a new VM), C(given) as
C(validate_given) returns it, with only the keys the user gave and explicit nulls kept.

- An option left out is untouched; an explicit null resets it to the default of creation.
- C(storage), C(network) and C(memory.zones) are complete when given: entries match by C(id), and within a matched entry an option left out is
  untouched. A null empties them.
- Other lists, C(backend_options) and a CPU template are one value each and replace what was there.
"""

from __future__ import annotations

import copy
import posixpath
import re
import typing as t

from .shape import SHAPE

Tree = dict[str, t.Any]
Shape = t.Mapping[str, t.Mapping[str, t.Any]]

ID_MAX = 63


def merge_config(stored: t.Mapping[str, t.Any], given: t.Mapping[str, t.Any]) -> Tree:
    """The new configuration, with an id in every disk and interface. Defaults that nobody chose are not written in (see C(fill_defaults))."""
    merged = _merge(stored, given, SHAPE)
    # A definition of an older version, or one made without ids: give them here too, so that every reader may rely on them.
    for name in ("storage", "network"):
        if merged.get(name):
            merged[name] = with_ids(name, merged[name])
    return merged


def fill_defaults(config: t.Mapping[str, t.Any]) -> Tree:
    """The full tree: defaults of creation in place of what was left out, null where there is none. Equal to what C(VmConfig) makes of it."""
    return _fill(config, SHAPE)


def changed_fields(before: t.Mapping[str, t.Any], after: t.Mapping[str, t.Any], path: str = "config") -> list[str]:
    """Paths at which the two differ, defaults filled in; list entries by id: C(config.storage[data].read_only), or C(config.storage[data]) for one that
    came or went. A list whose common entries changed places is named itself (C(config.storage)), because the guest sees the order."""
    return list(_changed(fill_defaults(before), fill_defaults(after), SHAPE, path))


def default_of(node: t.Mapping[str, t.Any]) -> t.Any:
    """The default of one node of C(SHAPE)."""
    if node["kind"] == "list":
        return []
    if node["kind"] == "tree":
        return None if node["optional"] else _fill({}, node["fields"])
    return copy.deepcopy(node.get("default"))


def _merge(stored: t.Mapping[str, t.Any], given: t.Mapping[str, t.Any], shape: Shape) -> Tree:
    merged = copy.deepcopy(dict(stored))
    for key, value in given.items():
        node = shape[key]
        old = stored.get(key)
        if value is None:
            merged[key] = default_of(node)
        elif node["kind"] == "tree":
            merged[key] = _merge(old or {}, value, node["fields"])
        elif node["kind"] == "list" and "id" in node["fields"]:
            merged[key] = _merge_entries(key, old or [], value, node["fields"])
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def _merge_entries(name: str, stored: t.Sequence[Tree], given: t.Sequence[Tree], shape: Shape) -> list[Tree]:
    matches = _match(name, stored, given)
    merged = []
    for entry, match in zip(given, matches, strict=True):
        result = _merge(stored[match] if match is not None else {}, entry, shape)
        if match is not None and not entry.get("id"):
            result["id"] = stored[match].get("id")
        merged.append(result)
    return with_ids(name, merged)


# What tells one entry from another when it has no id.
_LIKENESS = {"storage": ("path", "image", "disk", "vhost_user_socket"), "network": ("tap_device", "vhost_user_socket", "mac_address")}


def _match(name: str, stored: t.Sequence[Tree], given: t.Sequence[Tree]) -> list[t.Optional[int]]:
    """For each given entry the index of the stored one that it means, or None: by id, by what it is, and interfaces by position at last.

    A disk with another path is another disk; an interface moved to another tap is the same interface, and keeps its MAC address."""
    found: list[t.Optional[int]] = [None] * len(given)
    free = set(range(len(stored)))
    named = {entry["id"] for entry in given if entry.get("id")}

    def settle(test: t.Callable[[int, int], bool]) -> None:
        for index in range(len(given)):
            if found[index] is not None:
                continue
            match = next((candidate for candidate in sorted(free) if test(index, candidate)), None)
            if match is not None:
                found[index] = match
                free.discard(match)

    settle(lambda index, candidate: bool(given[index].get("id")) and given[index]["id"] == stored[candidate].get("id"))
    for key in _LIKENESS.get(name, ()):
        settle(lambda index, candidate, key=key: _alike(given[index], stored[candidate], key, named))  # type: ignore[misc]
    if name == "storage":
        # A root disk made from another image is the root disk, cloned anew.
        settle(lambda index, candidate: not given[index].get("id") and all(_is_root_clone(entry) for entry in (given[index], stored[candidate])))
    if name == "network":
        settle(lambda index, candidate: index == candidate and not given[index].get("id") and stored[candidate].get("id") not in named)
    return found


def _is_root_clone(entry: Tree) -> bool:
    return bool(entry.get("is_root_device")) and entry.get("image") is not None


def _alike(given: Tree, stored: Tree, key: str, named: set[str]) -> bool:
    return not given.get("id") and stored.get("id") not in named and given.get(key) is not None and given[key] == stored.get(key)


def with_ids(name: str, entries: t.Sequence[Tree]) -> list[Tree]:
    """The entries, each with an id: those without one get it from their path or position. Ids are unique in the list."""
    taken = {entry["id"] for entry in entries if entry.get("id")}
    result = []
    for position, entry in enumerate(entries):
        made = entry.get("id")
        if not made:
            base = _stem(entry) if name == "storage" else ""
            made = _free_id(base or f"{'disk' if name == 'storage' else 'net'}{position}", taken)
            taken.add(made)
        result.append({**entry, "id": made})
    return result


def _stem(disk: Tree) -> str:
    """C(web-data) of C(/var/lib/vms/web-data.img), in characters that an id may have."""
    path = disk.get("path") or disk.get("image") or disk.get("disk") or disk.get("vhost_user_socket") or ""
    stem = posixpath.splitext(posixpath.basename(path))[0]
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("_.-")[:ID_MAX].rstrip("_.-")


def _free_id(base: str, taken: t.Container[str]) -> str:
    if base not in taken:
        return base
    number = 2
    while True:
        suffix = f"-{number}"
        candidate = base[: ID_MAX - len(suffix)] + suffix
        if candidate not in taken:
            return candidate
        number += 1


def _fill(config: t.Mapping[str, t.Any], shape: Shape) -> Tree:
    filled: Tree = {}
    for key, node in shape.items():
        value = config.get(key)
        if value is None:
            if not node.get("required"):
                filled[key] = default_of(node)
        elif node["kind"] == "tree":
            filled[key] = _fill(value, node["fields"])
        elif node["kind"] == "list":
            filled[key] = [_fill(entry, node["fields"]) for entry in value]
        else:
            filled[key] = copy.deepcopy(value)
    # Keys of another version are kept, as the rest of the definition is.
    filled.update({key: copy.deepcopy(value) for key, value in config.items() if key not in shape})
    return filled


def _changed(before: Tree, after: Tree, shape: Shape, path: str) -> t.Iterator[str]:
    for key in [*shape, *sorted((set(before) | set(after)) - set(shape))]:
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        node: t.Mapping[str, t.Any] = shape.get(key, {"kind": "leaf"})
        where = f"{path}.{key}"
        if node["kind"] == "tree" and old is not None and new is not None:
            yield from _changed(old, new, node["fields"], where)
        elif node["kind"] == "list" and "id" in node["fields"]:
            yield from _changed_entries(old or [], new or [], node["fields"], where)
        else:
            yield where


def _changed_entries(before: t.Sequence[Tree], after: t.Sequence[Tree], shape: Shape, path: str) -> t.Iterator[str]:
    old = {str(entry.get("id") or index): entry for index, entry in enumerate(before)}
    new = {str(entry.get("id") or index): entry for index, entry in enumerate(after)}
    if [key for key in old if key in new] != [key for key in new if key in old]:
        yield path
    for key in [*old, *(key for key in new if key not in old)]:
        if key in old and key in new:
            yield from _changed(old[key], new[key], shape, f"{path}[{key}]")
        else:
            yield f"{path}[{key}]"
