# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playgrounds of the end-to-end tests, and the built module as a process that can be killed at any point."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.integration.e2e.conftest import disk, ground, guest, top, use
from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm
from ansible_collections.unkey.vmcp.tests.integration.faults.built_module import BuiltModule, build

__all__ = ["disk", "ground", "guest", "top"]


@pytest.fixture
def firecracker(ground: Playground) -> Vmm:
    return use("firecracker", ground)


def _built(tmp_path_factory: pytest.TempPathFactory, name: str) -> t.Iterator[BuiltModule]:
    made = build(tmp_path_factory.mktemp(name), name)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[BuiltModule]:
    yield from _built(tmp_path_factory, "vmcp_vm")


@pytest.fixture
def module(built_once: BuiltModule, ground: Playground) -> BuiltModule:
    """C(vmcp_vm) as Ansible ships it to a host, on this test's directories."""
    built_once.options = dict(ground.dirs)
    return built_once


@pytest.fixture(scope="module")
def many_built_once(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[BuiltModule]:
    yield from _built(tmp_path_factory, "vmcp_vms")


@pytest.fixture
def many(many_built_once: BuiltModule, ground: Playground) -> BuiltModule:
    """C(vmcp_vms), likewise."""
    many_built_once.options = dict(ground.dirs)
    return many_built_once


@pytest.fixture(scope="module")
def disk_built_once(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[BuiltModule]:
    yield from _built(tmp_path_factory, "vmcp_disk")


@pytest.fixture
def disks(disk_built_once: BuiltModule, ground: Playground) -> BuiltModule:
    """C(vmcp_disk), likewise."""
    disk_built_once.options = dict(ground.dirs)
    return disk_built_once
