# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module killed before each single thing that it does to the host, and run again: it ends where it would have, once, and leaves nothing.

The points are not sampled: the n-th run is killed before its n-th write, rename, removal, lock, signal, request or process (a write is half done), for
n = 1, 2, 3… until a run comes to its end. What the launch file and the supervisor do between two of these is cut off in tests/integration/host."""

from __future__ import annotations

import itertools
import typing as t

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground, Tree
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm
from ansible_collections.unkey.vmcp.tests.integration.faults.built_module import BuiltModule, Ended
from ansible_collections.unkey.vmcp.tests.integration.faults.host_trace import at_rest, definition, vmms

NAME = "web"


class Killer:
    """Kills one task at each of its points in turn."""

    def __init__(self, ground: Playground, module: BuiltModule) -> None:
        self.ground, self.module = ground, module

    def whole(self, task: Tree) -> Ended:
        return self.module.run(path=self.ground.path, name=NAME, **task)

    def killed(self, task: Tree, at: int) -> bool:
        """False when the task came to its end before that point."""
        ended = self.module.run(path=self.ground.path, kill_at=at, name=NAME, **task)
        assert ended.killed or ended.ok()
        # Fails for a torn one.
        definition(self.ground, NAME)
        assert len(vmms(self.ground, NAME)) <= 1
        return ended.killed

    def assert_runs_once(self, ended: Ended, vcpus: int) -> None:
        result = ended.ok()
        assert result["vm"]["state"] == "running", result
        assert vmms(self.ground, NAME) == [result["vm"]["pid"]]
        assert definition(self.ground, NAME)["config"]["cpu"]["vcpu_count"] == vcpus


def given(vmm: Vmm, guest: t.Callable[..., str]) -> Tree:
    return {"state": "running", "backend": vmm.backend, "memory": "128M", "kernel": guest("halt"), "shutdown_timeout": 0, **vmm.options}


def test_creation_and_removal_killed_at_every_point(ground: Playground, module: BuiltModule, vmm: Vmm, guest: t.Callable[..., str]) -> None:
    killer = Killer(ground, module)
    create, remove = given(vmm, guest), {"state": "absent"}
    killer.whole(create).ok()
    killer.whole(remove).ok()
    before = at_rest(ground)
    for at in itertools.count(1):
        in_creation = killer.killed(create, at)
        killer.assert_runs_once(killer.whole(create), 1)
        in_removal = killer.killed(remove, at)
        assert killer.whole(remove).ok()["vm"]["state"] == "absent"
        assert at_rest(ground) == before, f"after kills at point {at}"
        if not (in_creation or in_removal):
            break
    assert at > 30, "the points were seen"


def test_a_restart_and_a_change_killed_at_every_point(ground: Playground, module: BuiltModule, vmm: Vmm, guest: t.Callable[..., str]) -> None:
    """One VM that lives on: each change is killed at a later point than the one before."""
    killer = Killer(ground, module)
    create = given(vmm, guest)
    first = killer.whole(create).ok()["vm"]
    generated = definition(ground, NAME)["generated"]
    changing = restarting = True
    for at in itertools.count(1):
        vcpus = 1 + at % 2
        change = {**create, "vcpus": vcpus, "allow_disruption": "restart"}
        changing = changing and killer.killed(change, at)
        killer.assert_runs_once(killer.whole(change), vcpus)
        assert not killer.whole(change).ok()["changed"], f"after a kill at point {at}"
        restarting = restarting and killer.killed({**change, "state": "restarted"}, at)
        # What was cut off is a restart that had begun, or not: 'running' finds it running, or goes on with it.
        killer.assert_runs_once(killer.whole(change), vcpus)
        assert definition(ground, NAME)["generated"] == generated
        if not (changing or restarting):
            break
    assert at > 20, "the points were seen"
    killer.assert_runs_once(killer.whole({**change, "state": "restarted"}), vcpus)
    assert vmms(ground, NAME) != [first["pid"]]
