# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state table: which steps lead from the state found to the state asked for. Pure."""

from __future__ import annotations

from .plan import Step
from .situation import Situation


def stop_steps(situation: Situation, grace_s: int) -> list[Step]:
    """Steps that leave no process. A half-started or silent VMM cannot be asked and is ended by force."""
    if not situation.runs:
        return []
    if grace_s == 0 or situation.half_started or situation.unresponsive:
        return [Step("kill")]
    return [Step("shutdown", {"grace_s": grace_s})]


def power_steps(requested: str, situation: Situation, restart: bool, grace_s: int) -> tuple[list[Step], str]:
    """Steps and the state they lead to, for a VM that is (or is being) defined.

    C(restart): the process must be replaced for the definition to hold. C(requested) is any state but C(absent).
    """
    state = situation.state
    stop = stop_steps(situation, grace_s)
    if requested == "shutdown":
        if stop:
            return stop, "shutdown"
        # 'created' satisfies a request for shutdown, and a crashed VM is down already: its record stays as it is.
        return [], "created" if state in ("absent", "created") else state
    if requested == "restarted":
        return [*stop, Step("start")], "running"
    if requested == "present" and situation.interrupted:
        return [Step("start")], "running"
    if requested == "present" and not situation.runs:
        return [], "created" if state == "absent" else state
    target = state if requested == "present" else requested
    if situation.half_started:
        if requested == "present":
            return [], state
        restart = True
    if restart or not situation.runs:
        steps = [*stop, Step("start")]
        return ([*steps, Step("pause")] if target == "paused" else steps), target
    if target == "running" and state == "paused":
        return [Step("resume")], "running"
    if target == "paused" and state == "running":
        return [Step("pause")], "paused"
    return [], target
