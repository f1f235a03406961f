# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered of a wait within one boot."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import DeadlineExceeded
from ansible_collections.unkey.vmcp.plugins.module_utils.host.console_search import Searcher
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.conditions import conditions
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.waits import wait
from ansible_collections.unkey.vmcp.tests.fakes.waited_vm import WaitedVm


def test_a_condition_that_was_met_in_this_boot_needs_no_log_any_more(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "console.log"
    log.write_text("login: ")
    target = WaitedVm(console_log=str(log))
    wanted = conditions([{"console": "login:"}, {"file": str(log)}], target, Searcher())
    remembered: list[str] = []
    assert [w["condition"] for w in wait(target, wanted, 0, (), remembered.append)] == ["console: login:", f"file: {log}"]
    assert remembered == ["console: login:", f"file: {log}"]
    log.unlink()
    wanted = conditions([{"console": "login:"}, {"file": str(log)}], target, Searcher())
    with pytest.raises(DeadlineExceeded):
        wait(target, wanted, 0)
    assert len(wait(target, wanted, 0, remembered, pytest.fail)) == 2


def test_what_may_change_again_is_asked_again() -> None:
    target = WaitedVm(runs=False)
    with pytest.raises(DeadlineExceeded):
        wait(target, conditions([{"running": True}], target, Searcher()), 0, ["running"])
