# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories and VMs for the tests beside this file; whatever a test leaves running is killed by its verified pid."""

from __future__ import annotations

import pathlib
import sys
import typing as t

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from vms import Maker, made_below

from ansible_collections.unkey.vmcp.plugins.module_utils.host.supervisors.plain import PlainSupervisor


@pytest.fixture
def maker() -> t.Iterator[Maker]:
    """Short paths with characters that a careless shell would trip over."""
    with made_below("vm cp'$x%n", "stub vmm") as made:
        yield made


@pytest.fixture
def plain(maker: Maker) -> PlainSupervisor:
    return PlainSupervisor(maker.layout, trim_interval_s=1, console_max_bytes=1 << 20)
