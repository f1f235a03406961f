# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How tasks change a definition (what is left out, null, lists, labels), and what they may do to a VM that runs."""

from __future__ import annotations

import json
import pathlib
import typing as t

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import GREETING, Playground, Result, Tree, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm, use

MIB = 1 << 20


def touched(result: Result) -> list[str]:
    """Files that changed, except what a real run without steps may touch: the locks, and the cache of the no-change path."""
    return [path for path in result.touched if ".locks" not in path and not path.endswith(("/r", "/r/merge", "/satisfied.json"))]


def diff_fields(result: Result) -> set[str]:
    assert set(result["diff"]["before"]) == set(result["diff"]["after"])
    return set(result["diff"]["after"])


def test_merging(ground: Playground, backend: Vmm, guest: t.Callable[..., str], top: pathlib.Path) -> None:
    for name in ("a", "b"):
        (top / f"{name}.img").write_bytes(bytes(MIB))
    whole = {
        "memory": {"size_bytes": "128M"},
        "boot": {"kernel_path": guest("halt")},
        "storage": [{"id": "first", "path": f"{top}/a.img"}, {"path": f"{top}/b.img", "read_only": True}],
    }

    def change(title: str, **options: t.Any) -> Tree:
        return task(title, name="merge", **options)

    results = ground.play(
        [
            change("define", backend=backend.backend, config=whole, labels={"tier": "web", "count": 1}, autostart=False, **backend.options),
            change("nothing given"),
            change("memory alone", config={"memory": {"size_bytes": "160M"}}),
            change("null", config={"memory": {"size_bytes": None}}),
            change("list", config={"storage": [{"id": "b", "read_only": False}]}),
            change("no list", config={"storage": []}),
            change("labels", labels={"tier": "db"}),
            change("no labels", labels={}),
            change("autostart", autostart=True),
        ]
    )
    vm = results.ok("define")["vm"]
    stored = json.loads(ground.vm_file("merge", "vm.json").read_text())
    assert vm["config"]["cpu"]["vcpu_count"] == 1 and vm["config"]["console"] == {"enabled": True, "output": "file", "path": None}, (
        "defaults are chosen and written at creation"
    )
    assert vm["labels"] == {"tier": "web", "count": "1"} and vm["autostart"] is False
    assert [disk["id"] for disk in vm["config"]["storage"]] == ["first", "b"], "an id is made from the path"

    nothing = results.ok("nothing given")
    assert not nothing["changed"] and touched(nothing) == []
    memory = results.ok("memory alone")
    assert diff_fields(memory) == {"config.memory.size_bytes"} and memory["vm"]["config"]["memory"]["size_bytes"] == 160 * MIB
    assert memory["vm"]["config"]["storage"] == vm["config"]["storage"] and memory["vm"]["labels"] == vm["labels"]
    assert results.ok("null")["vm"]["config"]["memory"]["size_bytes"] == 512 * MIB
    listed = results.ok("list")
    assert [(disk["id"], disk["path"], disk["read_only"]) for disk in listed["vm"]["config"]["storage"]] == [("b", f"{top}/b.img", False)]
    assert diff_fields(listed) == {"config.storage[first]", "config.storage[b].read_only"}
    assert (top / "a.img").stat().st_size == MIB, "what is detached keeps its data"
    assert results.ok("no list")["vm"]["config"]["storage"] == []
    assert results.ok("labels")["vm"]["labels"] == {"tier": "db"}
    assert results.ok("no labels")["vm"]["labels"] == {}
    assert results.ok("autostart")["vm"]["autostart"] is True and diff_fields(results["autostart"]) == {"autostart"}
    assert stored["config"]["memory"]["size_bytes"] == 512 * MIB and stored["config"]["console"]["output"] == "file"


