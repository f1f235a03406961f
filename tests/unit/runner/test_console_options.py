# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vmcp_console refuses before it looks at anything."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.call import Call
from ansible_collections.unkey.vmcp.plugins.module_utils.errors import InvalidArgument
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.console import run_console


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"since": {"offset": "\u00b2"}}, "since"),
        ({"since": {"offset": "9" * 5000}}, "since"),
        ({"since": {"boot": "x"}}, "since"),
        ({"wait_for": "(" * 5000 + ")" * 5000}, "wait_for"),
        ({"wait_for": "("}, "wait_for"),
        ({"lines": -1}, "lines"),
    ],
)
def test_options_that_mean_nothing_are_violations(options: dict[str, t.Any], field: str) -> None:
    given = {"name": "web", "max_bytes": 4096, "wait_timeout": 1, **options}
    with pytest.raises(InvalidArgument) as caught:
        run_console(Call(given, True, {}, 0, pytest.fail, lambda: None))
    assert [v.field for v in caught.value.violations] == [field]
