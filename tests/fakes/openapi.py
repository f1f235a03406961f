# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks requests and replies against a VMM's own API document (Swagger 2 or OpenAPI 3), for the fake servers.

The documents are not ours to distribute: they lie in C(shared/specs) beside the clone on machines that have them. C(find) returns None elsewhere, and whoever
asks says that this one check is skipped.

Stricter than the documents in one point: a property that they do not list is an error, because both VMMs refuse or ignore it. Null counts as left out.
"""

from __future__ import annotations

import pathlib
import re
import typing as t

ROOT = pathlib.Path(__file__).resolve().parents[2]
Node = dict[str, t.Any]

_TYPES: dict[str, tuple[type, ...]] = {"string": (str,), "boolean": (bool,), "integer": (int,), "number": (int, float), "object": (dict,), "array": (list,)}


def find(name: str) -> Document | None:
    """The document of that file name, or None where it is not beside the clone."""
    path = ROOT.parent / "shared" / "specs" / name
    return Document(path.read_text(encoding="utf-8")) if path.is_file() else None


class Document:
    def __init__(self, text: str) -> None:
        import yaml

        # Ten times as fast, where the C library was there when PyYAML was built.
        self._tree: Node = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        self._paths = [(re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template))), methods) for template, methods in self._tree["paths"].items()]

    def request_errors(self, method: str, path: str, body: t.Any) -> list[str]:
        """What is wrong with a request, in words; empty when nothing is. C(path) without the server's base path; C(body) None for none."""
        operation = self._operation(method, path)
        if operation is None:
            return [f"{method} {path} is not in the document"]
        required, schema = self._body_schema(operation)
        if body is None:
            return [f"{method} {path} needs a body"] if required else []
        if schema is None:
            return [f"{method} {path} takes no body"]
        return list(self._errors(schema, body, "body"))

    def reply_errors(self, method: str, path: str, status: int, body: t.Any) -> list[str]:
        """The same for a reply. C(body) None for none; a status that the document does not list must fit its default reply."""
        operation = self._operation(method, path)
        if operation is None:
            return [f"{method} {path} is not in the document"]
        by_status = {str(code): reply for code, reply in operation["responses"].items()}
        reply = by_status.get(str(status), by_status.get("default"))
        if reply is None:
            return [f"{method} {path} is not answered with {status}, but with {', '.join(by_status)}"]
        schema = self._content_schema(reply)
        if schema is None:
            return [] if body is None else [f"the reply {status} to {method} {path} has no body"]
        return [f"the reply {status} to {method} {path} has a body"] if body is None else list(self._errors(schema, body, "body"))

    def _operation(self, method: str, path: str) -> Node | None:
        for pattern, methods in self._paths:
            if pattern.fullmatch(path) and method.lower() in methods:
                return t.cast(Node, methods[method.lower()])
        return None

    def _body_schema(self, operation: Node) -> tuple[bool, Node | None]:
        if "requestBody" in operation:
            return bool(operation["requestBody"].get("required")), self._content_schema(operation["requestBody"])
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "body":
                return bool(parameter.get("required")), parameter.get("schema")
        return False, None

    def _content_schema(self, node: Node) -> Node | None:
        content = node.get("content", {}).get("application/json", {})
        return t.cast("Node | None", node.get("schema") or content.get("schema"))

    def _resolve(self, schema: Node) -> Node:
        while "$ref" in schema:
            node: t.Any = self._tree
            for key in schema["$ref"].removeprefix("#/").split("/"):
                node = node[key]
            schema = node
        return schema

    def _errors(self, schema: Node, value: t.Any, where: str) -> t.Iterator[str]:
        schema = self._resolve(schema)
        kind = schema.get("type") or ("object" if "properties" in schema else None)
        if kind and (not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
            yield f"{where} must be {kind}, not {value!r}"
            return
        if "enum" in schema and value not in _words(schema["enum"]):
            yield f"{where} must be one of {_words(schema['enum'])}, not {value!r}"
        if "minimum" in schema and value < schema["minimum"]:
            yield f"{where} must be at least {schema['minimum']}, not {value!r}"
        if "maximum" in schema and value > schema["maximum"]:
            yield f"{where} must be at most {schema['maximum']}, not {value!r}"
        if kind == "object":
            yield from self._object_errors(schema, value, where)
        if kind == "array" and "items" in schema:
            for position, entry in enumerate(value):
                yield from self._errors(schema["items"], entry, f"{where}[{position}]")

    def _object_errors(self, schema: Node, value: Node, where: str) -> t.Iterator[str]:
        known, others = schema.get("properties", {}), schema.get("additionalProperties", "properties" not in schema)
        given = {key: entry for key, entry in value.items() if entry is not None}
        for key in schema.get("required", []):
            if key not in given:
                yield f"{where}.{key} is missing"
        for key, entry in given.items():
            if key in known:
                yield from self._errors(known[key], entry, f"{where}.{key}")
            elif others is False:
                yield f"{where}.{key} is unknown"
            elif isinstance(others, dict):
                yield from self._errors(others, entry, f"{where}.{key}")


def _words(enum: list[t.Any]) -> list[t.Any]:
    # YAML 1.1 reads the level Off as false.
    return ["Off" if word is False else word for word in enum]
