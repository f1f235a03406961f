# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between two definitions, and what each difference would do to a VM that runs. Pure."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ..capabilities.catalogue import capabilities_of, grows_live, supports
from ..model.definition import Definition
from ..model.merge import changed_fields
from ..model.resolving import layering
from ..model.words import DISRUPTIONS
from .plan import Change

# Fields beside the tree, in the order in which they are reported, with what a change of each does to a VM that runs. What a user never gives (generated,
# binary, created_at) is not here: it is never a change. Fields of the tree are all 'restart' until a live way exists.
BESIDE_THE_TREE: dict[str, str] = {
    "backend": "recreate",
    "backend_version": "restart",
    "supervisor": "restart",
    "workload": "none",
    "labels": "none",
    "group": "none",
    "autostart": "none",
    "protected": "none",
    "restart_policy": "none",
    "security": "restart",
    "metadata_digest": "restart",
    "cloud_init_digest": "replace_data",
}
IN_THE_TREE = "restart"

# The part of a value that some backends tell their process once, when it starts (C(Traits.told_at_start)): elsewhere it is carried out by us.
_TOLD_AT_START: dict[str, t.Callable[[t.Any], t.Any]] = {
    "restart_policy": lambda policy: (policy or {}).get("on_reboot"),
    "workload": lambda workload: workload == "serverless",
}

# How a field is called in options and results where that differs from the definition.
_OPTION = {"metadata_digest": "metadata", "cloud_init_digest": "cloud_init"}


def changes_between(before: t.Optional[Definition], after: Definition) -> list[Change]:
    """Every field that differs, by the path under which users know it. C(before) None: everything that was chosen is new."""
    changes = []
    for field, usual in BESIDE_THE_TREE.items():
        old, new = None if before is None else _meant(before, field), _meant(after, field)
        disruption = (
            "restart" if reaches_process(field, after.backend) and usual == "none" and _TOLD_AT_START[field](old) != _TOLD_AT_START[field](new) else usual
        )
        if old != new and (before is not None or new not in (None, {}, False, "")):
            changes.append(Change(_OPTION.get(field, field), old, new, disruption))
    changes += changes_in_tree(before.config if before else {}, after.config)
    return [_classed(change, before, after) for change in changes] + _cloned_anew(before, after, {change.field for change in changes})


_SIZE = re.compile(r"config\.storage\[(.+)\]\.size")
_IMAGE = re.compile(r"config\.storage\[(.+)\]\.image")


def _classed(change: Change, before: t.Optional[Definition], after: Definition) -> Change:
    """What a change of a disk does that is ours to make."""
    if before is None:
        return change
    size = _SIZE.fullmatch(change.field)
    if size:
        format_ = layering(_disks(before).get(size[1]) or {})
        return dataclasses.replace(change, disruption="none" if grows_live(before.backend, before.backend_version, format_) else "restart")
    image = _IMAGE.fullmatch(change.field)
    if image and image[1] in _disks(before):
        return dataclasses.replace(change, disruption="replace_data")
    return change


def _cloned_anew(before: t.Optional[Definition], after: Definition, told: t.Collection[str]) -> list[Change]:
    """Clones of an image that has another content under the same name, or whose file was gone."""
    if before is None:
        return []
    changes = []
    for entry_id, chosen in _disks(after).items():
        old = _disks(before).get(entry_id) or {}
        field = f"config.storage[{entry_id}].image"
        if field not in told and "digest" in old and "digest" in chosen and old["digest"] != chosen["digest"]:
            was, becomes = (f"{one['image']} ({one['digest'][:19]})" for one in (old, chosen))
            changes.append(Change(field, was, becomes, "replace_data"))
    return changes


def _disks(definition: Definition) -> dict[str, dict[str, t.Any]]:
    return definition.generated.get("disks") or {}


def _meant(definition: Definition, field: str) -> t.Any:
    """A field's value without what means nothing on its backend, as older definitions say it."""
    value = getattr(definition, field)
    if field == "security" and not supports(definition.backend, "security.jail=true"):
        return {key: said for key, said in value.items() if key != "jail"}
    return value


def reaches_process(field: str, backend: str) -> bool:
    """Whether a field beside the tree may be such that only a start brings it to the process."""
    return BESIDE_THE_TREE[field] != "none" or (field in _TOLD_AT_START and capabilities_of(backend).traits.told_at_start)


def changes_in_tree(before: t.Mapping[str, t.Any], after: t.Mapping[str, t.Any]) -> list[Change]:
    """Every field of the configuration that differs, defaults filled in."""
    return [Change(path, field_value(before, path), field_value(after, path), IN_THE_TREE) for path in changed_fields(before, after)]


def worst(changes: t.Iterable[Change]) -> str:
    """The largest disruption among C(changes), C(none) for nothing."""
    return max((c.disruption for c in changes), key=DISRUPTIONS.index, default="none")


_STEP = re.compile(r"\.?([A-Za-z0-9_-]+)|\[([^\]]+)\]")


def field_value(tree: t.Mapping[str, t.Any], path: str) -> t.Any:
    """The value at a path as C(changed_fields) writes it (C(config.storage[data].read_only)); None where there is nothing."""
    value: t.Any = {"config": tree}
    for match in _STEP.finditer(path):
        key, entry_id = match.groups()
        if entry_id is not None:
            entries = value if isinstance(value, list) else []
            value = next((e for i, e in enumerate(entries) if str(e.get("id") or i) == entry_id), None)
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return value
