# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation fragment of the configuration: the model's fields as suboptions of C(config), and the short options beside it."""

from __future__ import annotations

import re
import typing as t

import yaml
from pydantic.fields import FieldInfo

from ansible_collections.unkey.vmcp.plugins.module_utils.model.config import Tree, VmConfig
from ansible_collections.unkey.vmcp.plugins.module_utils.model.words import SHORT_OPTIONS
from ansible_collections.unkey.vmcp.tools.generators.shape import LICENSE, default_of, entry_tree, is_tree, parts

# Types of the documentation by what reads a value; all else is text.
_TYPES = {"parse_size": "raw", "read_whole": "int", "read_flag": "bool", "read_host_path": "path", "read_socket_path": "path"}
_SIZE_NOTE = "Bytes, or a number with a binary suffix, as in V(512M) or V(4GiB)."

_CONFIG = [
    "The configuration of the VM, the same for every backend. The document C({config: {…}}) around it is accepted too.",
    "An option left out is untouched on a VM that exists; the defaults here are those of its creation. An explicit C(null) resets an option to its default.",
    "Lists are complete when given: what is missing is detached (its data is never deleted), and C([]) empties. Entries match by C(id).",
]
# Description beside the place in the tree, type and elements.
_SHORT: dict[str, tuple[str, str, str | None]] = {
    "vcpus": ("Virtual CPUs at boot.", "raw", None),
    "max_vcpus": ("Virtual CPUs the VM can grow to.", "raw", None),
    "memory": (f"Memory at boot. {_SIZE_NOTE}", "raw", None),
    "kernel": ("Kernel on the host.", "str", None),
    "initrd": ("Initial RAM file system on the host.", "str", None),
    "kernel_args": ("Kernel command line.", "str", None),
    "firmware": ("Firmware on the host.", "str", None),
    "disks": ("Disks, each a path or a dictionary. The first is the root device, unless an entry gives C(is_root_device).", "list", "raw"),
    "networks": ("Interfaces, each the name of a network, a tap or a bridge, or a dictionary.", "list", "raw"),
}


def render_fragment() -> str:
    options: dict[str, t.Any] = {"config": {"description": _CONFIG, "type": "dict", "suboptions": _suboptions(VmConfig)}}
    for name, place in SHORT_OPTIONS.items():
        description, kind, elements = _SHORT[name]
        path = ".".join(("config", *place))
        same = f"The same as O({path}), short for the command line. Giving both with different values is an error."
        options[name] = {"description": [description, same], "type": kind, **({"elements": elements} if elements else {})}
    text = yaml.dump({"options": options}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=140)
    return f'''{LICENSE}# Written by tools/generate.py from plugins/module_utils/model/config.py: do not edit.
from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
{text}"""
'''


class _Dumper(yaml.SafeDumper):
    """Lists indented below their key, as yamllint wants them."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)


def _suboptions(model: type[Tree]) -> dict[str, t.Any]:
    return {name: _option(field) for name, field in model.model_fields.items()}


def _option(field: FieldInfo) -> dict[str, t.Any]:
    annotation, _optional = parts(field.annotation)
    kind, elements = _kind(annotation, field.metadata)
    sentences = [field.description or ""]
    if _reader(annotation, field.metadata) in ("parse_size", "parse_disk_size"):
        sentences.append(_SIZE_NOTE)
    option: dict[str, t.Any] = {"description": sentences, "type": kind}
    if elements:
        option["elements"] = elements
    if t.get_origin(annotation) is t.Literal:
        option["choices"] = list(t.get_args(annotation))
    if field.is_required():
        option["required"] = True
    entries = entry_tree(annotation)
    if is_tree(annotation) or entries is not None:
        option["suboptions"] = _suboptions(entries or annotation)
    elif not field.is_required() and default_of(field) not in (None, [], {}):
        option["default"] = default_of(field)
    return option


def _kind(annotation: t.Any, metadata: t.Sequence[t.Any]) -> tuple[str, str | None]:
    """Type and type of elements."""
    origin = t.get_origin(annotation)
    if is_tree(annotation) or origin is dict:
        return "dict", None
    if origin is list:
        inner = t.get_args(annotation)[0]
        return "list", "dict" if is_tree(inner) else _kind(inner, ())[0]
    if origin is t.Union:
        return "raw", None
    return _TYPES.get(_reader(annotation, metadata), "str"), None


def _reader(annotation: t.Any, metadata: t.Sequence[t.Any]) -> str:
    """Name of the function that reads the value, from the annotation or, where pydantic has taken it apart, from the field's metadata."""
    found = [*metadata, *getattr(annotation, "__metadata__", ())]
    names = [item.func.__name__ for item in found if hasattr(item, "func")]
    return re.sub("^_", "", names[0]) if names else ""
