# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import Internal
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition

WHOLE = json.loads(Definition(name="web", backend="qemu", backend_version="7.2", binary="/q", config={"storage": [{"id": "a"}]}).to_json())


def test_what_was_written_is_read() -> None:
    assert Definition.from_json(json.dumps(WHOLE), "vm.json").config == {"storage": [{"id": "a"}]}


@pytest.mark.parametrize(
    "change",
    [{"schema": True}, {"schema": 0}, {"config": {"storage": ["x"]}}, {"config": {"network": {}}}, {"labels": []}, {"protected": "yes"}, {"backend": "xen"}],
)
def test_an_edited_file_is_told_from_ours(change: dict[str, object]) -> None:
    with pytest.raises(Internal, match=r"vm\.json is not a definition of ours.*state: absent"):
        Definition.from_json(json.dumps({**WHOLE, **change}), "vm.json")


def test_a_file_nested_without_end_is_torn() -> None:
    with pytest.raises(Internal, match="not a readable definition"):
        Definition.from_json("[" * 100_000, "vm.json")
