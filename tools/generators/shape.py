# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration tree as plain data, read off the pydantic model: what the generated files are written from."""

from __future__ import annotations

import types
import typing as t

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from ansible_collections.unkey.vmcp.plugins.module_utils.model import fields
from ansible_collections.unkey.vmcp.plugins.module_utils.model.config import Tree, VmConfig

LICENSE = """# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""


# Of the sources.
LINE_MAX = 160


def parts(annotation: t.Any) -> tuple[t.Any, bool]:
    """The annotation without C(None) (a union of the rest stays a union), and whether C(None) was among it."""
    if t.get_origin(annotation) in (t.Union, types.UnionType):
        arguments = t.get_args(annotation)
        rest = tuple(a for a in arguments if a is not types.NoneType)
        return (rest[0] if len(rest) == 1 else t.Union[rest]), len(rest) < len(arguments)
    return annotation, False


def is_tree(annotation: t.Any) -> t.TypeGuard[type[Tree]]:
    return isinstance(annotation, type) and issubclass(annotation, Tree)


def entry_tree(annotation: t.Any) -> type[Tree] | None:
    """The model of a list's entries, where they are a part of the tree."""
    if t.get_origin(annotation) is list and is_tree(t.get_args(annotation)[0]):
        return t.get_args(annotation)[0]
    return None


def default_of(field: FieldInfo) -> t.Any:
    value = field.get_default(call_default_factory=True, validated_data={})
    return value.model_dump() if isinstance(value, Tree) else value


def shape_of(model: type[Tree]) -> dict[str, t.Any]:
    """C({name: node}); a node has C(kind) C(leaf), C(tree) or C(list), and what belongs to it."""
    nodes: dict[str, t.Any] = {}
    for name, field in model.model_fields.items():
        annotation, optional = parts(field.annotation)
        entries = entry_tree(annotation)
        if is_tree(annotation):
            nodes[name] = {"kind": "tree", "optional": optional, "fields": shape_of(annotation)}
        elif entries is not None:
            nodes[name] = {"kind": "list", **bounds(field.metadata), "fields": shape_of(entries)}
        else:
            nodes[name] = {
                "kind": "leaf",
                **({"required": True} if field.is_required() else {"default": default_of(field)}),
                **reading(annotation, field.metadata),
            }
    return nodes


# The types of fields.py, by what tells them apart.
TYPES = {alias.__metadata__[0]: name for name, alias in vars(fields).items() if t.get_origin(alias) is t.Annotated}


def reading(annotation: t.Any, metadata: t.Sequence[t.Any]) -> dict[str, t.Any]:
    """C({"read": …}): how a leaf is read without pydantic, its bounds included; nothing for what only pydantic knows."""
    read = _how(annotation, metadata)
    return {"read": read} if read else {}


def _how(annotation: t.Any, metadata: t.Sequence[t.Any]) -> dict[str, t.Any] | None:
    if t.get_origin(annotation) is t.Annotated:
        annotation, *inner = t.get_args(annotation)
        # What was written as Field(ge=…) within it has its own.
        metadata = [*(part for item in inner for part in (item.metadata if isinstance(item, FieldInfo) else [item])), *metadata]
    named = [TYPES[item] for item in metadata if isinstance(item, BeforeValidator) and item in TYPES]
    if named:
        return {"as": named[0], **bounds(metadata)}
    if t.get_origin(annotation) is t.Literal:
        return {"as": "choice", "words": t.get_args(annotation)}
    if t.get_origin(annotation) is dict:
        return {"as": "dict"}
    if t.get_origin(annotation) is list:
        of = _how(t.get_args(annotation)[0], [])
        return {"as": "list", "of": of, **bounds(metadata)} if of else None
    return None


def bounds(metadata: t.Sequence[t.Any]) -> dict[str, int]:
    """Those that annotated_types knows, of pydantic's metadata of a field."""
    return {name: getattr(item, name) for name in ("ge", "le", "min_length", "max_length") for item in metadata if hasattr(item, name)}


def render_shape() -> str:
    """The text of C(model/shape.py)."""
    lines = [
        LICENSE.rstrip("\n"),
        '"""Written by tools/generate.py from model/config.py: do not edit.',
        "",
        "The configuration tree as plain data, for code that has to do without pydantic: C(leaf)s with their defaults and how they are read (C(plain)),",
        "C(tree)s (C(optional): null unless given), and C(list)s of trees.",
        '"""',
        "",
        "from __future__ import annotations",
        "",
        "import typing as t",
        "",
        "SHAPE: dict[str, dict[str, t.Any]] = {",
        *_render(shape_of(VmConfig), 1),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _literal(value: t.Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}": {_literal(item)}' for key, item in value.items()) + "}"
    if isinstance(value, tuple):
        return "(" + ", ".join(_literal(item) for item in value) + ("," if len(value) == 1 else "") + ")"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _render(nodes: dict[str, t.Any], depth: int) -> t.Iterator[str]:
    pad = "    " * depth
    for name, node in nodes.items():
        head = ", ".join(f'"{key}": {_literal(value)}' for key, value in node.items() if key != "fields")
        if "fields" in node:
            yield f'{pad}"{name}": {{'
            for key, value in node.items():
                if key != "fields":
                    yield f'{pad}    "{key}": {_literal(value)},'
            yield f'{pad}    "fields": {{'
            yield from _render(node["fields"], depth + 2)
            yield f"{pad}    }},"
            yield f"{pad}}},"
        elif len(f'{pad}"{name}": {{{head}}},') <= LINE_MAX:
            yield f'{pad}"{name}": {{{head}}},'
        else:
            # As the formatter of the sources breaks it.
            yield f'{pad}"{name}": {{'
            yield from (f'{pad}    "{key}": {_literal(value)},' for key, value in node.items())
            yield f"{pad}}},"