def test_disruption(ground: Playground, backend: Vmm, guest: t.Callable[..., str], top: pathlib.Path) -> None:
    other = use("firecracker" if backend.backend == "qemu" else "qemu", ground)
    config = {"memory": {"size_bytes": "128M"}, "boot": {"kernel_path": guest("halt")}}
    two = {"cpu": {"vcpu_count": 2}}

    def change(title: str, **options: t.Any) -> Tree:
        return task(title, **{"name": "change", "shutdown_timeout": 0, **options})

    results = ground.play(
        [
            change("define", backend=backend.backend, config=config, **backend.options),
            # Until it has greeted, it writes to its console while the next task is watched.
            change("boot", state="running", wait_for=[{"console": GREETING}]),
            change("refused", config=two),
            change("refused, check", config=two, check=True),
            change("next boot", config=two, apply="next_boot"),
            change("next boot, again", config=two, apply="next_boot"),
            task("pending", "vmcp_vm_info", names=["change"]),
            change("power only", state="running"),
            change("restarted", state="restarted"),
            task("not pending", "vmcp_vm_info", names=["change"]),
            change("labels", labels={"a": "b"}),
            change("allowed", config={"memory": {"size_bytes": "192M"}}, allow_disruption="restart"),
            change("other backend refused", backend=other.backend, allow_disruption="restart", **other.options),
            change("other backend, check", backend=other.backend, allow_disruption="recreate", check=True, **other.options),
            change("other backend", backend=other.backend, allow_disruption="recreate", **other.options),
            change("other backend, again", backend=other.backend, **other.options),
        ]
    )
    boot = results.ok("boot")
    assert boot["actions"] == ["start"]
    assert f"{ground.state}/vms/change/vm.json" not in boot.touched, "a request for power leaves the definition untouched"
    refused = results.refused("refused", "failed_precondition")
    assert "config.cpu.vcpu_count" in refused["msg"] and "allow_disruption: restart" in refused["msg"] and "apply: next_boot" in refused["msg"]
    assert [v["field"] for v in refused["violations"]] == ["config.cpu.vcpu_count"]
    assert refused["disruption"] == "restart" and touched(refused) == []
    check = results.refused("refused, check", "failed_precondition")
    assert check["msg"] == refused["msg"] and check.touched == []

    later = results.ok("next boot")
    assert (later["actions"], later["disruption"], later["pending"]) == (["update"], "none", ["config.cpu.vcpu_count"])
    assert later["vm"]["pid"] == boot["vm"]["pid"] and later["vm"]["config"]["cpu"]["vcpu_count"] == 2
    assert (results.ok("next boot, again")["changed"], results["next boot, again"]["pending"]) == (False, ["config.cpu.vcpu_count"])
    assert results.ok("pending")["vms"][0]["pending"] == ["config.cpu.vcpu_count"]
    assert (results.ok("power only")["changed"], results["power only"]["pending"]) == (False, ["config.cpu.vcpu_count"])
    restarted = results.ok("restarted")
    assert (restarted["pending"], restarted["disruption"]) == ([], "restart") and restarted["vm"]["pid"] != boot["vm"]["pid"]
    assert results.ok("not pending")["vms"][0]["pending"] == []

    labels = results.ok("labels")
    assert (labels["actions"], labels["disruption"]) == (["update"], "none") and labels["vm"]["pid"] == restarted["vm"]["pid"]
    allowed = results.ok("allowed")
    assert (allowed["actions"], allowed["disruption"], allowed["pending"]) == (["update", "kill", "start"], "restart", [])
    assert allowed["vm"]["state"] == "running" and allowed["vm"]["pid"] != restarted["vm"]["pid"]

    refused = results.refused("other backend refused", "failed_precondition")
    assert "allow_disruption: recreate" in refused["msg"] and "backend" in [v["field"] for v in refused["violations"]]
    predicted, moved = results.ok("other backend, check"), results.ok("other backend")
    assert (moved["actions"], moved["disruption"]) == (["update", "kill", "start"], "recreate")
    assert [predicted[key] for key in ("changed", "actions", "diff")] == [moved[key] for key in ("changed", "actions", "diff")]
    assert predicted.touched == []
    assert (moved["vm"]["backend"], moved["vm"]["state"], moved["vm"]["uid"]) == (other.backend, "running", boot["vm"]["uid"])
    assert not results.ok("other backend, again")["changed"]
