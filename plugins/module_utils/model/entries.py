# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The entries of C(vmcp_vms): from C(vms), C(defaults) and C(secrets) to the options of one C(vmcp_vm) for each VM. Standard library only, pure: a task
that finds nothing to do comes no further. What the options say is for C(requests) to judge."""

from __future__ import annotations

import collections.abc
import dataclasses
import re
import typing as t

from ..errors import Violation
from .entry_merge import merge_entry
from .patterns import NamePattern, is_pattern
from .words import NAME_PATTERN, NAME_RULE, name_rule

COUNT_MAX = 10_000
PRIORITY_MAX = 1000
# What an entry has beside the options of vmcp_vm.
_OF_THE_ENTRY = ("count", "priority")
_WHY_NOT = {
    "state_dir": "is given once for the whole task: give it as an option of the task.",
    "run_dir": "is given once for the whole task: give it as an option of the task.",
    "lock_timeout": "is given once for the whole task: give it as an option of the task.",
    "endpoint": "is for VMs that somebody else runs, one at a time. Use unkey.vmcp.vmcp_vm.",
    "metadata": "may hold secrets, which what is in 'vms' and 'defaults' must not: give it as secrets.NAME.metadata.",
    "cloud_init": "may hold secrets, which what is in 'vms' and 'defaults' must not: give it as secrets.NAME.cloud_init.",
    "secrets": "is an option of the task, by name of the VM.",
}

# Options of a VM that may hold secrets.
SECRETS = ("metadata", "cloud_init")

Options = dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One VM as it was asked for. C(path): as the user finds it (C(vms[3]), C(vms.fn-a)). C(options): as for C(vmcp_vm), defaults merged in, nulls that removed
    one gone; equal for all of a group but for the name. C(written): the entry itself. C(likeness): equal for entries that differ in nothing but
    their names. C(group): the pattern that it comes from. C(secrets): the key of its secrets."""

    name: str
    path: str
    options: Options
    written: t.Mapping[str, t.Any]
    likeness: str
    priority: int = 0
    group: t.Optional[str] = None
    secrets: t.Optional[str] = None


@dataclasses.dataclass
class Entries:
    """C(listed) in the order written; C(groups): pattern to the number wanted. C(violations): everything wrong so far; C(names) also of entries that are."""

    listed: list[Entry] = dataclasses.field(default_factory=list)
    groups: dict[str, int] = dataclasses.field(default_factory=dict)
    violations: list[Violation] = dataclasses.field(default_factory=list)
    names: dict[str, str] = dataclasses.field(default_factory=dict)
    empty: bool = True


def read_entries(vms: t.Any, defaults: t.Any, secrets: t.Any) -> Entries:
    """C(vms): a list of entries (a text is a name), or a dictionary of name to entry."""
    found = Entries()
    common = _defaults(defaults, found)
    pairs: list[tuple[str, t.Optional[str], t.Any]]
    if isinstance(vms, collections.abc.Mapping):
        pairs = [(f"vms.{key}", str(key), entry) for key, entry in vms.items()]
    elif isinstance(vms, collections.abc.Sequence) and not isinstance(vms, (str, bytes)):
        pairs = [(f"vms[{index}]", None, entry) for index, entry in enumerate(vms)]
    else:
        found.violations.append(Violation("vms", "must be a list of entries, or a dictionary of name to entry."))
        return found
    found.empty = not pairs
    for path, key, entry in pairs:
        _read_entry(path, key, entry, common, found)
    _give_secrets(secrets, found)
    return found


def _defaults(defaults: t.Any, found: Entries) -> Options:
    if defaults is None:
        return {}
    if not isinstance(defaults, collections.abc.Mapping):
        found.violations.append(Violation("defaults", "must be a dictionary."))
        return {}
    for key in defaults:
        why = "belongs to one entry: no two VMs share it." if key in ("name", "count") else _WHY_NOT.get(key) if isinstance(key, str) else None
        if why:
            found.violations.append(Violation(f"defaults.{key}", why))
    _priority(defaults, "defaults", found)
    return dict(defaults)


def _read_entry(path: str, key: t.Optional[str], entry: t.Any, defaults: Options, found: Entries) -> None:
    if key is None and isinstance(entry, str):
        entry = {"name": entry}
    if key is not None and entry is None:
        entry = {}
    if not isinstance(entry, collections.abc.Mapping):
        found.violations.append(Violation(path, "must be a dictionary with the options of the VM."))
        return
    before = len(found.violations)
    for option in entry:
        if isinstance(option, str) and option in _WHY_NOT:
            found.violations.append(Violation(f"{path}.{option}", _WHY_NOT[option]))
    name = _name(path, key, entry, found)
    members = _members(path, key, name, entry, found) if name is not None else []
    priority = _priority(entry, path, found) if "priority" in entry else _priority(defaults, "defaults", Entries())
    for member in members:
        if member in found.names:
            found.violations.append(Violation(path, f"declares the VM {member}, which {found.names[member]} declares already. Leave one of them out."))
        found.names.setdefault(member, path)
    if len(found.violations) > before or name is None:
        return
    options = {option: value for option, value in merge_entry(defaults, entry).items() if option not in _OF_THE_ENTRY}
    options.setdefault("state", "present")
    options.pop("name", None)
    group = name if is_pattern(name) else None
    likeness = repr(options)
    found.listed += [Entry(member, path, {**options, "name": member}, entry, likeness, priority, group) for member in members]


