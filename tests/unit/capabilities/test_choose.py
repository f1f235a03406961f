# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import Installed
from ansible_collections.unkey.vmcp.plugins.module_utils.capabilities.choose import choose
from ansible_collections.unkey.vmcp.plugins.module_utils.model.task import validate_request
from ansible_collections.unkey.vmcp.plugins.module_utils.model.validate import read_config
from ansible_collections.unkey.vmcp.tests.cases import load_cases

VERSIONS = {"cloudhypervisor": "53.0", "firecracker": "1.16.1", "qemu": "7.2.22"}


@pytest.mark.parametrize("case", load_cases(__file__, "choices"))
def test_the_first_rule_that_matches_chooses(case: dict[str, t.Any]) -> None:
    config = read_config({"boot": {"kernel_path": "/k"}, **case.get("config", {})})
    request, violations = validate_request({"name": "x", **case.get("task", {})})
    assert request is not None, violations
    versions = {**VERSIONS, **case.get("versions", {})}
    installed = [Installed(backend, versions[backend], f"/opt/{backend}") for backend in case.get("installed", VERSIONS)]
    choice = choose(config, request, installed, case.get("kvm", True), case.get("host_default"), host_kernels=case.get("host_kernels", ()))
    assert choice.backend == case["chosen"], choice
    assert case["reason"] in choice.reason


def test_the_current_version_counts() -> None:
    installed = [Installed("firecracker", "1.16.1", "/a", current=False), Installed("firecracker", "1.12.0", "/b"), Installed("qemu", "7.2.22", "/c")]
    config = read_config({"boot": {"kernel_path": "/k"}, "network": [{"tap_device": "t0", "mtu": 1400}], "watchdog": False})
    request, _violations = validate_request({"name": "x", "workload": "serverless"})
    assert choose(config, request, installed, True, None).backend == "qemu"
