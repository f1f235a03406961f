# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test cases that live in YAML files beside the tests: a new case is a new entry there."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
import yaml

FIXTURES = pathlib.Path(__file__).resolve().parent / "fixtures"


def load_cases(test_file: str, name: str) -> list[t.Any]:
    """The entries of C(cases/NAME.yml) beside C(test_file), as pytest parameters named by their C(name)."""
    path = pathlib.Path(test_file).parent / "cases" / f"{name}.yml"
    cases = yaml.safe_load(path.read_text(encoding="utf-8"))
    names = [case["name"] for case in cases]
    assert len(set(names)) == len(names), f"two cases of the same name in {path}"
    return [pytest.param(case, id=case["name"]) for case in cases]


def assert_violations(violations: t.Sequence[t.Any], expected: t.Mapping[str, str]) -> None:
    """The violations are exactly those expected: field to a part of the message."""
    found = {violation.field: violation.message for violation in violations}
    assert sorted(violation.field for violation in violations) == sorted(expected), found
    for field, part in expected.items():
        assert part in found[field], found
        assert found[field] == found[field].strip() and found[field].endswith((".", "?")), found
