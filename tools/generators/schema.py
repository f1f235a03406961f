# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The JSON schema of configuration files, for editors and pipelines. It knows types and limits; the rules between values are the validation's."""

from __future__ import annotations

import json
import re
import typing as t

from ansible_collections.unkey.vmcp.plugins.module_utils.model.config import VmConfig

_MARKUP = re.compile(r"[A-Z]\(((?:[^()]|\([^()]*\))*)\)")


def render_schema() -> str:
    schema = VmConfig.model_json_schema(ref_template="#/$defs/{model}")
    definitions = schema.pop("$defs")
    definitions["VmConfig"] = schema
    for definition in definitions.values():
        _plain(definition)
        definition["properties"] = {name: _nullable(_plain(node)) for name, node in definition.get("properties", {}).items()}
    tree = {"$ref": "#/$defs/VmConfig"}
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "VM configuration of unkey.vmcp",
        "description": 'The configuration itself, or the document {"config": …} around it. Written by tools/generate.py: do not edit.',
        "anyOf": [
            tree,
            {"type": "object", "properties": {"config": tree}, "required": ["config"], "additionalProperties": False},
        ],
        "$defs": dict(sorted(definitions.items())),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _plain(node: dict[str, t.Any]) -> dict[str, t.Any]:
    """Without pydantic's titles, and without the markup of Ansible's documentation."""
    node.pop("title", None)
    if "description" in node:
        node["description"] = _MARKUP.sub(lambda found: f"`{found[1].removeprefix('ignore:')}`", " ".join(node["description"].split()))
    return node


def _nullable(node: dict[str, t.Any]) -> dict[str, t.Any]:
    """Null is allowed everywhere: it asks for the default."""
    null = {"type": "null"}
    if null in node.get("anyOf", ()):
        return node
    described: dict[str, t.Any] = {key: node.pop(key) for key in ("description", "default") if key in node}
    alternatives = node["anyOf"] if list(node) == ["anyOf"] else [node]
    return {"anyOf": [*alternatives, null], **described}
