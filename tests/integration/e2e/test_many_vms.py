# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many VMs in one task, through ansible-playbook: what is promised in docs/many-vms.md."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.integration.e2e import vmms
from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import GREETING, Playground, Result, Tree, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm

FLEET = {"fleet": "fn"}
PATTERN = "fn-{index:03d}"


@pytest.fixture
def dense(ground: Playground) -> Vmm:
    """The VMM that many VMs are for, where it can be started; else QEMU, which is always there."""
    firecracker = vmms.vmm("firecracker")
    return vmms.use("firecracker" if vmms.why_not_started(firecracker) is None else "qemu", ground)


@pytest.fixture
def many(dense: Vmm) -> int:
    return 30 if dense.backend == "firecracker" and dense.real else 6


@pytest.fixture
def defaults(dense: Vmm, guest: t.Callable[..., str]) -> Tree:
    return {
        "backend": dense.backend,
        "labels": FLEET,
        "shutdown_timeout": 0,
        "config": {"memory": {"size_bytes": "128M"}, "boot": {"kernel_path": guest("halt"), "kernel_args": "console=ttyS0"}},
        **dense.options,
    }


def vms(title: str, *, check: bool | None = False, **options: t.Any) -> Tree:
    return task(title, "vmcp_vms", check=check, **options)


def told(result: Result) -> Tree:
    """What check mode must foretell."""
    kept = ("changed", "actions", "changed_fields", "disruption", "pending", "backend")
    by_name = {name: {key: verdict[key] for key in kept if key in verdict} for name, verdict in result["vms"].items()}
    return {"changed": result["changed"], "vms": by_name, "summary": result["summary"], "diff": result["diff"], "removed": result["removed"]}


def info(title: str = "info") -> Tree:
    return task(title, "vmcp_vm_info")


def touched(result: Result) -> list[str]:
    """But for locks: who looks at VMs that may change has them to itself."""
    return [path for path in result.touched if "/r.locks" not in path]


def states(result: Result) -> dict[str, str]:
    return {vm["name"]: vm["state"] for vm in result["vms"]}


def test_a_fleet_is_made_found_unchanged_and_removed_as_check_mode_says(ground: Playground, defaults: Tree, many: int) -> None:
    fleet = {"defaults": {**defaults, "state": "running", "wait_for": [{"console": f"^{GREETING}$"}]}, "vms": [{"name": PATTERN, "count": many}]}
    other = {"defaults": {**fleet["defaults"], "labels": {**FLEET, "step": "two"}}, "vms": fleet["vms"]}
    gone = {"vms": [], "prune": {"labels": FLEET, "allow_empty": True}}
    tasks = []
    for step, options in (("make", fleet), ("relabel", other), ("remove", gone)):
        tasks += [vms(f"{step}: check", check=True, **options), vms(step, **options), vms(f"{step}: again", **options)]
        tasks += [vms(f"{step}: again, check", check=True, **options), info(f"{step}: info")]
    results = ground.play(tasks)
    names = [f"fn-{index:03d}" for index in range(many)]
    expected = {"make": (["define", "start"], "running"), "relabel": (["update"], "running"), "remove": (["kill", "remove"], None)}
    for step, (actions, state) in expected.items():
        predicted, done, again = results.ok(f"{step}: check"), results.ok(step), results.ok(f"{step}: again")
        assert predicted.touched == []
        assert told(predicted) == told(done)
        assert list(done["vms"]) == names and all(verdict["actions"] == actions for verdict in done["vms"].values())
        assert again["changed"] is False and again["summary"]["changed"] == 0
        assert results.ok(f"{step}: again, check").touched == [] and not results.ok(f"{step}: again, check")["changed"]
        assert states(results.ok(f"{step}: info")) == ({name: state for name in names} if state else {})
    assert results.ok("make")["summary"] == {
        **dict.fromkeys(("unchanged", "failed", "updated", "stopped", "paused", "resumed", "removed"), 0),
        **dict.fromkeys(("total", "changed", "created", "started"), many),
    }
    assert [w["condition"] for w in results.ok("make")["vms"]["fn-000"]["waited"]] == [f"console: ^{GREETING}$"]
    assert results.ok("remove")["removed"] == names
    uids = [vm["uid"] for vm in results.ok("make: info")["vms"]]
    assert len(set(uids)) == many or uids == [None] * many
    lines = [json.loads(line) for line in pathlib.Path(ground.run_dir, ".progress.jsonl").read_text().splitlines()]
    assert {line["doing"] for line in lines} >= {"begin", "define", "start", "wait", "remove", "end"}
    assert all(line["failed"] == 0 for line in lines)


