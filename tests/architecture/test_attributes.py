# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every module says how it behaves: check mode, diff mode, idempotence."""

from __future__ import annotations

import ast
import typing as t

import pytest
import yaml

from .source import PLUGINS, Source, modules

REQUIRED = {"check_mode", "diff_mode", "idempotent"}


def documentation(source: Source) -> dict[str, t.Any]:
    for node in source.tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DOCUMENTATION":
            body = yaml.safe_load(ast.literal_eval(node.value))
            assert isinstance(body, dict)
            return body
    raise AssertionError(f"{source.name} has no DOCUMENTATION")


def fragment(name: str) -> dict[str, t.Any]:
    """C(unkey.vmcp.FILE) or C(unkey.vmcp.FILE.ATTRIBUTE), as Ansible finds it."""
    file, attribute = [*name.removeprefix("unkey.vmcp.").split("."), "documentation"][:2]
    tree = ast.parse((PLUGINS / "doc_fragments" / f"{file}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == attribute.upper():
            return t.cast("dict[str, t.Any]", yaml.safe_load(ast.literal_eval(node.value)) or {})
    raise AssertionError(f"no fragment {name}")


@pytest.mark.parametrize("source", modules(), ids=lambda source: source.name)
def test_states_its_attributes(source: Source) -> None:
    body = documentation(source)
    attributes = dict(body.get("attributes") or {})
    for name in body.get("extends_documentation_fragment") or []:
        attributes = {**(fragment(name).get("attributes") or {}), **attributes}
    assert set(attributes) >= REQUIRED, f"missing: {', '.join(sorted(REQUIRED - set(attributes)))}"
    assert attributes["check_mode"]["support"] == "full"
