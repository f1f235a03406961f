# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The reader without pydantic accepts what the models accept, with the same values, and nothing else."""

from __future__ import annotations

import copy
import typing as t

import pytest
from hypothesis import given

from ansible_collections.unkey.vmcp.plugins.module_utils.model.config import VmConfig
from ansible_collections.unkey.vmcp.plugins.module_utils.model.plain import READERS, accept
from ansible_collections.unkey.vmcp.plugins.module_utils.model.shape import SHAPE
from ansible_collections.unkey.vmcp.plugins.module_utils.model.walk import REJECTED, Walk
from ansible_collections.unkey.vmcp.plugins.module_utils.thirdparty_pydantic import ValidationError
from ansible_collections.unkey.vmcp.tests.trees import VALUES
from ansible_collections.unkey.vmcp.tests.unit.properties.test_any_configuration import CONFIG, LEAVES, NUMBERS, PLAUSIBLE, _grown

# What only pydantic reads: a name, or a dictionary.
BEYOND = ("template",)


# Of options that are required where they are.
RIGHT: dict[str, t.Any] = {"vcpu": 0, "host_cpus": [0], "id": "a", "size_bytes": "1M", "size": 1, "refill_ms": 1}


def required_beside(path: tuple[t.Any, ...]) -> list[str]:
    """What its neighbours must be there for the option to be read at all."""
    nodes: t.Mapping[str, t.Any] = SHAPE
    for step in path[:-1]:
        nodes = nodes if isinstance(step, int) else nodes[step]["fields"]
    return [name for name, node in nodes.items() if node.get("required") and name != path[-1]]


def both(tree: t.Any) -> tuple[t.Any, t.Any]:
    """What each makes of a tree: None for what it does not accept."""
    cleaned = Walk("config").fields(tree, SHAPE, (), 0)
    if cleaned is REJECTED:
        return None, None
    plain = accept(copy.deepcopy(cleaned))
    try:
        return plain, VmConfig.model_validate(cleaned)
    except ValidationError:
        return plain, None


def hold_against_each_other(tree: t.Any) -> bool:
    """Whether both accept it."""
    plain, model = both(tree)
    if model is None:
        assert plain is None, "accepted what the models do not"
        return False
    if plain is None:
        assert any(word in str(tree) for word in BEYOND), f"not accepted, though right: {tree!r}"
        return False
    for options in ({}, {"exclude_unset": True}, {"mode": "json"}):
        assert plain.model_dump(**options) == model.model_dump(**options)
        assert repr(plain.model_dump(**options)) == repr(model.model_dump(**options)), "of the same types, in the same order"
    return True


@given(CONFIG)
def test_any_tree(tree: t.Any) -> None:
    hold_against_each_other(tree)


# A second entry is read as the first.
@pytest.mark.parametrize("path", [path for path in LEAVES if 1 not in path], ids=lambda path: ".".join(map(str, path)))
def test_every_option_with_every_kind_of_value(path: tuple[t.Any, ...]) -> None:
    likely = PLAUSIBLE.get(str(path[-1]), ())
    beside = [((*path[:-1], name), RIGHT[name]) for name in required_beside(path)]
    accepted = [value for value in (*likely, *NUMBERS, True, False, *VALUES) if hold_against_each_other(_grown([*beside, (path, value)]))]
    assert accepted or path[-1] in BEYOND, "no value that this test has is right here: give it one in PLAUSIBLE"


def test_what_is_left_out_is_at_its_default() -> None:
    assert hold_against_each_other({})
    plain, model = both({"cpu": {}, "memory": {"balloon": {}}, "console": None})
    assert plain.memory.balloon.size_bytes == model.memory.balloon.size_bytes == 0


def test_values_are_of_the_reader_alone() -> None:
    tree = {"backend_options": {"firecracker": {"a": {"b": [1]}}}}
    plain = accept(tree)
    assert plain is not None
    tree["backend_options"]["firecracker"]["a"]["b"].append(2)
    plain.model_dump()["backend_options"]["firecracker"]["a"]["b"].append(3)
    assert plain.model_dump()["backend_options"]["firecracker"] == {"a": {"b": [1]}}


def test_every_type_has_its_reader() -> None:
    def types(shape: t.Mapping[str, t.Any]) -> t.Iterator[str]:
        for node in shape.values():
            if "fields" in node:
                yield from types(node["fields"])
            elif "read" in node:
                yield from (read["as"] for read in (node["read"], node["read"].get("of")) if read)

    assert set(types(SHAPE)) - {"choice", "dict", "list"} == set(READERS)