def test_the_violations_of_all_vms_are_told_at_once_and_nothing_is_done(ground: Playground, defaults: Tree) -> None:
    wrong = {"fine": {}, "a": {"config": {"memory": {"size_bytes": "1Q"}}}, "b": {"stat": "running"}, "c": {"config": {"cpu": {"vcpus": 1}}}}
    as_list = [{"name": "fine"}, {"name": "a", "vcpus": "x"}, {"name": "fine"}, {"nam": "d"}, {"name": "e", "metadata": {"k": "v"}}, 7]
    missing = {**defaults, "config": {**defaults["config"], "boot": {"kernel_path": "/nowhere/vmlinux"}}}
    results = ground.play(
        [
            vms("dict", defaults=defaults, vms=wrong),
            vms("list", defaults=defaults, vms=as_list),
            vms("in the defaults", defaults={**defaults, "memory": "lots"}, vms=["a", "b", "c"]),
            vms("of the host", defaults={**missing, "state": "running"}, vms=["a", "b"]),
            vms("of the host: check", check=True, defaults={**missing, "state": "running"}, vms=["a", "b"]),
            vms("nothing to make it from", vms=["a", {"name": "b", "state": "restarted"}, {"name": "c", "state": "absent"}]),
        ]
    )

    def fields(name: str, code: str = "invalid_argument") -> list[str]:
        refused = results.refused(name, code)
        assert touched(refused) == [], refused
        return sorted(violation["field"] for violation in refused["violations"])

    assert fields("dict") == ["vms.a.config.memory.size_bytes", "vms.b.stat", "vms.c.config.cpu.vcpus"]
    assert fields("list") == ["vms[1].vcpus", "vms[2]", "vms[3].name", "vms[4].metadata", "vms[5]"]
    assert fields("in the defaults") == ["defaults.memory"], "said once, where it stands"
    assert fields("of the host", "failed_precondition") == ["defaults.config.boot.kernel_path"]
    assert fields("nothing to make it from", "not_found") == ["vms[0]", "vms[1]"]
    check = results.ok("of the host: check")
    assert [lack["field"] for lack in check["would_need"]] == ["defaults.config.boot.kernel_path"] and check.touched == []
    assert not pathlib.Path(ground.state, "vms").exists()


def test_prune_removes_what_it_says_and_no_more(ground: Playground, defaults: Tree) -> None:
    made = {"a": {}, "b": {}, "c": {}, "kept": {"protected": True}, "stranger": {"labels": {"fleet": "other"}}}
    rule = {"labels": FLEET}
    results = ground.play(
        [
            vms("make", defaults=defaults, vms=made),
            vms("empty", vms=[], prune=rule),
            vms("no labels", defaults=defaults, vms=["a"], prune={"max": 5}),
            vms("null label", defaults=defaults, vms=["a"], prune={"labels": {"fleet": None}}),
            vms("bad max", defaults=defaults, vms=["a"], prune={**rule, "max": "half", "mx": 1}),
            vms("too many", defaults=defaults, vms=["a"], prune={**rule, "max": 1}),
            vms("too large a share", check=True, defaults=defaults, vms=["a"], prune={**rule, "max": "49%"}),
            vms("invalid is declared", defaults=defaults, vms=["a", "b", {"name": "c", "memory": "1Q"}], prune=rule),
            info("untouched"),
            vms("check", check=True, defaults=defaults, vms=["a"], prune={**rule, "max": "50%"}),
            vms("prune", defaults=defaults, vms=["a"], prune={**rule, "max": "50%"}),
            vms("again", defaults=defaults, vms=["a"], prune={**rule, "max": 0}),
            info("pruned"),
        ]
    )
    results.ok("make")
    for name, field in (("empty", "vms"), ("no labels", "prune.labels"), ("null label", "prune.labels.fleet"), ("invalid is declared", "vms[2].memory")):
        assert [v["field"] for v in results.refused(name, "invalid_argument")["violations"]] == [field]
    assert sorted(v["field"] for v in results.refused("bad max", "invalid_argument")["violations"]) == ["prune.max", "prune.mx"]
    for name in ("too many", "too large a share"):
        refused = results.refused(name, "failed_precondition")
        assert "2 of 4 VMs" in refused["msg"] and refused["prune"] == ["b", "c"] and refused.touched == []
    assert set(states(results.ok("untouched"))) == set(made)
    predicted, done = results.ok("check"), results.ok("prune")
    assert told(predicted) == told(done) and predicted.touched == []
    assert done["removed"] == ["b", "c"] and done["kept"] == ["kept"] and set(done["diff"]["before"]) == {"b", "c"}
    assert not results.ok("again")["changed"]
    assert set(states(results.ok("pruned"))) == {"a", "kept", "stranger"}


