# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Any sequence of requests, and of what a guest or a crash does in between, ends where the state table of the documentation says.

Once on paper: plans are carried out by a VM that refuses every step that has no place in its state. And once through the runner, on the fakes' API."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import socket
import threading
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.unkey.vmcp.plugins.module_utils.call import Call
from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition, NotFound
from ansible_collections.unkey.vmcp.plugins.module_utils.host.port import Exit, Process
from ansible_collections.unkey.vmcp.plugins.module_utils.model.task import validate_request
from ansible_collections.unkey.vmcp.plugins.module_utils.model.words import BACKENDS
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.desired import desire
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.make import plan_removal, plan_vm
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.plan import Plan, Step
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.situation import Situation
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.vm import run_vm
from ansible_collections.unkey.vmcp.tests.able_host import HOST
from ansible_collections.unkey.vmcp.tests.fakes import cloudhypervisor, firecracker
from ansible_collections.unkey.vmcp.tests.fakes.firecracker_microvm import MicroVm
from ansible_collections.unkey.vmcp.tests.fakes.micro_http import Server
from ansible_collections.unkey.vmcp.tests.guests import pvh_guest

# Requested state to found state to what follows; a state that is missing stays as it is. As the documentation has it.
DOWN = ("created", "shutdown", "crashed")
TABLE: dict[str, dict[str, str]] = {
    "present": {"absent": "created"},
    "running": dict.fromkeys(("absent", *DOWN, "paused"), "running"),
    "paused": dict.fromkeys(("absent", *DOWN, "running"), "paused"),
    "shutdown": {"absent": "created", "running": "shutdown", "paused": "shutdown"},
    "restarted": dict.fromkeys((*DOWN, "running", "paused"), "running"),
    "absent": dict.fromkeys((*DOWN, "running", "paused"), "absent"),
}
KERNEL = {"boot": {"kernel_path": "/boot/vmlinux"}}


# --- on paper ------------------------------------------------------------------------------------------------
class NotAnsweredError(Exception):
    """A VMM that is silent was asked something: the task fails, and what runs is as it was."""


class PaperVm:
    """Takes steps as a host would. A step that does not fit its state fails the test."""

    def __init__(self) -> None:
        self.found = Situation("web")
        self.boots = 0

    def carry_out(self, plan: Plan) -> None:
        for step in plan.steps:
            getattr(self, f"_{step.action}")(plan, step)

    def _define(self, plan: Plan, step: Step) -> None:
        assert self.found.definition is None and plan.definition is not None
        self.found = dataclasses.replace(self.found, definition=plan.definition)

    def _update(self, plan: Plan, step: Step) -> None:
        assert self.found.definition is not None and plan.definition != self.found.definition
        self.found = dataclasses.replace(self.found, definition=plan.definition)

    def _start(self, plan: Plan, step: Step) -> None:
        assert self.found.definition is not None and self.found.process is None, "two processes of one VM"
        self.boots += 1
        self.found = Situation(
            "web", self.found.definition, self.found.definition, Process(self.boots, f"b{self.boots}", 0.0), "running", ever_booted=True
        )  # fmt: skip

    def _ask(self, state: str) -> None:
        if self.found.unresponsive:
            raise NotAnsweredError
        assert self.found.vmm_state == state

    def _pause(self, plan: Plan, step: Step) -> None:
        self._ask("running")
        self.found = dataclasses.replace(self.found, vmm_state="paused")

    def _resume(self, plan: Plan, step: Step) -> None:
        self._ask("paused")
        self.found = dataclasses.replace(self.found, vmm_state="running")

    def _shutdown(self, plan: Plan, step: Step) -> None:
        assert self.found.vmm_state in ("running", "paused") and not self.found.unresponsive, "nobody there to ask"
        self.end("request")

    def _kill(self, plan: Plan, step: Step) -> None:
        assert self.found.process is not None
        self.end("request")

    def _remove(self, plan: Plan, step: Step) -> None:
        assert self.found.process is None, "removed under a VMM that runs"
        self.found = Situation("web")

    _forget = _remove

    def end(self, reason: str, code: int | None = 0) -> None:
        if self.found.process is not None:
            last = Exit(self.found.process.boot_id, reason, code, None if code is not None else "SIGKILL", "")
            self.found = Situation("web", self.found.definition, last_exit=last, ever_booted=True)


REQUESTS = st.fixed_dictionaries(
    {"state": st.sampled_from(list(TABLE))},
    optional={
        "memory": st.sampled_from(("512M", "1G", "2G")),
        "labels": st.sampled_from(({}, {"a": "b"})),
        "allow_disruption": st.sampled_from(("none", "restart", "recreate")),
        "apply": st.sampled_from(("now", "next_boot")),
        "backend": st.sampled_from(BACKENDS),
        "shutdown_timeout": st.sampled_from((0, 5)),
        "protected": st.booleans(),
    },
)
EVENTS = st.sampled_from(("guest powers off", "crash", "silence", "half a start"))


