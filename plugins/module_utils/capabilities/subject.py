# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is checked, taken apart: which options a configuration really uses, and what can be measured on it."""

from __future__ import annotations

import dataclasses
import typing as t

from ..model.cloud_init import datasource_of
from ..model.shape import SHAPE

if t.TYPE_CHECKING:
    from ..model.config import VmConfig
    from ..model.task import VmRequest


@dataclasses.dataclass(frozen=True)
class Subject:
    """A configuration with what else a check needs to know. C(kernel_from_host): the host has a default kernel for this backend."""

    config: VmConfig
    request: t.Optional[VmRequest] = None
    kernel_from_host: bool = False
    features: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Use:
    """One option in use. C(key) and C(word): option and value as the matrix writes them (C(storage[].format), C(qcow2)); C(field): where it is."""

    key: str
    field: str
    word: t.Optional[str] = None
    below: tuple[Use, ...] = ()


# An option that is at its default asks for nothing; so do these, though they differ from their defaults.
_INERT: dict[str, t.Callable[[t.Any, VmConfig], bool]] = {
    "cpu.max_vcpu_count": lambda value, config: value == config.cpu.vcpu_count,
    "cpu.features.amx": lambda value, config: value is False,
    "memory.max_size_bytes": lambda value, config: value == config.memory.size_bytes,
    "storage[].num_queues": lambda value, config: value == 1,
    "network[].num_queues": lambda value, config: value == 1,
    "watchdog": lambda value, config: value is False,
}
# And these count although they are at their defaults: the VM has them.
_ALWAYS = ("cpu.vcpu_count", "memory.size_bytes", "console.output", "rng.source")
# Values that the matrix puts into classes, and the words for those.
CLASSES = ("name", "custom", "default", "other")
_WORDS: dict[str, t.Callable[[t.Any], str]] = {
    "cpu.template": lambda value: "custom" if isinstance(value, dict) else "name",
    "rng.source": lambda value: "default" if value == "/dev/urandom" else "other",
}


def uses(subject: Subject) -> tuple[Use, ...]:
    """Everything that the configuration and the request use, in the order of the tree."""
    found = _walk(subject.config.model_dump(), SHAPE, "", "config", subject.config)
    if not subject.config.console.enabled:
        # A console that is not there has no output.
        found = tuple(_without(use, ("console.output", "console.path")) for use in found)
    return (*found, *_of_request(subject.request))


def _walk(tree: t.Mapping[str, t.Any], shape: t.Mapping[str, t.Any], prefix: str, path: str, config: VmConfig) -> tuple[Use, ...]:
    found = []
    for name, node in shape.items():
        key, field, value = f"{prefix}{name}", f"{path}.{name}", tree[name]
        if value is None:
            continue
        if node["kind"] == "tree":
            below = _walk(value, node["fields"], f"{key}.", field, config)
            if below or node["optional"]:
                found.append(Use(key, field, below=below))
        elif node["kind"] == "list":
            entries = [use for index, entry in enumerate(value) for use in _walk(entry, node["fields"], f"{key}[].", f"{field}[{index}]", config)]
            if value:
                found.append(Use(key, field, below=tuple(entries)))
        elif key in _ALWAYS or not (value == node.get("default") or (key in _INERT and _INERT[key](value, config))):
            found.append(Use(key, field, word_of(key, value)))
    return tuple(found)


def word_of(key: str, value: t.Any) -> t.Optional[str]:
    """A value as the matrix writes it."""
    if key in _WORDS:
        return _WORDS[key](value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else None


def _without(use: Use, keys: t.Container[str]) -> Use:
    return dataclasses.replace(use, below=tuple(part for part in use.below if part.key not in keys))


def _of_request(request: t.Optional[VmRequest]) -> t.Iterator[Use]:
    if request is None:
        return
    if request.metadata is not None:
        yield Use("metadata", "metadata")
    if request.cloud_init is not None:
        yield Use("cloud_init", "cloud_init", datasource_of(request.cloud_init))
    asked = {f"restart_policy.{key}": value for key, value in request.settings.get("restart_policy", {}).items()}
    asked["security.jail"] = request.settings.get("security", {}).get("jail")
    for key, value in asked.items():
        if value is not None:
            yield Use(key, key, word_of(key, value))


def _at(tree: t.Any, steps: t.Sequence[str], field: str) -> t.Iterator[tuple[str, t.Any]]:
    """All values at a key of the matrix, with their paths: C(network[].mtu) has one per interface that gives it."""
    if not steps:
        if tree is not None:
            yield field, tree
        return
    step, many = steps[0].removesuffix("[]"), steps[0].endswith("[]")
    value = getattr(tree, step, None)
    if value is None:
        return
    where = f"{field}.{step}"
    for place, item in [(f"{where}[{index}]", item) for index, item in enumerate(value)] if many else [(where, value)]:
        yield from _at(item, steps[1:], place)


def values(config: VmConfig, key: str) -> t.Iterator[tuple[str, t.Any]]:
    return _at(config, key.split("."), "config")


def _devices(subject: Subject) -> t.Iterator[tuple[str, int]]:
    config = subject.config
    single = (config.vsock, config.memory.balloon, config.rng, config.watchdog or None)
    yield "config", len(config.storage) + len(config.network) + sum(device is not None for device in single)


def _count(name: str) -> t.Callable[[Subject], t.Iterator[tuple[str, int]]]:
    def count(subject: Subject) -> t.Iterator[tuple[str, int]]:
        yield f"config.{name}", len(getattr(subject.config, name))

    return count


# Measures that are no single option. Each yields pairs of a field and a number.
MEASURES: dict[str, t.Callable[[Subject], t.Iterator[tuple[str, int]]]] = {
    "virtio devices": _devices,
    "disks": _count("storage"),
    "network interfaces": _count("network"),
}


def measure(subject: Subject, name: str) -> t.Iterator[tuple[str, int]]:
    """Pairs of a field and a number: an option's values, a count, or the bytes of a text (C(boot.kernel_args))."""
    if name in MEASURES:
        yield from MEASURES[name](subject)
        return
    for field, value in values(subject.config, name):
        yield field, len(value.encode()) if isinstance(value, str) else value
