# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for conditions, and the console as data."""

from __future__ import annotations

import contextlib
import pathlib
import socket
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import GREETING, Playground, Tree, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm


@pytest.fixture
def port() -> t.Iterator[int]:
    """Somebody listens there."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def test_conditions(ground: Playground, qemu: Vmm, guest: t.Callable[..., str], top: pathlib.Path, port: int) -> None:
    mark = top / "mark"
    mark.touch()

    def wait(title: str, *conditions: t.Any, **options: t.Any) -> Tree:
        given = {"name": "wait", "state": "running", "shutdown_timeout": 0, "backend": "qemu", "memory": "128M", "kernel": guest("halt")}
        return task(title, **{**given, "wait_for": list(conditions), "wait_timeout": 60, **options})

    met = ["running", {"console": f"^{GREETING}$"}, {"file": str(mark)}, {"tcp": port, "host": "127.0.0.1"}]
    unmet = {"console": "never said"}
    results = ground.play(
        [
            wait("check", unmet, check=True),
            wait("unmet at boot", {"console": GREETING}, unmet, wait_timeout=12),
            task("left as it is", "vmcp_vm_info", names=["wait"]),
            wait("unmet again", unmet, wait_timeout=1),
            wait("met", *met),
            {"name": "take the file away", "ansible.builtin.file": {"path": str(mark), "state": "absent"}},
            wait("remembered", *met),
            wait("forgotten with the boot", *met, state="restarted", wait_timeout=12),
            wait("not a condition", "runing", {"tcp": 22}, {"console": "("}, {"file": "relative"}, {"tcp": 0, "host": "a b"}),
        ]
    )
    assert results.ok("check")["actions"] == ["define", "start"] and "waited" not in results["check"]

    first = results.refused("unmet at boot", "deadline_exceeded")
    assert "console: never said" in first["msg"] and "left as it is" in first["msg"]
    assert (first["unmet"], first["met"]) == (["console: never said"], [f"console: {GREETING}"])
    assert GREETING in first["console"] and first["waited_s"] >= 2
    assert (first["changed"], first["actions"]) == (True, ["define", "start"]), "a failure says what was done before it"
    (left,) = results.ok("left as it is")["vms"]
    assert left["state"] == "running"
    second = results.refused("unmet again", "deadline_exceeded")
    assert (second["changed"], second["actions"]) == (False, [])

    waited = results.ok("met")
    assert [w["condition"] for w in waited["waited"]] == ["running", f"console: ^{GREETING}$", f"file: {mark}", f"tcp: 127.0.0.1:{port}"]
    assert not waited["changed"] and waited["vm"]["pid"] == left["pid"]
    assert not results.ok("remembered")["changed"], "what was met in this boot need not be met again"
    forgotten = results.refused("forgotten with the boot", "deadline_exceeded")
    assert forgotten["unmet"] == [f"file: {mark}"] and forgotten["actions"] == ["kill", "start"]

    fields = [violation["field"] for violation in results.refused("not a condition", "invalid_argument")["violations"]]
    assert fields == ["wait_for[0]", "wait_for[1].host", "wait_for[2].console", "wait_for[3].file", "wait_for[4].tcp", "wait_for[4].host"]


def test_a_guest_that_ends_while_it_is_waited_for(ground: Playground, backend: Vmm, guest: t.Callable[..., str]) -> None:
    """The wait ends with the VM, not with its deadline, and shows what the guest said last."""
    given = {"name": "short", "backend": backend.backend, "memory": "128M", "kernel": guest("poweroff"), **backend.options}
    stops = {} if backend.backend == "cloudhypervisor" else {"restart_policy": {"on_reboot": "stop"}}
    results = ground.play(
        [
            task("boot", state="running", wait_for=[{"console": "never said"}], wait_timeout=100, **given, **stops),
            task("info", "vmcp_vm_info", names=["short"], gather=["events"]),
            task("console", "vmcp_console", name="short", lines=1),
        ],
    )
    ended = results.refused("boot", "failed_precondition")
    assert "exit code 0" in ended["msg"] and GREETING in ended["console"]
    assert (ended["changed"], ended["actions"]) == (True, ["define", "start"])
    (vm,) = results.ok("info")["vms"]
    assert (vm["state"], vm["stop_reason"], vm["last_exit"]["code"], vm["last_exit"]["signal"]) == ("shutdown", "guest", 0, None)
    assert [event["event"] for event in vm["events"]][-1] == "exit"
    assert results.ok("console")["lines"] == [GREETING]


def test_console(ground: Playground, backend: Vmm, guest: t.Callable[..., str]) -> None:
    given = {"backend": backend.backend, "memory": "128M", "kernel": guest("tick"), **backend.options}
    results = ground.play(
        [
            task("boot", name="talk", state="running", **given),
            task("first", "vmcp_console", name="talk", wait_for="^tick 2$", register="first"),
            task("since", "vmcp_console", name="talk", since="{{ first.position }}", wait_for="^tick 9$"),
            task("no such text", "vmcp_console", name="talk", wait_for="never", wait_timeout=1),
            task("backtracks", "vmcp_console", name="talk", wait_for="^(.|.|.|.|.|.)+never$"),
            task("stop", name="talk", state="shutdown", shutdown_timeout=0),
            task("boot again", name="talk", state="running", wait_for=[{"console": "tick 1"}]),
            task("earlier boot", "vmcp_console", name="talk", since="{{ first.position }}"),
            task("previous", "vmcp_console", name="talk", previous=True, lines=3),
            task("of nobody", "vmcp_console", name="tall"),
        ]
    )
    first, since = results.ok("first"), results.ok("since")
    assert {GREETING, "tick 1", "tick 2"} <= set(first["lines"])
    assert since["lines"] and not {GREETING, "tick 1", "tick 2"} & set(since["lines"]), "it begins where the first one ended"
    assert since["boot_id"] == first["boot_id"] and since["offset"] > first["offset"]
    missed = results.refused("no such text", "deadline_exceeded")
    assert any(line.startswith("tick ") for line in missed["console"])
    assert "after 2 s of computing" in results.refused("backtracks", "deadline_exceeded")["msg"]
    assert GREETING in results.ok("earlier boot")["lines"] and results["earlier boot"]["boot_id"] != first["boot_id"]
    assert len(results.ok("previous")["lines"]) == 3
    nobody = results.refused("of nobody", "not_found")
    assert "talk" in nobody["msg"] and ground.state in nobody["msg"]
