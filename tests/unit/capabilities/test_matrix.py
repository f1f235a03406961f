# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import itertools
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.capabilities.catalogue import capabilities_of
from ansible_collections.unkey.vmcp.plugins.module_utils.capabilities.matrix import INERT, SUPPORTED, Capabilities, lookup, older, yes
from ansible_collections.unkey.vmcp.plugins.module_utils.capabilities.subject import MEASURES
from ansible_collections.unkey.vmcp.plugins.module_utils.model.config import Tree, VmConfig
from ansible_collections.unkey.vmcp.plugins.module_utils.model.shape import SHAPE
from ansible_collections.unkey.vmcp.plugins.module_utils.model.words import BACKENDS


def _leaves(shape: t.Mapping[str, t.Any], prefix: str = "") -> t.Iterator[str]:
    for name, node in shape.items():
        key = f"{prefix}{name}"
        if node["kind"] == "leaf":
            yield key
        else:
            yield from _leaves(node["fields"], f"{key}[]." if node["kind"] == "list" else f"{key}.")


LEAVES = tuple(_leaves(SHAPE))
# Values that the matrix tells apart in classes instead of one by one.
CLASSES = {"cpu.template": {"name", "custom"}, "rng.source": {"default", "other"}, "cpu.nested": {"true", "false"}}


def _choices(key: str) -> set[str]:
    """The values of an option that has a fixed set of them."""
    model: t.Any = VmConfig
    annotation: t.Any = None
    for step in key.replace("[]", "").split("."):
        annotation = model.model_fields[step].annotation
        found = [a for a in _flat(annotation) if isinstance(a, type) and issubclass(a, Tree)]
        model = found[0] if found else model
    return {word for part in _flat(annotation) if t.get_origin(part) is t.Literal for word in t.get_args(part)}


def _flat(annotation: t.Any) -> t.Iterator[t.Any]:
    yield annotation
    if t.get_origin(annotation) is not t.Literal:
        for argument in t.get_args(annotation):
            yield from _flat(argument)


def _uncovered(can: Capabilities, key: str) -> str:
    """What the matrix does not say of an option, or an empty text."""
    parent = key
    while "." in parent:
        parent = parent.rpartition(".")[0].removesuffix("[]")
        if parent in can.support and all(support.level != SUPPORTED for support in can.support[parent]):
            return ""
    if key in can.support:
        return ""
    said = {word.split("=")[1] for word in can.support if word.startswith(f"{key}=")}
    missing = (_choices(key) or CLASSES.get(key, {"anything"})) - said
    return f"{key}: {', '.join(sorted(missing))}" if missing else ""


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_matrix_speaks_of_every_option(backend: str) -> None:
    lacking = [text for key in LEAVES if (text := _uncovered(capabilities_of(backend), key))]
    assert lacking == [], f"plugins/module_utils/backends/{backend}/features.py says nothing of these options"


def test_the_test_of_the_matrix_sees_what_is_missing() -> None:
    can = capabilities_of("qemu")
    holed = Capabilities(can.backend, can.title, {key: value for key, value in can.support.items() if key != "storage[].serial"}, ())
    assert [text for key in LEAVES if (text := _uncovered(holed, key))] == ["storage[].serial: anything"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_matrix_speaks_of_nothing_else(backend: str) -> None:
    beside = {"metadata", "cloud_init", "restart_policy.on_reboot", "restart_policy.on_crash", "restart_policy.max_per_hour", "security.jail"}
    known = {*LEAVES, *beside}
    for leaf in LEAVES:
        part = leaf
        while "." in part:
            part = part.rpartition(".")[0].removesuffix("[]")
            known.add(part)
    for key in capabilities_of(backend).support:
        option, _equals, value = key.partition("=")
        assert option in known, key
        if value and option not in beside:
            assert value in (_choices(option) or CLASSES[option]), key


def test_all_backends_speak_of_the_same_things() -> None:
    abilities = {backend: list(capabilities_of(backend).abilities) for backend in BACKENDS}
    assert len({tuple(keys) for keys in abilities.values()}) == 1
    for backend in BACKENDS:
        can = capabilities_of(backend)
        assert can.backend == backend
        assert beside_keys(can) == beside_keys(capabilities_of("qemu"))


def beside_keys(can: Capabilities) -> set[str]:
    return {key for key in can.support if key.startswith(("metadata", "restart_policy", "security"))}


@pytest.mark.parametrize("backend", BACKENDS)
def test_periods_and_limits_are_well_formed(backend: str) -> None:
    can = capabilities_of(backend)
    for key, periods in can.support.items():
        for support in periods:
            assert support.level in (SUPPORTED, INERT) or support.reason, f"{key} does not say why"
            assert not (support.since and support.until) or older(support.since, support.until), key
            assert not support.reason.endswith("."), f"the reason of {key} is the end of a sentence"
        for first, second in itertools.pairwise(periods):
            assert first.until == second.since, f"the periods of {key} do not join"
    for limit in can.limits:
        assert limit.measure in MEASURES or limit.measure in LEAVES, limit.measure
        assert limit.least is not None or limit.most is not None


@pytest.mark.parametrize(
    ("version", "than", "expected"),
    [("1.9", "1.14", True), ("1.14", "1.9", False), ("1.14.0", "1.14", False), ("53.0", "53", False), ("0.14", "15", True), ("7.2.22", "8.1", True),
     ("v1.16.1", "1.16", False), ("1.13.0-dirty", "1.13", False), ("1.13", None, False)],
)  # fmt: skip
def test_versions_are_numbers(version: str, than: str | None, expected: bool) -> None:
    assert older(version, than) is expected


def test_an_end_is_the_first_version_without() -> None:
    periods = yes("2", until="5")
    assert [bool(lookup(periods, version)) for version in ("1.9", "2.0", "4.9", "5", None)] == [False, True, True, False, False]
