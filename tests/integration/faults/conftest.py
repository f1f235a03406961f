# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playgrounds of the end-to-end tests, and the built module as a process that can be killed at any point."""

from __future__ import annotations

import os
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


# Firecracker's driver stands for all: what is killed is the runner's, which is the same. For a look by hand: qemu, cloudhypervisor
KILLED = (os.environ.get("UNKEY_VMCP_TEST_KILLED") or "firecracker").split(",")


@pytest.fixture(params=KILLED)
def vmm(ground: Playground, request: pytest.FixtureRequest) -> Vmm:
    return use(request.param, ground)


def _builder(name: str, scope: t.Literal["session", "module"]) -> t.Callable[..., BuiltModule]:
    """A fixture: the module as Ansible ships it to a host, built once."""

    def built(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[BuiltModule]:
        made = build(tmp_path_factory.mktemp(name), name)
        yield made
        made.stop()

    return pytest.fixture(scope=scope)(built)


def _on_ground(builder: str) -> t.Callable[..., BuiltModule]:
    """A fixture: what that one has built, on this test's directories."""

    def on_ground(request: pytest.FixtureRequest, ground: Playground) -> BuiltModule:
        built: BuiltModule = request.getfixturevalue(builder)
        built.options = dict(ground.dirs)
        return built

    return pytest.fixture(on_ground)


built_vm = _builder("vmcp_vm", "session")
module = _on_ground("built_vm")
built_vms = _builder("vmcp_vms", "module")
many = _on_ground("built_vms")
built_disk = _builder("vmcp_disk", "module")
disks = _on_ground("built_disk")
