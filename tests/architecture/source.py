# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's own Python files, parsed: what the architecture tests look at."""

from __future__ import annotations

import ast
import dataclasses
import functools
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "plugins"
MODULE_UTILS = PLUGINS / "module_utils"
PACKAGE = "ansible_collections.unkey.vmcp.plugins.module_utils"


@dataclasses.dataclass(frozen=True)
class Source:
    """C(name): dotted, below module_utils for what is there (C(model.config)), below plugins for the rest (C(modules.vmcp_vm))."""

    path: pathlib.Path
    name: str
    tree: ast.Module
    lines: int

    def imports(self) -> set[str]:
        """Absolute names, ours as C(.model.config): a leading dot, then as in C(name). Imports under C(TYPE_CHECKING) count too: they are knowledge."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                found.update(self._from(node))
        return {name.replace(f"{PACKAGE}.", ".", 1) if name.startswith(f"{PACKAGE}.") else name for name in found}

    def _from(self, node: ast.ImportFrom) -> set[str]:
        if not node.level:
            return {node.module or ""}
        inside = self.path.relative_to(MODULE_UTILS).parts[: -node.level]
        base = ".".join([*inside, *(node.module or "").split(".")]).strip(".")
        # 'from ..host import locks' names a module in a package, 'from ..errors import X' a thing in a module.
        if base and (MODULE_UTILS / (base.replace(".", "/") + ".py")).exists():
            return {f".{base}"}
        return {f".{base}.{alias.name}".replace("..", ".") for alias in node.names}


@functools.cache
def sources() -> tuple[Source, ...]:
    found = []
    for path in sorted(PLUGINS.rglob("*.py")):
        base = MODULE_UTILS if path.is_relative_to(MODULE_UTILS) else PLUGINS
        name = ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")
        text = path.read_text(encoding="utf-8")
        found.append(Source(path, name, ast.parse(text), text.count("\n")))
    return tuple(found)


def core() -> tuple[Source, ...]:
    """Everything in module_utils."""
    return tuple(source for source in sources() if source.path.is_relative_to(MODULE_UTILS))


def modules() -> tuple[Source, ...]:
    return tuple(source for source in sources() if source.name.startswith("modules."))
