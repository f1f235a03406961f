# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state table of the documentation, cell by cell."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.host.port import Exit, Process
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.power import power_steps
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.situation import Situation

DEFINITION = Definition(name="web", backend="qemu", backend_version="7.2.22", binary="/usr/bin/qemu-system-x86_64", config={})
PROCESS = Process(pid=1, boot_id="b", started_at=0.0)

ABSENT = Situation("web")
CREATED = Situation("web", DEFINITION)
RUNNING = Situation("web", DEFINITION, DEFINITION, PROCESS, "running", ever_booted=True)
PAUSED = Situation("web", DEFINITION, DEFINITION, PROCESS, "paused", ever_booted=True)
SHUTDOWN = Situation("web", DEFINITION, last_exit=Exit("b", "request", 0, None, ""), ever_booted=True)
CRASHED = Situation("web", DEFINITION, last_exit=Exit("b", "crash", None, "SIGKILL", ""), ever_booted=True)


@pytest.mark.parametrize(
    ("situation", "state"), [(ABSENT, "absent"), (CREATED, "created"), (RUNNING, "running"), (PAUSED, "paused"), (SHUTDOWN, "shutdown"), (CRASHED, "crashed")]
)
def test_the_reported_state(situation: Situation, state: str) -> None:
    assert situation.state == state


@pytest.mark.parametrize(
    ("requested", "situation", "actions", "state_after"),
    [
        ("present", ABSENT, [], "created"),
        ("present", CREATED, [], "created"),
        ("present", RUNNING, [], "running"),
        ("present", PAUSED, [], "paused"),
        ("present", SHUTDOWN, [], "shutdown"),
        ("present", CRASHED, [], "crashed"),
        ("running", ABSENT, ["start"], "running"),
        ("running", CREATED, ["start"], "running"),
        ("running", SHUTDOWN, ["start"], "running"),
        ("running", CRASHED, ["start"], "running"),
        ("running", RUNNING, [], "running"),
        ("running", PAUSED, ["resume"], "running"),
        ("paused", ABSENT, ["start", "pause"], "paused"),
        ("paused", CRASHED, ["start", "pause"], "paused"),
        ("paused", RUNNING, ["pause"], "paused"),
        ("paused", PAUSED, [], "paused"),
        ("shutdown", ABSENT, [], "created"),
        ("shutdown", CREATED, [], "created"),
        ("shutdown", SHUTDOWN, [], "shutdown"),
        ("shutdown", CRASHED, [], "crashed"),
        ("shutdown", RUNNING, ["shutdown"], "shutdown"),
        ("shutdown", PAUSED, ["shutdown"], "shutdown"),
        ("restarted", CREATED, ["start"], "running"),
        ("restarted", SHUTDOWN, ["start"], "running"),
        ("restarted", RUNNING, ["shutdown", "start"], "running"),
        ("restarted", PAUSED, ["shutdown", "start"], "running"),
    ],
)
def test_the_steps(requested: str, situation: Situation, actions: list[str], state_after: str) -> None:
    steps, after = power_steps(requested, situation, restart=False, grace_s=30)
    assert ([s.action for s in steps], after) == (actions, state_after)


def test_a_change_that_needs_a_restart_keeps_a_paused_vm_paused() -> None:
    steps, after = power_steps("present", PAUSED, restart=True, grace_s=30)
    assert [s.action for s in steps] == ["shutdown", "start", "pause"]
    assert after == "paused"


def test_no_grace_means_force() -> None:
    steps, _after = power_steps("shutdown", RUNNING, restart=False, grace_s=0)
    assert [s.action for s in steps] == ["kill"]


def test_a_vmm_that_does_not_answer_still_runs_and_is_ended_by_force() -> None:
    silent = dataclasses.replace(RUNNING, vmm_state=None, unresponsive="no answer")
    assert silent.state == "running"
    steps, _after = power_steps("shutdown", silent, restart=False, grace_s=30)
    assert [s.action for s in steps] == ["kill"]


def test_a_start_that_was_cut_off_begins_again() -> None:
    half = dataclasses.replace(RUNNING, vmm_state="created")
    steps, after = power_steps("running", half, restart=False, grace_s=30)
    assert ([s.action for s in steps], after) == (["kill", "start"], "running")


def test_a_restart_that_was_cut_off_goes_on_with_any_request_that_leaves_the_power_alone() -> None:
    steps, after = power_steps("present", dataclasses.replace(SHUTDOWN, interrupted=True), restart=False, grace_s=30)
    assert ([s.action for s in steps], after) == (["start"], "running")
