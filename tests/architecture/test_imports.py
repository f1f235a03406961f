# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The direction of the imports (DESIGN: model <- capabilities <- planner <- backends, host <- runner <- modules), and who may know what."""

from __future__ import annotations

import sys
import typing as t

import pytest

from .source import Source, core, modules, sources

# From the bottom. A module imports what is in a layer below its own, and its own package.
LAYERS = (
    ("errors", "call", "runtime_hash"),
    ("host.layout",),
    ("thirdparty", "thirdparty_pydantic"),
    ("model",),
    # Contracts, plain data that every layer above may speak of.
    ("kept_code",),
    ("runtime", "argument_specs", "backends.port", "host.port", "capabilities.matrix", "capabilities.rules"),
    # What a backend can do is data, which lies with the backend; the matrix gathers it.
    ("backends.cloudhypervisor.features", "backends.firecracker.features", "backends.qemu.features"),
    # The bootstrap is loaded by every task, and so knows next to nothing.
    ("capabilities", "bootstrap"),
    ("planner",),
    ("backends", "host"),
    ("runner",),
)
LIBRARIES = {"thirdparty": {"httpx", "pycdlib", "pyroute2", "qemu"}, "thirdparty_pydantic": {"pydantic"}}


def layer(name: str) -> int:
    """By the longest entry that fits: C(host.layout) is not in the layer of C(host)."""
    fits = [(len(entry), rank) for rank, entries in enumerate(LAYERS) for entry in entries if name == entry or name.startswith(f"{entry}.")]
    assert fits, f"{name} is in no layer: say in LAYERS where it belongs"
    return max(fits)[1]


def is_stdlib(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names


@pytest.mark.parametrize("source", core(), ids=lambda source: source.name)
def test_imports_go_downwards(source: Source) -> None:
    if not source.name:
        return
    package = source.name.partition(".")[0]
    ours = {name[1:] for name in source.imports() if name.startswith(".")}
    upwards = {name for name in ours if name.partition(".")[0] != package and layer(name) >= layer(source.name)}
    assert not upwards, f"{source.name} must not know {', '.join(sorted(upwards))}"


@pytest.mark.parametrize("source", core(), ids=lambda source: source.name)
def test_no_backend_knows_another(source: Source) -> None:
    if not source.name.startswith("backends."):
        return
    mine = source.name.split(".")[1]
    others = {"cloudhypervisor", "firecracker", "qemu"} - {mine}
    if mine == "registry":
        return
    assert not {name for name in source.imports() for other in others if name.startswith(f".backends.{other}")}


@pytest.mark.parametrize("source", core(), ids=lambda source: source.name)
def test_core_knows_neither_ansible_nor_libraries(source: Source) -> None:
    foreign = {name for name in source.imports() if not name.startswith(".") and not is_stdlib(name)}
    if source.name == "bootstrap":
        foreign = {name for name in foreign if not name.startswith("ansible.module_utils.")}
    foreign = {name for name in foreign if name.partition(".")[0] not in LIBRARIES.get(source.name, set())}
    assert not foreign, f"{source.name} imports {', '.join(sorted(foreign))}: Ansible belongs into bootstrap, libraries into thirdparty"


@pytest.mark.parametrize("source", modules(), ids=lambda source: source.name)
def test_modules_know_bootstrap_and_runner_alone(source: Source) -> None:
    allowed = (".bootstrap", ".call", ".argument_specs", ".runner.")
    strangers = {name for name in source.imports() if not name.startswith(allowed) and not is_stdlib(name)}
    assert not strangers


def circles(knows: t.Mapping[str, t.Collection[str]]) -> list[tuple[str, ...]]:
    """Names that lead back to themselves, those together that lead to each other."""
    leads = {name: reached(knows, name) for name in knows}
    return sorted({tuple(sorted(other for other in leads[name] if name in leads[other])) for name in knows if name in leads[name]})


def reached(knows: t.Mapping[str, t.Collection[str]], name: str) -> set[str]:
    found: set[str] = set()
    ahead = list(knows[name])
    while ahead:
        one = ahead.pop()
        if one not in found:
            found.add(one)
            ahead.extend(knows[one])
    return found


def test_no_file_of_the_core_knows_one_that_knows_it() -> None:
    """Not by way of others either, nor in a function or for its types alone: what two files need of each other belongs in a third, below both."""
    names = {source.name for source in core()}
    found = circles({source.name: {place for name in source.imports() if (place := file_of(name, names))} - {source.name} for source in core()})
    assert not found, "imports in a circle: " + "; ".join(" - ".join(circle) for circle in found)


def file_of(name: str, names: t.Collection[str]) -> str:
    """The file of ours that is imported by a name, "" for none: C(.host.locks) is one, and C(.host.layout.Layout) a thing in one."""
    place = name.removeprefix(".") if name.startswith(".") else ""
    while place and place not in names:
        place = place.rpartition(".")[0]
    return place


def test_circles_are_seen() -> None:
    """The test of that test."""
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [("b", "c")]
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"e"}, "e": {"d"}}) == [("a", "b", "c"), ("d", "e")]


def test_there_is_something_to_look_at() -> None:
    assert len(core()) > 20
    assert len(sources()) >= len(core()) + len(modules())
