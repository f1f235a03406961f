# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must happen in one place happens in one place; files keep their size."""

from __future__ import annotations

import ast
import warnings

import pytest

from .source import PLUGINS, Source, core, modules, sources

LINES_EXPECTED = 300
LINES_MAX = 450
# Nobody reads or edits these: their size says nothing.
GENERATED = "# Written by tools/generate.py"


def users_of_attribute(name: str) -> list[str]:
    return [source.name for source in sources() for node in ast.walk(source.tree) if isinstance(node, ast.Attribute) and node.attr == name]


def test_check_mode_is_read_once() -> None:
    assert users_of_attribute("check_mode") == ["bootstrap"]


@pytest.mark.parametrize("name", ["fail_json", "exit_json"])
def test_only_the_bootstrap_answers_ansible(name: str) -> None:
    assert set(users_of_attribute(name)) == {"bootstrap"}


@pytest.mark.parametrize("source", core(), ids=lambda source: source.name)
def test_no_import_that_ansible_cannot_see(source: Source) -> None:
    """Ansible packs what it finds by reading imports: a module imported by name would be missing on the host. The core is meant to be: the bootstrap finds it
    there, once for all."""
    if source.name == "bootstrap":
        return
    calls = {ast.unparse(node.func) for node in ast.walk(source.tree) if isinstance(node, ast.Call)}
    assert not calls & {"__import__", "importlib.import_module", "import_module"}


@pytest.mark.parametrize("source", sources(), ids=lambda source: source.name)
def test_no_error_is_swallowed(source: Source) -> None:
    broad = {"Exception", "BaseException"}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler):
            caught = {ast.unparse(part) for part in (node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]) if part is not None}
            assert caught, f"{source.name}:{node.lineno}: a bare except"
            hands_on = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            assert hands_on or not caught & broad, f"{source.name}:{node.lineno}: except {', '.join(sorted(caught & broad))}"


@pytest.mark.parametrize("source", modules(), ids=lambda source: source.name)
def test_module_files_hold_no_logic(source: Source) -> None:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.If):
            assert ast.unparse(node.test) == "__name__ == '__main__'", f"{source.name}:{node.lineno} decides something"
        assert not isinstance(node, (ast.For, ast.While, ast.Try)), f"{source.name}:{getattr(node, 'lineno', 0)} does more than hand over"


@pytest.mark.parametrize("source", modules(), ids=lambda source: source.name)
def test_a_module_brings_next_to_nothing(source: Source) -> None:
    """What a module imports goes to the host with every task."""
    assert {name for name in source.imports() if name != "__future__"} <= {".argument_specs", ".bootstrap"}


@pytest.mark.parametrize("source", modules(), ids=lambda source: source.name)
def test_each_module_has_its_way_to_the_host(source: Source) -> None:
    assert (PLUGINS / "action" / source.path.name).is_file(), "without an action plugin of its name its core would not be found on the host"


def test_there_are_modules_to_look_at() -> None:
    assert {path.stem for path in (PLUGINS / "modules").glob("*.py")} == {source.name.removeprefix("modules.") for source in modules()}
    assert modules()


@pytest.mark.parametrize("source", sources(), ids=lambda source: source.name)
def test_size(source: Source) -> None:
    if GENERATED in source.path.read_text(encoding="utf-8"):
        return
    assert source.lines <= LINES_MAX, f"{source.path.name} has {source.lines} lines: what is its second responsibility?"
    if source.lines > LINES_EXPECTED and not source.name.startswith(("modules.", "doc_fragments.")):
        warnings.warn(f"{source.path.relative_to(PLUGINS)} has {source.lines} lines, more than {LINES_EXPECTED}", stacklevel=1)
