# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs of a VMM that somebody else runs: C(endpoint). State and configuration come from its API, and nothing is stored.

What only the owner of the process could do is refused by the driver with C(failed_precondition); this file decides what is asked of it.
"""

from __future__ import annotations

import os
import time
import typing as t

from ..backends.port import Driver
from ..backends.registry import driver
from ..call import Call, Outcome
from ..capabilities.check import check
from ..errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable, Violation, VmcpError
from ..host.store import Store
from ..model.merge import fill_defaults, merge_config
from ..model.resolving import is_ours
from ..model.task import VmRequest
from ..model.validate import read_config
from ..model.words import BACKENDS
from .live import OBSERVE_S

CALL_S = 60.0
POLL_S = 0.02
_ENVIRONMENT = {"UNKEY_VMCP_CH_ENDPOINT": "cloudhypervisor", "UNKEY_VMCP_FC_ENDPOINT": "firecracker"}
# What a definition of ours carries and a foreign VMM has no place for.
_OWNERS = ("restart_policy", "security", "supervisor", "autostart", "protected", "labels")


def socket_of(request: VmRequest, environ: t.Mapping[str, str], store: Store) -> t.Optional[str]:
    """The path of the foreign API socket this task is about; None when it is about a VM of ours.

    The option says so outright; the environment only for a name that is no VM of ours, and a backend that matches."""
    if request.endpoint_path:
        return real_path(request.endpoint_path)
    wanted = request.options.get("backend")
    candidates = {b: environ[k] for k, b in _ENVIRONMENT.items() if environ.get(k) and wanted in (None, "auto", b)}
    if not candidates or (request.name and store.has_remains(request.name)):
        return None
    if len(candidates) > 1:
        raise InvalidArgument.of([Violation("backend", f"must say which endpoint is meant: the environment names one for {' and '.join(sorted(candidates))}.")])
    return real_path(next(iter(candidates.values())).removeprefix("unix://"))


def real_path(path: str) -> str:
    """A person who names a path may go through links (C(/var/run)); the client refuses them, because below a VM's own directory they would be the VM's."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def backend_of(socket: str, wanted: t.Optional[str], environ: t.Mapping[str, str]) -> tuple[str, Driver]:
    """Which VMM serves the socket: the one named by option or environment, else the first whose question it answers."""
    for key, backend in _ENVIRONMENT.items():
        if environ.get(key) and real_path(environ[key].removeprefix("unix://")) == socket and wanted in (None, "auto"):
            wanted = backend
    if wanted not in (None, "auto"):
        return str(wanted), driver(str(wanted))
    refused: list[str] = []
    for backend in BACKENDS:
        candidate = driver(backend)
        try:
            candidate.observe(socket, time.monotonic() + OBSERVE_S)
        except Unavailable:
            raise
        except VmcpError as exc:
            refused.append(f"{backend}: {exc.msg}")
        else:
            return backend, candidate
    raise FailedPrecondition(f"What serves {socket} is none of {', '.join(BACKENDS)}. Give backend to say which it is. " + "; ".join(refused))


def run(call: Call, request: VmRequest, socket: str) -> Outcome:
    backend, api = backend_of(socket, request.options.get("backend"), call.environ)
    _refuse_ownership(request, socket)
    state = api.observe(socket, time.monotonic() + OBSERVE_S).state
    actions = _actions(request, state, backend, socket)
    ignored: list[dict[str, str]] = []
    config = read_config(merge_config({}, request.config or {})) if "define" in actions else None
    if config is not None:
        verdict = check(config, backend, None, request=request)
        if verdict.violations:
            raise InvalidArgument.of(verdict.violations)
        ignored = [i.as_dict() for i in verdict.ignored]
        for item in verdict.ignored:
            call.warn(f"{item.field} is ignored: {item.message}")
    after = _state_after(request, state, actions)
    for action in actions:
        api.foresee_on(action, socket, config, time.monotonic() + CALL_S)
    if call.act:
        for action in actions:
            _act(action, api, socket, request)
        _until(api, socket, after, backend)
    result = {
        "changed": bool(actions),
        "actions": actions,
        "disruption": "none",
        "pending": [],
        "ignored": ignored,
        "backend_reason": "the VMM at the endpoint",
        "vm": describe(request.name, backend, api, socket, after),
    }
    before_after = ({}, {}) if state == after else ({"state": state}, {"state": after})
    return Outcome(result, {"before": before_after[0], "after": before_after[1], "before_header": socket, "after_header": socket})