def happens(vm: PaperVm, event: str) -> None:
    if event == "guest powers off":
        vm.end("guest")
    elif event == "crash":
        vm.end("crash", None)
    elif vm.found.process is not None and event == "silence":
        vm.found = dataclasses.replace(vm.found, vmm_state=None, unresponsive="no answer")
    elif vm.found.process is not None:
        vm.found = dataclasses.replace(vm.found, vmm_state="created", unresponsive=None)


def asked(vm: PaperVm, options: dict[str, t.Any]) -> Plan | None:
    """None when it is refused."""
    request, violations = validate_request({"name": "web", "config": KERNEL, **options} if options["state"] != "absent" else {"name": "web", "state": "absent"})
    assert request is not None, violations
    try:
        if options["state"] == "absent":
            return plan_removal(request, vm.found)
        return plan_vm(request, vm.found, desire(request, vm.found, HOST, None, "2026-01-01T00:00:00Z"), [])
    except (FailedPrecondition, NotFound):
        return None


@settings(max_examples=500)
@given(st.lists(REQUESTS | EVENTS, max_size=12))
def test_on_paper(history: list[t.Any]) -> None:
    vm = PaperVm()
    for entry in history:
        if isinstance(entry, str):
            happens(vm, entry)
            continue
        before, half, protected = vm.found.state, vm.found.half_started, vm.found.protected
        plan = asked(vm, entry)
        if plan is None:
            # A disruption that is not allowed, what is protected, or nothing to restart: a refusal leaves all as it was.
            assert vm.found.runs or (entry["state"] == "absent" and protected) or (entry["state"] == "restarted" and before == "absent"), entry
            assert vm.found.state == before
            continue
        try:
            vm.carry_out(plan)
        except NotAnsweredError:
            assert vm.found.state == before and vm.found.unresponsive
            continue
        expected = TABLE[entry["state"]].get(before, before)
        if not (half and entry["state"] in ("present", "shutdown")):
            assert vm.found.state == plan.state_after == expected, (entry, before)
        again = asked(vm, entry)
        if again is not None and entry["state"] != "restarted" and not half:
            assert not again.changed, f"{entry} twice: {again.actions}"


# --- on the fakes --------------------------------------------------------------------------------------------
class Log:
    """Where a fake says what it does."""

    def info(self, text: str) -> None:
        """Nobody reads it here."""


def microvm() -> t.Callable[..., t.Any]:
    return firecracker.Api(MicroVm("web", "1.16.1", 51200, lambda: None, pci=False), Log()).handle  # type: ignore[arg-type]


FAKES: dict[str, t.Callable[[], t.Callable[..., t.Any]]] = {"firecracker": microvm, "cloudhypervisor": lambda: cloudhypervisor.Api().handle}
# An API has no VM that was shut down: such a one is defined and not booted.
ENDPOINT_TABLE = {
    **TABLE,
    "shutdown": {"absent": "created", "running": "created", "paused": "created"},
}
# What only the owner of a Firecracker can do, from these states.
OWNERS: dict[str, dict[str, tuple[str, ...]]] = {
    "firecracker": {"shutdown": ("running", "paused"), "restarted": ("running", "paused"), "absent": ("created", "running", "paused")},
    "cloudhypervisor": {},
}


@pytest.mark.parametrize("backend", FAKES)
def test_on_the_fakes(tmp_path: pathlib.Path, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = tmp_path / "kernel"
    kernel.write_bytes(pvh_guest("hello", "halt"))
    monkeypatch.chdir(tmp_path)
    count = 0

    @settings(max_examples=40)
    @given(st.lists(st.sampled_from(list(TABLE)), max_size=7))
    def holds(history: list[str]) -> None:
        nonlocal count
        count += 1
        path = tmp_path / f"{count}.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        server = Server(listener, FAKES[backend](), backend)
        threading.Thread(target=_serve, args=(server,), daemon=True).start()
        try:
            _go(backend, path, kernel, history)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    holds()


def _serve(server: Server) -> None:
    try:
        server.serve_forever()
    except OSError:
        return  # its listener was closed: the example is over


def _go(backend: str, path: pathlib.Path, kernel: pathlib.Path, history: list[str]) -> None:
    now = "absent"
    config = {"boot": {"kernel_path": str(kernel), "kernel_args": "quiet"}, "memory": {"size_bytes": "128M"}}
    options = {"name": "web", "endpoint": f"unix://{path}", "backend": backend, "config": config, "state_dir": str(path.parent), "run_dir": str(path.parent)}
    for wanted in history:
        given_ = {**options, "state": wanted}
        outcomes = []
        for act in (False, True):
            try:
                outcomes.append(dict(run_vm(Call(given_, act, {}, os.geteuid(), lambda text: None, lambda: None)).result))
            except (FailedPrecondition, NotFound) as exc:
                outcomes.append({"msg": exc.msg})
        predicted, done = outcomes
        if "msg" in done:
            assert predicted == done, "a check is refused in the same words"
            assert now in OWNERS[backend].get(wanted, ()) or (wanted, now) == ("restarted", "absent"), (wanted, now, done)
            continue
        assert (predicted["actions"], predicted["changed"]) == (done["actions"], done["changed"])
        now = ENDPOINT_TABLE[wanted].get(now, now)
        assert done["vm"]["state"] == now, (wanted, done)