def _name(path: str, key: t.Optional[str], entry: t.Mapping[str, t.Any], found: Entries) -> t.Optional[str]:
    """The name, or the pattern of names."""
    value = entry.get("name", key) if entry.get("name") is not None else key
    where = path if key is not None else f"{path}.name"
    if value is None:
        found.violations.append(Violation(where, "is required."))
        return None
    # YAML makes a number of the name 123.
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if key is not None and text != key:
        found.violations.append(Violation(f"{path}.name", f"differs from {key}, under which the entry stands. Leave it out."))
        return None
    if not isinstance(text, str) or not (is_pattern(text) or re.fullmatch(NAME_PATTERN, text)):
        found.violations.append(Violation(where, f"must be {name_rule(text)}."))
        return None
    return text


def _members(path: str, key: t.Optional[str], name: str, entry: t.Mapping[str, t.Any], found: Entries) -> list[str]:
    """The names of the VMs that an entry stands for."""
    count = entry.get("count")
    if is_pattern(name):
        return _group(path if key is not None else f"{path}.name", f"{path}.count", name, count, found)
    if count is not None:
        found.violations.append(Violation(f"{path}.count", "needs a name with {index} in it, as in fn-{index:04d}."))
    return [name]


def _group(at_name: str, at_count: str, name: str, count: t.Any, found: Entries) -> list[str]:
    """The names of a group's members; none where anything is wrong with it."""
    before = len(found.violations)
    number = _whole(count)
    members: list[str] = []
    try:
        pattern = NamePattern.read(name)
        members = [pattern.name(index) for index in range(number if number is not None and 0 <= number <= COUNT_MAX else 1)]
        if not re.fullmatch(NAME_PATTERN, (members or [pattern.name(0)])[-1]):
            found.violations.append(Violation(at_name, f"makes names like {pattern.name(0)}, which must be {NAME_RULE}."))
    except ValueError as exc:
        found.violations.append(Violation(at_name, f"{exc}."))
    if count is None:
        found.violations.append(Violation(at_count, f"is required with the name {name}: how many there are to be."))
    elif number is None or not 0 <= number <= COUNT_MAX:
        found.violations.append(Violation(at_count, f"must be a whole number, 0 to {COUNT_MAX}."))
    if name in found.groups:
        found.violations.append(Violation(at_name, f"is a group that is declared already: {name}."))
    if len(found.violations) > before:
        return []
    found.groups[name] = len(members)
    return members


def _priority(options: t.Mapping[str, t.Any], path: str, found: Entries) -> int:
    value = options.get("priority")
    number = 0 if value is None else _whole(value)
    if number is None or abs(number) > PRIORITY_MAX:
        found.violations.append(Violation(f"{path}.priority", f"must be a whole number, -{PRIORITY_MAX} to {PRIORITY_MAX}. The highest start first."))
        return 0
    return number


def _whole(value: t.Any) -> t.Optional[int]:
    """Templates make text of numbers."""
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _give_secrets(secrets: t.Any, found: Entries) -> None:
    """Each VM its own, or its group's. The values are never shown."""
    if secrets is None:
        return
    if not isinstance(secrets, collections.abc.Mapping):
        found.violations.append(Violation("secrets", "must be a dictionary of a VM's name to {metadata: …, cloud_init: …}."))
        return
    known = {*found.names, *found.groups}
    given: dict[str, t.Any] = {}
    for key, value in secrets.items():
        if key not in known:
            found.violations.append(Violation(f"secrets.{key}", "is the name of no entry of 'vms'."))
        elif not isinstance(value, collections.abc.Mapping) or set(value) - set(SECRETS):
            found.violations.append(Violation(f"secrets.{key}", f"must be a dictionary with some of the keys {', '.join(SECRETS)}, and no other."))
        elif any(item is not None for item in value.values()):
            given[key] = {name: item for name, item in value.items() if item is not None}
    for position, entry in enumerate(found.listed):
        key = entry.name if entry.name in given else entry.group
        if key in given:
            # By identity: the secret itself is not to be written into a key that is compared.
            likeness = f"{entry.likeness} {id(given[key])}"
            found.listed[position] = dataclasses.replace(entry, options={**entry.options, **given[key]}, secrets=key, likeness=likeness)