def _refuse_ownership(request: VmRequest, socket: str) -> None:
    violations = [
        Violation(key, f"is a matter of who runs the VMM at {socket}, which this task does not. Leave it out.") for key in _OWNERS if key in request.settings
    ]
    if request.metadata is not None:
        violations.append(Violation("metadata", "is given to VMs that are started here only. Give it to the VMM's own API, or leave it out."))
    if request.cloud_init is not None:
        violations.append(Violation("cloud_init", "is given to VMs that are started here only. Leave it out."))
    for index, entry in enumerate((request.config or {}).get("storage") or []):
        if is_ours(entry):
            violations.append(Violation(f"config.storage[{index}]", "is made with VMs that are started here only. Give a path."))
    if request.wait_for:
        violations += [
            Violation(f"wait_for[{i}]", "looks at a console or process of ours. Only 'running' can be waited for at an endpoint.")
            for i, c in enumerate(request.wait_for)
            if "running" not in c
        ]
    if violations:
        raise InvalidArgument.of(violations)


def _actions(request: VmRequest, state: str, backend: str, socket: str) -> list[str]:
    """The state table, as far as an API can go through it."""
    wanted = request.option("state")
    if wanted == "absent":
        return [] if state == "absent" else ["remove"]
    actions = []
    if state == "absent":
        if wanted == "restarted":
            raise NotFound(f"The VMM at {socket} has no VM to restart.")
        if not request.config:
            raise NotFound(f"The VMM at {socket} has no VM, and this task gives no configuration to make one from.")
        actions.append("define")
        state = "created"
    elif request.config:
        _refuse_difference(request, state, socket, backend)
    if wanted == "restarted":
        return ["shutdown", "start"] if state in ("running", "paused") else ["start"]
    if wanted in ("running", "paused") and state == "created":
        actions.append("start")
        state = "running"
    if wanted == "running" and state == "paused":
        actions.append("resume")
    if wanted == "paused" and state == "running":
        actions.append("pause")
    if wanted == "shutdown" and state in ("running", "paused"):
        actions.append("shutdown")
    return actions


def _refuse_difference(request: VmRequest, state: str, socket: str, backend: str) -> None:
    """A VM that is there is compared with what was given; to change it is its owner's."""
    from ..planner.changes import changes_in_tree

    there = driver(backend).describe(socket, time.monotonic() + CALL_S).get("config") or {}
    wanted = merge_config(there, request.config or {})
    fields = [c.field for c in changes_in_tree(there, fill_defaults(wanted))]
    if fields:
        raise FailedPrecondition(
            f"The VM at {socket} is {state} and differs in {', '.join(fields)}. Nothing of it is stored here, so only its owner can change that. "
            "Remove the VM first, or leave these fields out.",
            violations=[Violation(f, "differs from what the VMM reports") for f in fields],
        )


def _state_after(request: VmRequest, state: str, actions: t.Sequence[str]) -> str:
    table = {"define": "created", "start": "running", "resume": "running", "pause": "paused", "shutdown": "created", "remove": "absent"}
    for action in actions:
        state = table[action]
    return state


def _act(action: str, api: Driver, socket: str, request: VmRequest) -> None:
    deadline = time.monotonic() + CALL_S
    if action == "define":
        api.define_on(socket, read_config(merge_config({}, request.config or {})), deadline)
    elif action == "start":
        api.boot_on(socket, deadline)
    elif action == "pause":
        api.pause(socket, deadline)
    elif action == "resume":
        api.resume(socket, deadline)
    elif action == "shutdown":
        api.shutdown_on(socket, deadline)
    else:
        api.remove_on(socket, deadline)


def _until(api: Driver, socket: str, state: str, backend: str) -> None:
    """A reply is not yet the truth: the state is asked for until it is what the actions lead to."""
    deadline = time.monotonic() + OBSERVE_S
    while True:
        now = api.observe(socket, deadline).state
        if now == state:
            return
        if time.monotonic() > deadline:
            raise FailedPrecondition(f"The VMM at {socket} ({backend}) says that its VM is {now}, not {state}. Look at its log.")
        time.sleep(POLL_S)


def describe(name: t.Optional[str], backend: str, api: Driver, socket: str, state: str) -> dict[str, t.Any]:
    """The result's C(vm) for a foreign VMM: what its API says, in the shape of VMs of ours."""
    observed = api.observe(socket, time.monotonic() + OBSERVE_S)
    said = api.describe(socket, time.monotonic() + CALL_S) if observed.state != "absent" else {}
    return {
        "name": name,
        "endpoint": f"unix://{socket}",
        "state": state,
        "backend": backend,
        "backend_version": observed.version,
        "config": said.get("config"),
        "counters": said.get("counters"),
        "pid": observed.pid,
        "console": {"path": said.get("console_path")},
        "sockets": {"api": socket, "vsock": None},
    }
