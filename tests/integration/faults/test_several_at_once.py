# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several runs on one VM at once: one after the other, each saying whom it waits for, and none for ever."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import GREETING, Playground
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm
from ansible_collections.unkey.vmcp.tests.integration.faults.built_module import BuiltModule
from ansible_collections.unkey.vmcp.tests.integration.faults.host_trace import definition, vmms

_WAITING = r"Waiting for the lock of VM web, held by process \d+ \(vmcp_vm web state=[a-z]+, since [0-9T:+-]+\)\."


def test_ten_at_once_are_served_one_after_the_other(ground: Playground, module: BuiltModule, firecracker: Vmm, guest: t.Callable[..., str]) -> None:
    given = {"name": "web", "backend": "firecracker", "memory": "128M", "kernel": guest("halt"), "shutdown_timeout": 0, **firecracker.options}
    asked = [{**given, "state": "running", "labels": {"turn": str(turn)}} for turn in range(6)]
    asked += [{"name": "web", "state": state, "shutdown_timeout": 0} for state in ("restarted", "paused", "running", "restarted")]
    # The VM is there, so that each of the ten can do what it asks for whatever came before.
    module.run(path=ground.path, **asked[0]).ok()
    ended = module.run_together(asked, path=ground.path)
    results = [one.ok() for one in ended]
    assert sum(bool(re.search(_WAITING, str(result.get("warnings")))) for result in results) >= 5, "most had to wait, and said for whom"
    labels = definition(ground, "web")["labels"]
    assert labels in [one["labels"] for one in asked[:6]]
    (pid,) = vmms(ground, "web")
    end = module.run(path=ground.path, **{**asked[0], "labels": labels}).ok()
    assert end["vm"]["state"] == "running"
    assert set(end["actions"]) <= {"resume"}
    assert end["vm"]["pid"] == pid


def test_creations_and_removals_at_once_leave_one_vm_or_none(ground: Playground, module: BuiltModule, firecracker: Vmm, guest: t.Callable[..., str]) -> None:
    given = {"name": "web", "backend": "firecracker", "memory": "128M", "kernel": guest("halt"), **firecracker.options}
    ended = module.run_together([{**given, "state": "running"}, {"name": "web", "state": "absent"}] * 5, path=ground.path)
    for one in ended:
        one.ok()
    there = definition(ground, "web") is not None
    assert len(vmms(ground, "web")) == (1 if there else 0)


def test_whoever_waits_too_long_says_for_whom(ground: Playground, module: BuiltModule, firecracker: Vmm, guest: t.Callable[..., str]) -> None:
    given = {"name": "web", "backend": "firecracker", "memory": "128M", "kernel": guest("halt"), **firecracker.options}
    module.run(path=ground.path, state="running", wait_for=[{"console": GREETING}], **given).ok()
    never = {"name": "web", "state": "running", "wait_for": [{"console": "^never$"}], "wait_timeout": 3}
    holder, late, patient = module.run_together(
        [never, {"name": "web", "state": "paused", "lock_timeout": 1}, {"name": "web", "state": "present", "labels": {"a": "b"}}], path=ground.path, apart_s=0.7
    )
    assert holder.result["code"] == "deadline_exceeded" and "never" in holder.result["msg"]
    assert late.result["code"] == "deadline_exceeded"
    assert re.search(r"Waited 1\.\d s for the lock .*/web, which process \d+ \(vmcp_vm web state=running, since .*\) holds\. Try again", late.result["msg"])
    assert late.result["waited_for"]["what"] == "vmcp_vm web state=running"
    assert patient.ok()["changed"] and patient.ok()["vm"]["state"] == "running", "the one that gave up has done nothing"
