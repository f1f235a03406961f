# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered of a wait within one boot."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import DeadlineExceeded, Internal, VmcpError
from ansible_collections.unkey.vmcp.plugins.module_utils.host.console_search import Searcher
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.conditions import conditions
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.waits import wait


@dataclasses.dataclass
class Living:
    """A VM that runs and says nothing more."""

    console_log: str
    name: str = "web"

    def alive(self) -> bool:
        return True

    def may_return(self) -> bool:
        return False

    def running(self) -> bool:
        return False

    def open_vsock(self, port: int, timeout_s: float) -> bool:
        return False

    def console_tail(self, lines: int) -> list[str]:
        return []

    def obituary(self) -> VmcpError:
        return Internal("it lives")


def test_a_condition_that_was_met_in_this_boot_needs_no_log_any_more(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "console.log"
    log.write_text("login: ")
    target = Living(str(log))
    wanted = conditions([{"console": "login:"}, {"file": str(log)}], target, Searcher())
    remembered: list[str] = []
    assert [w["condition"] for w in wait(target, wanted, 0, (), remembered.append)] == ["console: login:", f"file: {log}"]
    assert remembered == ["console: login:", f"file: {log}"]
    log.unlink()
    wanted = conditions([{"console": "login:"}, {"file": str(log)}], target, Searcher())
    with pytest.raises(DeadlineExceeded):
        wait(target, wanted, 0)
    assert len(wait(target, wanted, 0, remembered, pytest.fail)) == 2


def test_what_may_change_again_is_asked_again(tmp_path: pathlib.Path) -> None:
    target = Living(str(tmp_path / "none"))
    with pytest.raises(DeadlineExceeded):
        wait(target, conditions([{"running": True}], target, Searcher()), 0, ["running"])
