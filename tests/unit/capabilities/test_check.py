# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.capabilities.check import check
from ansible_collections.unkey.vmcp.plugins.module_utils.model.task import validate_request
from ansible_collections.unkey.vmcp.plugins.module_utils.model.validate import read_config
from ansible_collections.unkey.vmcp.tests.cases import FIXTURES, assert_violations, load_cases


@pytest.mark.parametrize("case", load_cases(__file__, "examples"))
def test_the_example_configurations_behave_as_the_design_says(case: dict[str, t.Any]) -> None:
    config = read_config(json.loads((FIXTURES / "example-configs" / f"{case['file']}.json").read_text()))
    verdict = check(config, case["backend"], None, host_kernel_default=case.get("host_kernel", False))
    assert_violations(verdict.violations, case.get("violations", {}))
    assert_violations(verdict.ignored, case.get("ignored", {}))
    assert_violations(verdict.notices, case.get("notices", {}))


@pytest.mark.parametrize("case", load_cases(__file__, "verdicts"))
def test_verdicts(case: dict[str, t.Any]) -> None:
    request, violations = validate_request({"name": "x", "config": case.get("config", {}), **case.get("task", {})}, stored={})
    assert request is not None, violations
    boot = {"boot": {"kernel_path": "/k"}} if "boot" not in case.get("config", {}) else {}
    config = read_config({**boot, **case.get("config", {})})
    for backend, expected in case["expect"].items():
        verdict = check(config, backend, case.get("version"), request=request, features=case.get("features", ()))
        assert_violations(verdict.violations, expected.get("violations", {}))
        assert_violations(verdict.ignored, expected.get("ignored", {}))
        assert_violations(verdict.notices, expected.get("notices", {}))