def test_a_group_grows_and_shrinks_by_its_own_members_alone(ground: Playground, defaults: Tree) -> None:
    def count(number: int) -> Tree:
        return {"defaults": defaults, "vms": [{"name": PATTERN, "count": number}]}

    results = ground.play(
        [
            vms("by hand", defaults=defaults, vms=["fn-009"]),
            vms("three", **count(3)),
            vms("five", **count(5)),
            vms("two: check", check=True, **count(2)),
            vms("two", **count(2)),
            vms("two again", **count(2)),
            info(),
            vms("none", **count(0)),
            info("after none"),
            vms("bad", vms=[{"name": "fn-{index:x}", "count": 1}, {"name": "fn", "count": 2}, {"name": "g-{index}"}, {"name": "H-{index}", "count": 1}]),
        ]
    )
    assert list(results.ok("five")["vms"]) == [f"fn-00{index}" for index in range(5)]
    assert results.ok("five")["summary"]["created"] == 2 and results.ok("five")["summary"]["changed"] == 2
    assert told(results.ok("two: check")) == told(results.ok("two"))
    assert results.ok("two")["removed"] == ["fn-002", "fn-003", "fn-004"]
    assert not results.ok("two again")["changed"]
    assert set(states(results.ok("info"))) == {"fn-000", "fn-001", "fn-009"}, "fn-009 was not made by the group"
    assert set(states(results.ok("after none"))) == {"fn-009"}
    fields = sorted(v["field"] for v in results.refused("bad", "invalid_argument")["violations"])
    assert fields == ["vms[0].name", "vms[1].count", "vms[2].count", "vms[3].name"]


def test_one_that_fails_does_not_keep_the_others(ground: Playground, defaults: Tree) -> None:
    """A path that a directory occupies fails in the middle, when everything was planned."""
    running = {**defaults, "state": "running"}
    # Its console is waited for in vain: it fails when all run.
    waits = {"first": {"wait_for": [{"console": "never said"}], "wait_timeout": 1, "priority": 5}, "second": {"wait_for": [{"console": GREETING}]}}
    results = ground.play(
        [
            vms("define", defaults=defaults, vms=["a", "b", "c"]),
            {"name": "block", "ansible.builtin.file": {"path": f"{ground.state}/vms/b/firecracker.json", "state": "absent"}},
            {"name": "block too", "ansible.builtin.file": {"path": f"{ground.state}/vms/b/launch", "state": "absent"}},
            {"name": "planted", "ansible.builtin.file": {"path": f"{ground.state}/vms/b/launch", "state": "directory"}},
            vms("continue", defaults=running, vms=["a", "b", "c"]),
            info("after continue"),
            vms("down", vms=[{"name": "a", "state": "shutdown", "shutdown_timeout": 0}, {"name": "c", "state": "shutdown", "shutdown_timeout": 0}]),
            vms("stop", defaults=running, vms=["a", {"name": "b", "priority": 10}, "c"], start_batch=1, on_error="stop"),
            info("after stop"),
            {"name": "cleared", "ansible.builtin.file": {"path": f"{ground.state}/vms/b/launch", "state": "absent"}},
            vms("waits", defaults=running, vms=waits),
            info("after waits"),
        ]
    )
    failed = results.refused("continue", "failed_precondition")
    assert failed["failed_vms"] == ["b"] and "1 of 3 VMs failed: b. The others are finished." in failed["msg"], failed["msg"]
    assert failed["vms"]["b"]["error"]["code"] == "failed_precondition" and failed["changed"]
    assert states(results.ok("after continue")) == {"a": "running", "b": "created", "c": "running"}
    stopped = results.refused("stop", "failed_precondition")
    assert stopped["failed_vms"] == ["b"] and "Nothing more was begun" in stopped["msg"]
    assert stopped["vms"]["a"]["not_done"] == stopped["vms"]["c"]["not_done"] == ["start"]
    assert states(results.ok("after stop")) == {"a": "shutdown", "b": "created", "c": "shutdown"}
    late = results.refused("waits", "deadline_exceeded")
    assert late["failed_vms"] == ["first"] and late["vms"]["second"]["waited"]
    assert {"first": "running", "second": "running"}.items() <= states(results.ok("after waits")).items()


