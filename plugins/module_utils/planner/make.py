# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From request, situation and host to a plan. Pure: every refusal is made here, before anything is touched."""

from __future__ import annotations

import typing as t

from ..capabilities.catalogue import grows_live
from ..errors import FailedPrecondition, InvalidArgument, NotFound, Violation
from ..model.definition import Definition
from ..model.resolving import layering
from ..model.task import VmRequest
from ..model.words import SHUTDOWN_GRACE_S, at_most
from .changes import BESIDE_THE_TREE, changes_between, reaches_process, worst
from .desired import Desired
from .plan import Change, Plan, Step
from .power import power_steps, stop_steps
from .situation import Situation


def plan_removal(request: VmRequest, situation: Situation) -> Plan:
    """C(state: absent)."""
    name = situation.name
    if not situation.exists:
        keep = list(request.option("keep"))
        # What an earlier removal kept is no remainder to be cleared away for a task that asks to keep it.
        nothing = not situation.leftovers or bool(keep and situation.only_data)
        return Plan(name, "absent", "absent", () if nothing else (Step("forget", {"keep": keep}),))
    if situation.protected:
        remedy = "Set protected: false first, in a task of its own." if situation.definition else f"Its definition cannot be read: {situation.broken}"
        raise FailedPrecondition(f"VM {name} is protected and is not removed. {remedy}")
    grace_s = _grace_s(request, 0)
    steps = (*stop_steps(situation, grace_s), Step("remove", {"keep": list(request.option("keep"))}))
    return Plan(name, situation.state, "absent", steps, disruption="none")


def plan_vm(request: VmRequest, situation: Situation, desired: Desired, lacks: t.Sequence[Violation]) -> Plan:
    """Every state but C(absent). C(lacks): what the host lacks for the desired definition, beside C(desired.lacks)."""
    _refuse_unmakeable(request, situation)
    definition = desired.definition
    if desired.violations or definition is None:
        raise InvalidArgument.of(desired.violations)
    changes = [*changes_between(situation.definition, definition), *_autostart_drift(situation, definition)]
    to_converge, pending = _convergence(request, situation, desired)
    disruption = worst(to_converge)
    state = request.option("state")
    if state != "shutdown":
        _refuse_disruption(request, situation, to_converge, disruption)
    _refuse_replacing(request, situation, changes)
    steps: list[Step] = []
    stored = situation.definition
    if stored is not None and stored.on_networks and situation.runs and disruption == "none" and state not in ("restarted", "shutdown"):
        _refuse_to_wait(situation, stored, definition)
    if situation.definition is None:
        steps.append(Step("define"))
    elif changes or (desired.grow and not situation.runs):
        steps.append(Step("update"))
    power, state_after = power_steps(state, situation, restart=disruption != "none", grace_s=_grace_s(request, SHUTDOWN_GRACE_S))
    starts = any(s.action == "start" for s in power)
    stops = any(s.action in ("shutdown", "kill") for s in power)
    live, late = _growth(request, situation, desired, stops)
    steps += live
    return Plan(
        name=situation.name,
        state_before=situation.state,
        state_after=state_after,
        steps=(*steps, *power),
        changes=tuple(changes),
        definition=definition,
        disruption=_done_to_running(state, situation, disruption, stops),
        pending=() if starts or stops or not situation.runs else tuple(dict.fromkeys((*pending, *late))),
        would_need=(*desired.lacks, *lacks) if steps or starts else (),
        ignored=desired.ignored,
        notices=(*desired.notices, *([situation.booted_unread] if situation.booted_unread and not starts else ())),
        backend_reason=definition.backend_reason,
    )


def plan_restart(situation: Situation, desired: Desired, lacks: t.Sequence[Violation], grace_s: int) -> Plan:
    """Stops a VM that runs and starts it as it is defined, for what is done while it is down. One whose restart was cut off is started."""
    definition = situation.definition
    if situation.broken or definition is None:
        raise FailedPrecondition(situation.broken or f"There is no VM {situation.name} to restart.")
    if desired.violations:
        raise InvalidArgument.of(desired.violations)
    steps, state_after = power_steps("restarted" if situation.half_started else "present", situation, restart=True, grace_s=grace_s)
    needed = (*desired.lacks, *lacks) if steps else ()
    return Plan(situation.name, situation.state, state_after, tuple(steps), definition=definition, disruption="restart", would_need=needed)


def _growth(request: VmRequest, situation: Situation, desired: Desired, stops: bool) -> tuple[list[Step], tuple[str, ...]]:
    """Disks of a VM that runs and goes on: those of whose new size its VMM is told, and the fields of those that wait. Others grow before the next start."""
    running = situation.booted or situation.definition
    if not situation.runs or stops or not desired.grow or running is None:
        return [], ()
    had = running.generated.get("disks") or {}
    now = request.option("apply") == "now"
    live = [entry for entry in desired.grow if now and entry in had and grows_live(running.backend, running.backend_version, layering(had[entry]))]
    late = tuple(f"config.storage[{entry}].size" for entry in desired.grow if entry not in live)
    return ([Step("resize", {"disks": live})] if live else []), late


