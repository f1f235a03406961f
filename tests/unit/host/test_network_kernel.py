# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kernel is too old for is told before a VM does not start."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.host.network.kernel import _cannot_guard
from ansible_collections.unkey.vmcp.plugins.module_utils.model.network_definition import NetworkDefinition


@pytest.mark.parametrize(
    ("kind", "settings", "release", "told"),
    [
        ("macvtap", {}, "5.15.0-91-generic", True),
        ("macvtap", {"anti_spoofing": True}, "4.19.0", True),
        ("macvtap", {"anti_spoofing": False}, "5.15.0-91-generic", False),
        ("macvtap", {}, "5.16.0", False),
        ("macvtap", {}, "6.1.0-13-amd64", False),
        ("bridge", {}, "5.15.0-91-generic", False),
    ],
)
def test_who_cannot_be_held_to_its_addresses(kind: str, settings: dict[str, t.Any], release: str, told: bool) -> None:
    found = list(_cannot_guard(NetworkDefinition("lan", kind, settings), release))
    assert [lack.field for lack in found] == (["anti_spoofing"] if told else [])
    assert all(release in lack.message and "Say anti_spoofing: false" in lack.message for lack in found)
