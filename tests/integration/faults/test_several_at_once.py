# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several runs on one VM at once: one after the other, each saying whom it waits for, and none for ever."""

from __future__ import annotations

import json
import os
import random
import re
import typing as t
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import GREETING, Playground, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm
from ansible_collections.unkey.vmcp.tests.integration.faults.built_module import BuiltModule
from ansible_collections.unkey.vmcp.tests.integration.faults.host_trace import definition, vmms

# Runs at once; more for those who have the time.
CROWD = int(os.environ.get("VMCP_CROWD", "200"))
_WAITING = r"Waiting for the lock of VM ([a-z0-9-]+), held by process \d+ \(vmcp_vm \1 state=[a-z]+, since [0-9T:+-]+\)\."


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


def test_playbooks_and_ad_hoc_tasks_at_once(ground: Playground, guest: t.Callable[..., str], firecracker: Vmm) -> None:
    """Through all of Ansible, as different people do it."""
    given = {"name": "web", "backend": "firecracker", "memory": "128M", "kernel": guest("halt"), **firecracker.options}
    assert not ground.ad_hoc("vmcp_vm", state="present", **given).failed
    with ThreadPoolExecutor() as pool:
        play = pool.submit(ground.play, [task(f"turn {turn}", name="web", labels={"turn": f"play {turn}"}) for turn in range(2)])
        alone = [pool.submit(ground.ad_hoc, "vmcp_vm", name="web", labels={"turn": f"alone {turn}"}) for turn in range(3)]
        for turn in range(2):
            play.result().ok(f"turn {turn}")
        for one in alone:
            assert not one.result().failed, one.result()
    turns = [f"play {turn}" for turn in range(2)] + [f"alone {turn}" for turn in range(3)]
    assert definition(ground, "web")["labels"]["turn"] in turns
    assert definition(ground, "web")["config"]["memory"]["size_bytes"] == 128 << 20


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
    never = {"name": "web", "state": "running", "wait_for": [{"console": "^never$"}], "wait_timeout": 12}
    holder, late, patient = module.run_together(
        [never, {"name": "web", "state": "paused", "lock_timeout": 1}, {"name": "web", "state": "present", "labels": {"a": "b"}}], path=ground.path, apart_s=3
    )
    assert holder.result["code"] == "deadline_exceeded" and "never" in holder.result["msg"]
    assert late.result["code"] == "deadline_exceeded"
    assert re.search(r"Waited \d+\.\d s for the lock .*/web, which process \d+ \(vmcp_vm web state=running, since .*\) holds\. Try again", late.result["msg"])
    assert late.result["waited_for"]["what"] == "vmcp_vm web state=running"
    assert patient.ok()["changed"] and patient.ok()["vm"]["state"] == "running", "the one that gave up has done nothing"


def test_two_hundred_at_once_on_the_same_vms(ground: Playground, module: BuiltModule, firecracker: Vmm, guest: t.Callable[..., str]) -> None:
    """Served one after the other for each VM, none for ever, and each that waits says for whom; a few have little patience."""
    names = [f"vm-{number}" for number in range(5)]
    given = {"backend": "firecracker", "memory": "128M", "kernel": guest("halt"), "shutdown_timeout": 0, **firecracker.options}
    for ended in module.run_together([{"name": name, "state": "running", **given} for name in names], path=ground.path):
        ended.ok()
    chance = random.Random(20261121)
    asked: list[dict[str, t.Any]] = []
    for turn in range(CROWD):
        change = chance.choice(
            [{"labels": {"turn": str(turn)}}, {"labels": {"turn": str(turn)}}, {"state": "paused"}, {"state": "running"}, {"state": "restarted"}]
        )
        # A fifth gives up soon; the others would wait for longer than this takes.
        asked.append({"name": names[turn % len(names)], "shutdown_timeout": 0, "lock_timeout": 1 if turn % 5 == 2 else 1500, **change})
    ended = module.run_together(asked, path=ground.path, deadline_s=1600)
    waited = 0
    for options, one in zip(asked, ended, strict=True):
        result = one.result
        waited += bool(re.search(_WAITING, str(result.get("warnings"))))
        if not result.failed:
            continue
        assert result["code"] == "deadline_exceeded" and options["lock_timeout"] == 1, f"{options}: {result!r}"
        said = re.search(rf"Waited (\d+\.\d) s for the lock .*/{options['name']}, which process \d+ \(vmcp_vm {options['name']} state=", result["msg"])
        assert said and 1 <= float(said[1]) < 100, result["msg"]
    assert waited >= CROWD // 2, f"{waited} had to wait, and said for whom"
    assert sum(one.result.failed for one in ended) <= CROWD // 5
    for name in names:
        (pid,) = vmms(ground, name)
        again = module.run(path=ground.path, name=name, state="running").ok()
        assert again["vm"]["pid"] == pid
        turns = [options["labels"] for options in asked if options["name"] == name and "labels" in options]
        assert definition(ground, name)["labels"] in turns
        events = [json.loads(line)["event"] for line in ground.vm_file(name, "events.jsonl").read_text().splitlines()]
        starts_and_ends = [event for event in events if event in ("start", "exit")]
        assert starts_and_ends == (["start", "exit"] * len(events))[: len(starts_and_ends)], "one after the other"
