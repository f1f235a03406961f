# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a C(vmcp_vms) tells: compact by VM, since a result of a thousand VMs travels to the controller and into whatever keeps it. Standard library only."""

from __future__ import annotations

import typing as t

from ..call import Call, Outcome
from ..errors import VmcpError
from ..host import processes
from ..host.store import Store
from . import unchanged
from .describe import describe
from .live import situation
from .progress import progress_path

if t.TYPE_CHECKING:
    from ..model.definition import Definition
    from ..model.entries import Entry
    from ..planner.plan import Plan
    from ..planner.prune import Surplus
    from ..planner.situation import Situation
    from .vms_plan import One, Planned
    from .work import Work

Verdict = dict[str, t.Any]

NAMED_FIRST = 5
# VMs whose changes are in the diff; those to be removed without being named all are.
DIFF_MAX = 50
_COUNTED = {
    "define": "created",
    "update": "updated",
    "start": "started",
    "shutdown": "stopped",
    "kill": "stopped",
    "pause": "paused",
    "resume": "resumed",
    "remove": "removed",
    "forget": "removed",
}


class Report:
    """Gathers the outcome. C(names): those declared, in their order."""

    def __init__(self, call: Call, store: Store, names: t.Sequence[str]) -> None:
        self.names = names
        self._call = call
        self._store = store
        self._full = call.options.get("return") == "full"
        self._vms: dict[str, Verdict] = {}
        self._definitions: dict[str, Definition] = {}
        self._errors: dict[str, VmcpError] = {}
        self._notices: dict[str, list[str]] = {}
        self._before: dict[str, t.Any] = {}
        self._after: dict[str, t.Any] = {}
        self._more = 0
        self._going: Surplus | None = None
        self._would_need: list[dict[str, str]] = []
        self._halted = False

    # --- gathering -----------------------------------------------------------------------------------------
    def definition(self, name: str) -> t.Optional[Definition]:
        """Of a VM that is known to be unchanged."""
        return self._definitions.get(name)

    def unchanged(self, found: Situation, kept: t.Mapping[str, t.Any]) -> None:
        if found.definition is not None:
            self._definitions[found.name] = found.definition
        for text in kept.get("notices", []):
            self._notices.setdefault(text, []).append(found.name)
        verdict: Verdict = {"changed": False}
        if kept.get("pending"):
            verdict["pending"] = kept["pending"]
        if self._full:
            verdict["vm"] = describe(found, self._store.layout.vm(found.name), pending=kept.get("pending", []))
        self._vms[found.name] = verdict

    def surplus(self, going: Surplus) -> None:
        self._going = going

    def foreseen(self, planned: Planned) -> None:
        """What a real run would do."""
        self._would_need = [lack.as_dict() for lack in planned.lacks]
        for lack in planned.lacks:
            self._call.warn(f"The host lacks what this needs: {lack.field}: {lack.message}")
        self._room(planned)
        for name, one in planned.ones.items():
            self._planned(one)
            verdict = _verdict(one.plan, one.plan.actions)
            if self._full:
                verdict["vm"] = self._as_it_would_be(one)
            self._vms[name] = verdict

    def done(self, planned: Planned, works: t.Sequence[Work], waited: t.Mapping[str, list[dict[str, t.Any]]], *, halted: bool) -> None:
        """What was done, and what went wrong on the way."""
        self._halted = halted
        self._room(planned)
        for work in works:
            one = planned.ones[work.name]
            self._planned(one)
            verdict = _verdict(work.plan, work.done)
            if work.error is not None:
                self._errors[work.name] = work.error
                verdict["error"] = {"code": work.error.code, "msg": work.error.msg}
            elif work.left:
                verdict["not_done"] = [step.action for step in work.left]
            elif work.name in waited:
                verdict["waited"] = waited[work.name]
            after = self._seen_after(one, work)
            if self._full and after is not None:
                verdict["vm"] = describe(after, work.vm, pending=work.plan.pending)
            if work.error is None and not work.left and one.entry is not None and work.plan.state_after != "absent":
                self._remember(one, one.entry, after, waited.get(work.name, []))
            self._vms[work.name] = verdict

    def _seen_after(self, one: One, work: Work) -> t.Optional[Situation]:
        """Looked at once more only where the result shows it."""
        if not self._full:
            return None
        return situation(self._store, work.name) if work.done else one.found

    def _remember(self, one: One, entry: Entry, after: t.Optional[Situation], waited: list[dict[str, t.Any]]) -> None:
        vm = self._store.layout.vm(entry.name)
        plan = one.plan
        process = after.process if after is not None else processes.current(vm)
        digest = unchanged.fingerprint({**entry.options, "group": entry.group}, self._call.environ, vm)
        kept = {"pending": list(plan.pending), "ignored": [i.as_dict() for i in plan.ignored], "notices": notices(plan), "waited": waited}
        unchanged.remember(self._store, entry.name, digest, process.boot_id if process else None, kept)

    def _planned(self, one: One) -> None:
        plan = one.plan
        for text in notices(plan):
            self._notices.setdefault(text, []).append(plan.name)
        if not plan.changed:
            return
        if one.entry is not None and len(self._before) >= DIFF_MAX:
            self._more += 1
            return
        diff = plan.diff()
        self._before[plan.name], self._after[plan.name] = diff["before"], diff["after"]

    def _as_it_would_be(self, one: One) -> dict[str, t.Any]:
        plan = one.plan
        if plan.state_after == "absent":
            return {"name": plan.name, "state": "absent"}
        return describe(one.found, self._store.layout.vm(plan.name), pending=plan.pending, definition=plan.definition, state=plan.state_after)

    def _room(self, planned: Planned) -> None:
        for lack in planned.overcommitted:
            self._call.warn(f"The host is overcommitted, as overcommit allows: {lack.message}")

    # --- telling -------------------------------------------------------------------------------------------
    def outcome(self) -> Outcome:
        """Raises when a VM failed: the task has, too."""
        for text, names in self._notices.items():
            self._call.warn(text if len(names) == 1 and len(self.names) == 1 else f"{_some(names)}: {text}")
        result: dict[str, t.Any] = {
            "changed": any(verdict["changed"] for verdict in self._vms.values()),
            "vms": {name: self._vms[name] for name in [*self.names, *sorted(set(self._vms) - set(self.names))] if name in self._vms},
            "summary": self._summary(),
            "failed_vms": list(self._errors),
            "removed": list(self._going.names) if self._going else [],
            "kept": list(self._going.kept) if self._going else [],
        }
        if self._call.act:
            result["progress"] = progress_path(self._store.layout)
        else:
            result["would_need"] = self._would_need
        if self._errors:
            raise self._failure(result)
        return Outcome(result, self._diff())

    def _failure(self, result: dict[str, t.Any]) -> VmcpError:
        first = next(iter(self._errors.values()))
        others = "The others are finished. " if len(self._errors) < len(self._vms) else ""
        rest = "Nothing more was begun after that (on_error: stop). " if self._halted else others
        named = ", ".join(list(self._errors)[:NAMED_FIRST]) + (" …" if len(self._errors) > NAMED_FIRST else "")
        msg = f"{len(self._errors)} of {len(self._vms)} VMs failed: {named}. {rest}{first.msg}"
        kinds = {type(error) for error in self._errors.values()}
        details = {key: value for key, value in first.details.items() if key not in result}
        return (type(first) if len(kinds) == 1 else VmcpError)(msg, violations=first.violations, details={**details, **result})

    def _summary(self) -> dict[str, int]:
        changed = sum(1 for verdict in self._vms.values() if verdict["changed"])
        counts = {"total": len(self._vms), "changed": changed, "unchanged": len(self._vms) - changed, "failed": len(self._errors)}
        counts |= dict.fromkeys(dict.fromkeys(_COUNTED.values()), 0)
        for verdict in self._vms.values():
            for word in {_COUNTED[action] for action in verdict.get("actions", [])}:
                counts[word] += 1
        return counts

    def _diff(self) -> dict[str, t.Any]:
        after = {**self._after, **({f"({self._more} more VMs)": "change too"} if self._more else {})}
        title = f"{len(self._vms)} VMs"
        return {"before": self._before, "after": after, "before_header": title, "after_header": title}


def _verdict(plan: Plan, actions: t.Sequence[str]) -> Verdict:
    if not actions and not plan.changed:
        return {"changed": False, **({"pending": list(plan.pending)} if plan.pending else {})}
    verdict: Verdict = {"changed": bool(actions), "actions": list(actions), "changed_fields": [change.field for change in plan.changes]}
    if plan.disruption != "none":
        verdict["disruption"] = plan.disruption
    if plan.pending:
        verdict["pending"] = list(plan.pending)
    if plan.state_before == "absent" and plan.definition is not None:
        # All of a new VM's fields are new.
        verdict.pop("changed_fields")
        verdict["backend"] = plan.definition.backend
    return verdict


def notices(plan: Plan) -> list[str]:
    """What users are warned of."""
    return [*(f"{i.field} is ignored: {i.message}" for i in plan.ignored), *plan.notices]


def _some(names: t.Sequence[str]) -> str:
    return ", ".join(names[:NAMED_FIRST]) + (f" and {len(names) - NAMED_FIRST} more" if len(names) > NAMED_FIRST else "")
