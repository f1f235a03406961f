# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One VM specification goes through its whole life on every backend: each step first in check mode, then for real, then once more.

Check mode must predict the real run in C(changed), C(actions) and C(diff), and touch nothing; the second run must find nothing to do."""

from __future__ import annotations

import pathlib
import typing as t

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import GREETING, Playground, Result, Results, Tree, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm

VM = "life"
# Step, state asked for, state and actions expected; a restart is the only thing that is a change each time.
STEPS = (
    ("define", "present", "created", ["define"]),
    ("boot", "running", "running", ["start"]),
    ("pause", "paused", "paused", ["pause"]),
    ("resume", "running", "running", ["resume"]),
    ("restart", "restarted", "running", ["shutdown", "start"]),
    ("shut down", "shutdown", "shutdown", ["shutdown"]),
    ("boot again", "running", "running", ["start"]),
    ("remove", "absent", "absent", ["kill", "remove"]),
)


def steps(options: Tree) -> list[Tree]:
    listed = []
    for step, state, _after, actions in STEPS:
        given = {"name": VM, "state": state, **({} if state == "absent" else options)}
        if "start" in actions:
            # Also so that the guest writes nothing while the next task is watched.
            given |= {"wait_for": [{"console": f"^{GREETING}$"}]}
        listed += [task(f"{step}: check", check=True, **given), task(step, check=False, **given)]
        listed.append(task(f"{step}: info", "vmcp_vm_info", names=[VM]))
        if state == "restarted":
            continue
        listed += [task(f"{step}: again", check=False, **given), task(f"{step}: again, check", check=True, **given)]
    return listed


def told(result: Result) -> Tree:
    return {key: result.get(key) for key in ("changed", "actions", "diff", "disruption", "pending", "ignored")}


def assert_step(results: Results, step: str, state: str, after: str, actions: list[str]) -> None:
    predicted, done, info = (results.ok(name) for name in (f"{step}: check", step, f"{step}: info"))
    assert done["actions"] == actions and done["changed"], done
    assert told(predicted) == told(done)
    assert predicted.touched == []
    assert predicted["vm"]["state"] == done["vm"]["state"] == after
    assert info.touched == [] and info["changed"] is False
    if after == "absent":
        assert info["vms"] == [] and info["missing"] == [VM]
    else:
        (seen,) = info["vms"]
        assert {key: seen[key] for key in done["vm"] if key != "uptime_s"} == {key: value for key, value in done["vm"].items() if key != "uptime_s"}
        assert (seen["pid"] is not None) == (after in ("running", "paused"))
    if state == "restarted":
        return
    for name in (f"{step}: again", f"{step}: again, check"):
        again = results.ok(name)
        assert (again["changed"], again["actions"], again["disruption"]) == (False, [], "none"), again
        assert again["diff"] in ({"before": {}, "after": {}}, {**done["diff"], "before": {}, "after": {}}), again["diff"]
    assert results.ok(f"{step}: again, check").touched == []


def test_one_specification_goes_through_its_whole_life(ground: Playground, backend: Vmm, guest: t.Callable[..., str], disk: str) -> None:
    config = {
        "cpu": {"vcpu_count": 1},
        "memory": {"size_bytes": "128M"},
        "boot": {"kernel_path": guest("polite"), "kernel_args": "console=ttyS0 quiet"},
        "storage": [{"id": "data", "path": disk}],
    }
    # The real Cloud Hypervisor asks by ACPI, which this guest does not speak.
    patience_s = 2 if backend.real and backend.backend == "cloudhypervisor" else 60
    results = ground.play(steps({"backend": backend.backend, "config": config, "shutdown_timeout": patience_s, **backend.options}))
    for step in STEPS:
        assert_step(results, *step)
    assert pathlib.Path(disk).read_bytes() == bytes(1 << 20), "a disk named by its path is the user's"
    first, second = (results[name]["vm"] for name in ("resume", "restart"))
    assert first["pid"] != second["pid"] and first["boot_id"] != second["boot_id"]
    assert results["shut down"]["vm"]["stop_reason"] == results["shut down"]["vm"]["last_exit"]["reason"] == "request"
