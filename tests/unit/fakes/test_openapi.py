# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checker of the fakes, in both dialects: a check that lets everything pass would make every contract test worthless."""

from __future__ import annotations

import pytest

from ansible_collections.unkey.vmcp.tests.fakes.openapi import Document

_SCHEMAS = """
  Drive:
    type: object
    required: [id]
    properties:
      id: {type: string}
      count: {type: integer, minimum: 1, maximum: 4}
      mode: {type: string, enum: [Sync, Async]}
      tags: {type: array, items: {type: boolean}}
      limit: {$ref: "REFLimit"}
  Limit:
    properties:
      rate: {type: number}
  Error: {type: object, properties: {fault: {type: string}}}
  Map: {type: object, additionalProperties: {type: integer}}
  Free: {type: object}
"""
SWAGGER = (
    """
swagger: "2.0"
paths:
  /drives/{id}:
    put:
      parameters: [{name: id, in: path, required: true}, {name: body, in: body, required: true, schema: {$ref: "REFDrive"}}]
      responses: {204: {description: done}, default: {description: no, schema: {$ref: "REFError"}}}
  /map:
    get: {responses: {200: {description: it, schema: {$ref: "REFMap"}}}}
  /free:
    get: {responses: {200: {description: it, schema: {$ref: "REFFree"}}}}
definitions:"""
    + _SCHEMAS
).replace("REF", "#/definitions/")
OPENAPI = (
    """
openapi: 3.0.1
paths:
  /drives/{id}:
    put:
      requestBody: {required: true, content: {application/json: {schema: {$ref: "REFDrive"}}}}
      responses: {"204": {description: done}, default: {description: no, content: {application/json: {schema: {$ref: "REFError"}}}}}
  /map:
    get: {responses: {"200": {description: it, content: {application/json: {schema: {$ref: "REFMap"}}}}}}
  /free:
    get: {responses: {"200": {description: it, content: {application/json: {schema: {$ref: "REFFree"}}}}}}
components:
 schemas:"""
    + _SCHEMAS
).replace("REF", "#/components/schemas/")


@pytest.fixture(params=[SWAGGER, OPENAPI], ids=["swagger", "openapi"])
def document(request: pytest.FixtureRequest) -> Document:
    return Document(request.param)


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({"id": "a"}, []),
        ({"id": "a", "count": 4, "mode": "Sync", "tags": [True], "limit": {"rate": 1.5}}, []),
        ({"id": "a", "count": None}, []),
        ({}, ["body.id is missing"]),
        ({"id": None}, ["body.id is missing"]),
        ({"id": "a", "idd": 1}, ["body.idd is unknown"]),
        ({"id": 5}, ["body.id must be string, not 5"]),
        ({"id": "a", "count": True}, ["body.count must be integer, not True"]),
        ({"id": "a", "count": 0}, ["body.count must be at least 1, not 0"]),
        ({"id": "a", "count": 5}, ["body.count must be at most 4, not 5"]),
        ({"id": "a", "mode": "sync"}, ["body.mode must be one of ['Sync', 'Async'], not 'sync'"]),
        ({"id": "a", "tags": [True, 1]}, ["body.tags[1] must be boolean, not 1"]),
        ({"id": "a", "limit": {"rat": 1}}, ["body.limit.rat is unknown"]),
        ([], ["body must be object, not []"]),
        (None, ["PUT /drives/x needs a body"]),
    ],
)
def test_requests(document: Document, body: object, errors: list[str]) -> None:
    assert document.request_errors("PUT", "/drives/x", body) == errors


def test_paths_and_methods(document: Document) -> None:
    assert document.request_errors("GET", "/map", None) == []
    assert document.request_errors("GET", "/map", {}) == ["GET /map takes no body"]
    assert document.request_errors("DELETE", "/map", None) == ["DELETE /map is not in the document"]
    assert document.request_errors("PUT", "/drives/x/y", {"id": "a"}) == ["PUT /drives/x/y is not in the document"]


def test_replies(document: Document) -> None:
    assert document.reply_errors("PUT", "/drives/x", 204, None) == []
    assert document.reply_errors("PUT", "/drives/x", 204, {}) == ["the reply 204 to PUT /drives/x has no body"]
    assert document.reply_errors("PUT", "/drives/x", 400, {"fault": "x"}) == []
    assert document.reply_errors("PUT", "/drives/x", 400, {"fault": 1}) == ["body.fault must be string, not 1"]
    assert document.reply_errors("GET", "/map", 200, {"a": 1}) == []
    assert document.reply_errors("GET", "/map", 200, {"a": "b"}) == ["body.a must be integer, not 'b'"]
    assert document.reply_errors("GET", "/map", 200, None) == ["the reply 200 to GET /map has a body"]
    assert document.reply_errors("GET", "/map", 404, None) == ["GET /map is not answered with 404, but with 200"]
    assert document.reply_errors("GET", "/free", 200, {"what": "ever"}) == []
    assert document.reply_errors("GET", "/x", 200, {}) == ["GET /x is not in the document"]
