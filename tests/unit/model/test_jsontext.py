# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.model.jsontext import key_a_line


@pytest.mark.parametrize("body", [{}, {"a": 1}, {"b": {"z": [1, {"y": None}], "a": "ü\n"}, "a": True, 'quo"te': "x"}])
def test_it_reads_back_and_has_a_line_for_each_key(body: dict[str, t.Any]) -> None:
    text = key_a_line(body)
    assert json.loads(text) == body
    assert text.endswith("}\n") and len(text.splitlines()) == 2 + max(1, len(body))


def test_equal_objects_are_equal_texts_unless_their_order_is_to_stay() -> None:
    one, other = {"a": {"x": 1, "y": 2}, "b": 0}, {"b": 0, "a": {"y": 2, "x": 1}}
    assert key_a_line(one) == key_a_line(other)
    assert key_a_line(other, sort_keys=False).index('"b"') < key_a_line(other, sort_keys=False).index('"a"')
