# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(vmcp_vms) killed before each single thing that it does to the host, as C(test_killed_module) does it to C(vmcp_vm): run again, all VMs are there once, or
as they were to be, or all are gone, and nothing is left."""

from __future__ import annotations

import itertools
import json
import typing as t

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground, Tree
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm
from ansible_collections.unkey.vmcp.tests.integration.faults.built_module import BuiltModule
from ansible_collections.unkey.vmcp.tests.integration.faults.host_trace import at_rest, definition, vmms

NAMES = ("fn-0", "fn-1", "fn-2")


def killed(ground: Playground, many: BuiltModule, task: Tree, at: int) -> bool:
    """False when the task came to its end before that point."""
    ended = many.run(path=ground.path, kill_at=at, **task)
    assert ended.killed or ended.ok()
    for name in NAMES:
        # Fails for a torn one.
        definition(ground, name)
        assert len(vmms(ground, name)) <= 1
    return ended.killed


def test_creation_and_removal_of_several_killed_at_every_point(ground: Playground, many: BuiltModule, firecracker: Vmm, guest: t.Callable[..., str]) -> None:
    defaults = {"state": "running", "backend": "firecracker", "memory": "128M", "kernel": guest("halt"), "labels": {"fleet": "fn"}, **firecracker.options}
    create = {"defaults": defaults, "vms": [{"name": "fn-{index}", "count": len(NAMES)}], "overcommit": True}
    remove = {"vms": [], "prune": {"labels": {"fleet": "fn"}, "allow_empty": True}}
    many.run(path=ground.path, **create).ok()
    many.run(path=ground.path, **remove).ok()
    before = at_rest(ground)
    progress = f"{ground.run_dir}/.progress.jsonl"
    for at in itertools.count(1):
        in_creation = killed(ground, many, create, at)
        many.run(path=ground.path, **create).ok()
        assert [len(vmms(ground, name)) for name in NAMES] == [1, 1, 1]
        assert len({definition(ground, name)["generated"]["cid"] for name in NAMES}) == len(NAMES)
        assert not many.run(path=ground.path, **create).ok()["changed"], f"after a kill at point {at}"
        in_removal = killed(ground, many, remove, at)
        many.run(path=ground.path, **remove).ok()
        after = at_rest(ground)
        assert {**after, "files": [f for f in after["files"] if f != progress]} == {**before, "files": [f for f in before["files"] if f != progress]}, at
        if not (in_creation or in_removal):
            break
    assert at > 60, "the points were seen"


def test_a_change_of_several_killed_at_every_point(ground: Playground, many: BuiltModule, firecracker: Vmm, guest: t.Callable[..., str]) -> None:
    """Of what a VM is started from, and of what is said of it: none of it is left half, and nothing that was on its way lies about."""
    names = NAMES[:2]

    def task(turn: int) -> Tree:
        told = {"memory": f"{128 + 128 * (turn % 2)}M", "restart_policy": {"max_per_hour": 1 + turn % 2}, "labels": {"turn": str(turn % 2)}}
        options = {"state": "present", "backend": "firecracker", "kernel": guest("halt"), **told, **firecracker.options}
        return {"defaults": options, "vms": [{"name": name} for name in names], "overcommit": True}

    def read(name: str, file: str) -> str:
        return ground.vm_file(name, file).read_text()

    for turn in (1, 0):
        many.run(path=ground.path, **task(turn)).ok()
    before = at_rest(ground)
    for at in itertools.count(1):
        in_change = killed(ground, many, task(at), at)
        many.run(path=ground.path, **task(at)).ok()
        assert not many.run(path=ground.path, **task(at)).ok()["changed"], f"after a kill at point {at}"
        for name in names:
            size = json.loads(read(name, "firecracker.json"))["machine-config"]["mem_size_mib"]
            assert (definition(ground, name)["labels"], size) == ({"turn": str(at % 2)}, 128 + 128 * (at % 2)), f"after a kill at point {at}"
            assert f"max_per_hour={1 + at % 2}" in read(name, "policy"), f"after a kill at point {at}"
        assert at_rest(ground) == before, f"after a kill at point {at}"
        if not in_change:
            break
    assert at > 20, "the points were seen"