def test_a_thousand_entries_with_long_configurations(ground: Playground, dense: Vmm, guest: t.Callable[..., str]) -> None:
    long = " ".join(f"option{index}=value" for index in range(40))
    kernel = guest("halt")
    entries = [{"name": f"vm-{index}", "config": {"boot": {"kernel_path": kernel, "kernel_args": f"id={index} {long}"}}} for index in range(1000)]
    given = {"defaults": {"backend": dense.backend, "memory": "128M", **dense.options}, "vms": entries}
    assert len(json.dumps(entries)) > 500_000
    results = ground.play([vms("check", check=True, **given)])
    result = results.ok("check")
    assert result["summary"]["created"] == 1000
    assert result["invocation"]["module_args"]["vms"] == "1000 entries, not repeated here"
    assert len(json.dumps({key: value for key, value in result.items() if key != "diff"})) < 150_000
    assert len(result["diff"]["after"]) == 51 and "(950 more VMs)" in result["diff"]["after"]


def test_backends_may_be_mixed_and_batches_follow_the_priority(ground: Playground, qemu: Vmm, guest: t.Callable[..., str]) -> None:
    found = [vmms.vmm(name) for name in vmms.BACKENDS]
    usable = [vmm for vmm in found if vmms.why_not_started(vmm) is None]
    entries = {}
    for vmm in usable:
        vmms.use(vmm.backend, ground)
        for index in range(2):
            entries[f"{vmm.backend}-{index}"] = {"backend": vmm.backend, "priority": index, **vmm.options}
    common = {"state": "running", "kernel": guest("halt"), "kernel_args": "console=ttyS0", "memory": "128M", "shutdown_timeout": 0}
    given = {"defaults": {**common, "wait_for": [{"console": GREETING}, "running"]}, "vms": entries}
    results = ground.play(
        [
            vms("make", **given, start_batch=len(usable), **{"return": "full"}),
            vms("again", **given),
            vms("pause", **{**given, "defaults": {**common, "state": "paused"}}),
            vms("resume", **given),
            vms("restart: refused", **{**given, "defaults": {**given["defaults"], "vcpus": 2}}),
            vms("restart", **{**given, "defaults": {**given["defaults"], "vcpus": 2, "allow_disruption": "restart"}}, start_batch=1),
            vms("down", **{**given, "defaults": {**common, "vcpus": 2, "state": "shutdown"}}),
        ]
    )
    made = results.ok("make")["vms"]
    assert {name: verdict["vm"]["backend"] for name, verdict in made.items()} == {name: entry["backend"] for name, entry in entries.items()}
    assert not results.ok("again")["changed"]
    assert all(verdict["actions"] == ["pause"] for verdict in results.ok("pause")["vms"].values())
    assert all(verdict["actions"] == ["resume"] for verdict in results.ok("resume")["vms"].values())
    refused = results.refused("restart: refused", "failed_precondition")
    assert len(refused["violations"]) == len(entries) and touched(refused) == []
    assert all(verdict["actions"][0] == "update" and verdict["actions"][-1] == "start" for verdict in results.ok("restart")["vms"].values())
    assert all(verdict["actions"] == ["kill"] for verdict in results.ok("down")["vms"].values())
    lines = [json.loads(line) for line in pathlib.Path(ground.run_dir, ".progress.jsonl").read_text().splitlines()]
    first = [line["done"] for line in lines if line["task"] == lines[0]["task"] and line["doing"] == "start"]
    assert first == [len(usable), len(usable)], "two batches"


def test_what_the_host_has_no_room_for_is_refused_before_anything_is_done(ground: Playground, defaults: Tree) -> None:
    large = {**defaults, "state": "running", "config": {**defaults["config"], "memory": {"size_bytes": "16T" if defaults["backend"] == "qemu" else "30G"}}}
    entries = [{"name": "large-{index}", "count": 200}]
    results = ground.play([vms("refused", defaults=large, vms=entries), vms("check", check=True, defaults=large, vms=entries)])
    refused = results.refused("refused", "failed_precondition")
    assert "overcommit: true" in refused["msg"] and touched(refused) == []
    assert any("overcommit: true" in lack["message"] for lack in results.ok("check")["would_need"])
    allowed = ground.play([vms("allowed", check=True, defaults=large, vms=entries, overcommit=True)]).ok("allowed")
    assert allowed["would_need"] == [] and any("overcommitted" in text for text in allowed["warnings"])