def _refuse_replacing(request: VmRequest, situation: Situation, changes: t.Sequence[Change]) -> None:
    """Data are data whether the VM runs or not."""
    replaced = [change for change in changes if change.disruption == "replace_data"]
    if situation.definition is None or not replaced or request.option("allow_disruption") == "replace_data":
        return
    fields = ", ".join(change.field for change in replaced)
    raise FailedPrecondition(
        f"Changing {fields} of VM {situation.name} replaces data that it has. Set allow_disruption: replace_data to let exactly that happen.",
        violations=[Violation(change.field, "needs allow_disruption: replace_data") for change in replaced],
        details={"disruption": "replace_data"},
    )


def _autostart_drift(situation: Situation, definition: Definition) -> list[Change]:
    """A link that somebody else removed or made: what the definition says has not changed, and does not hold. Only systemd has one."""
    stored = situation.definition
    if stored is None or not stored.supervisor == definition.supervisor == "systemd" or stored.autostart != definition.autostart:
        return []
    if situation.autostart in (None, definition.autostart):
        return []
    return [Change("autostart", situation.autostart, definition.autostart)]


def _grace_s(request: VmRequest, default: int) -> int:
    given = request.option("shutdown_timeout")
    return default if given is None else int(given)


def configures(request: VmRequest, backend: str) -> bool:
    """Whether the task says anything that only a start can bring to the process. One that does not (power, labels) leaves pending what is pending."""
    given = {*request.options, *(key for key in request.settings if reaches_process(key, backend))}
    return request.config is not None or request.metadata is not None or request.cloud_init is not None or bool(given & BESIDE_THE_TREE.keys())


def makes_a_vm(request: VmRequest) -> bool:
    """Whether the task gives enough to make a VM from: any configuration does, since what it leaves out has defaults."""
    return bool(request.config)


def lacks_a_source(request: VmRequest, situation: Situation) -> bool:
    """Whether there is no such VM, and nothing to make it from or restart."""
    return not situation.exists and (request.option("state") == "restarted" or not makes_a_vm(request))


def _done_to_running(state: str, situation: Situation, disruption: str, stops: bool) -> str:
    """The most that the plan does to a VM that runs. A shutdown that was asked for is not a disruption."""
    if not (stops and situation.runs) or state == "shutdown":
        return "none"
    return "restart" if state == "restarted" and disruption == "none" else disruption


def _convergence(request: VmRequest, situation: Situation, desired: Desired) -> tuple[list[Change], tuple[str, ...]]:
    """What must reach the running process now, and what is left pending.

    Pending fields of earlier tasks are converged only by a task that configures: a mere power request leaves them pending."""
    if not situation.runs or desired.definition is None:
        return [], ()
    behind = [c for c in changes_between(situation.booted or situation.definition, desired.definition) if c.disruption != "none"]
    pending = tuple(c.field for c in behind)
    if request.option("apply") == "next_boot" or not configures(request, desired.definition.backend):
        return [], pending
    return behind, pending


def _refuse_unmakeable(request: VmRequest, situation: Situation) -> None:
    name = situation.name
    if situation.broken:
        raise FailedPrecondition(situation.broken)
    if not lacks_a_source(request, situation):
        return
    hint = f" Did you mean {' or '.join(situation.nearest)}?" if situation.nearest else ""
    hint += f" {situation.searched}" if situation.searched else ""
    if request.option("state") == "restarted":
        raise NotFound(f"There is no VM {name} to restart.{hint} Use state: running to make one.")
    raise NotFound(f"There is no VM {name}, and this task gives nothing to make it from (config, a kernel, an image or disks).{hint}")


def _refuse_to_wait(situation: Situation, stored: Definition, definition: Definition) -> None:
    # Imported here: VMs on no network do not pay for it.
    from .nics import cannot_wait

    fields = cannot_wait(stored, definition)
    if fields:
        raise FailedPrecondition(
            f"VM {situation.name} is {situation.state}, and {', '.join(fields)} cannot wait for its next boot: its network lets through what is recorded. "
            "Set allow_disruption: restart, or shut it down first.",
            violations=[Violation(field, "cannot be changed beneath a VM that goes on running") for field in fields],
        )


def _refuse_disruption(request: VmRequest, situation: Situation, to_converge: list[Change], disruption: str) -> None:
    allowed = request.option("allow_disruption")
    if request.option("state") == "restarted" and at_most(allowed, "restart"):
        allowed = "restart"
    if at_most(disruption, allowed):
        return
    beyond = [c for c in to_converge if not at_most(c.disruption, allowed)]
    fields = ", ".join(c.field for c in beyond)
    what = {"restart": "a restart", "recreate": "making it anew (its disks, MAC and addresses stay)", "replace_data": "replacing its data"}[disruption]
    raise FailedPrecondition(
        f"VM {situation.name} is {situation.state}, and changing {fields} needs {what}. Set allow_disruption: {disruption} to let that happen now, "
        "or apply: next_boot to write the definition and leave what runs untouched.",
        violations=[Violation(c.field, f"needs allow_disruption: {c.disruption} while the VM runs") for c in beyond],
        details={"disruption": disruption},
    )
