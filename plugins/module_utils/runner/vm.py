# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(vmcp_vm): one VM from options to result. Look, plan, and, unless it is a check, act and look again."""

from __future__ import annotations

import typing as t

from ..call import Call, Outcome
from ..errors import FailedPrecondition, InvalidArgument, VmcpError
from ..host import files, locks
from ..host.following import settle
from ..host.layout import Layout
from ..host.store import Store
from ..planner.situation import Situation
from . import unchanged
from .describe import describe
from .live import look_at, situation

if t.TYPE_CHECKING:
    from ..host.layout import VmLayout
    from ..model.task import VmRequest
    from ..planner.plan import Plan
    from .planning import Planning


def run_vm(call: Call) -> Outcome:
    """The task. Only what the no-change path needs is imported up to here."""
    options = call.options
    layout = Layout.resolve(options.get("state_dir"), options.get("run_dir"), call.environ, call.uid)
    store = Store(layout)
    quick = _nothing_to_do(call, store)
    return quick if quick is not None else _Task(call, store).run()


def _nothing_to_do(call: Call, store: Store) -> t.Optional[Outcome]:
    import re

    from ..model.words import NAME_PATTERN

    name = str(call.options["name"])
    if not re.fullmatch(NAME_PATTERN, name):
        return None
    vm = store.layout.vm(name)
    digest = unchanged.fingerprint(call.options, call.environ, vm)
    if digest is None:
        return None
    hit = unchanged.confirm(store, name, digest, call.options["state"], bool(call.options.get("wait_for")) and call.act, lambda: look_at(store, name))()
    return _satisfied(call, vm, *hit) if hit is not None else None


def _satisfied(call: Call, vm: VmLayout, found: Situation, kept: dict[str, t.Any]) -> Outcome:
    for text in kept.get("notices", []):
        call.warn(text)
    result = {
        "changed": False,
        "actions": [],
        "disruption": "none",
        "pending": kept.get("pending", []),
        "ignored": kept.get("ignored", []),
        "backend_reason": found.definition.backend_reason if found.definition else "",
        "vm": describe(found, vm, pending=kept.get("pending", [])),
    }
    if not call.act:
        result["would_need"] = []
    elif call.options.get("wait_for"):
        result["waited"] = kept.get("waited", [])
    title = f"vm {found.name}"
    return Outcome(result, {"before": {}, "after": {}, "before_header": title, "after_header": title})


class _Task:
    def __init__(self, call: Call, store: Store) -> None:
        call.require_libraries()
        from ..model.task import validate_request
        from .named_networks import with_networks
        from .planning import beyond_the_backend, stored_config

        self.call = call
        self.store = store
        request, violations = validate_request(with_networks(call.options, store.layout), stored=stored_config(store, str(call.options["name"])))
        if request is None:
            raise InvalidArgument.of([*violations, *beyond_the_backend(call.options)])
        self.request: VmRequest = request
        self.name = str(request.name)
        self.vm = store.layout.vm(self.name)

    def run(self) -> Outcome:
        from . import endpoint

        socket = endpoint.socket_of(self.request, self.call.environ, self.store)
        if socket:
            return endpoint.run(self.call, self.request, socket)
        if not self.call.act:
            found, plan, _planning = self._plan()
            self._warn(plan)
            return self._report(found, plan, None, None)
        with locks.held(self.vm.lock, f"vmcp_vm {self.name} state={self.request.option('state')}", self.request.option("lock_timeout"), self._say_wait):
            settle(self.vm)
            found, plan, planning = self._plan()
            self._warn(plan)
            self._refuse_lacks(plan)
            waited = self._act(found, plan, planning)
            after = situation(self.store, self.name) if plan.steps or waited else found
            return self._report(found, plan, after, waited)

    # --- looking and planning -----------------------------------------------------------------------------
    def _plan(self) -> tuple[Situation, Plan, Planning]:
        from .planning import Planning

        planning = Planning(self.store, self.call.uid, self.call.environ)
        found = situation(self.store, self.name)
        plan = planning.foresee([planning.plan(self.request, found)])[self.name]
        if isinstance(plan, InvalidArgument):
            raise plan
        return found, plan, planning

    def _refuse_lacks(self, plan: Plan) -> None:
        if plan.would_need:
            first = plan.would_need[0]
            more = f" ({len(plan.would_need) - 1} more in 'violations')" if len(plan.would_need) > 1 else ""
            raise FailedPrecondition(f"{first.field}: {first.message}{more}", violations=plan.would_need)

    # --- acting -------------------------------------------------------------------------------------------
    def _act(self, found: Situation, plan: Plan, planning: Planning) -> t.Optional[list[dict[str, t.Any]]]:
        """The steps, then the waiting. A failure on the way says what was done before it: the host is not as it was."""
        from .apply import carry_out
        from .work import Context, Work

        work = Work(plan, found, self.vm)
        try:
            if self.request.option("state") == "shutdown":
                # Whoever wants it down takes back what is left of a restart that was cut off: a later 'present' would finish it.
                files.remove(self.vm.restarting)
            if plan.steps:
                self.store.save_satisfied(self.name, None)
                lock_timeout_s = self.request.option("lock_timeout")
                context = Context(self.store, planning.defaults, planning.root, lock_timeout_s, planning.foreseen, self.call.warn)
                carry_out(context, [work])
                if work.error:
                    raise work.error
            if self.request.wait_for and plan.state_after in ("running", "paused"):
                return self._wait()
        except VmcpError as exc:
            exc.details.update(changed=bool(work.done), actions=work.done)
            raise
        return None

    def _wait(self) -> list[dict[str, t.Any]]:
        from ..host.console_search import Searcher
        from .vm_wait import wait_of
        from .waits import finish

        with Searcher() as searcher:
            return finish(wait_of(self.store, self.vm, self.request, self.request.option("wait_timeout"), searcher))

    # --- telling ------------------------------------------------------------------------------------------
    def _say_wait(self, holder: object) -> None:
        self.call.warn(f"Waiting for the lock of VM {self.name}, held by {holder or 'another process'}.")

    def _warn(self, plan: Plan) -> None:
        for text in _notices(plan):
            self.call.warn(text)
        if plan.definition is not None and any(step.action == "start" for step in plan.steps):
            from ..host.capacity import memory_total
            from ..planner.room import beyond_the_host

            text = beyond_the_host(plan.definition, memory_total())
            if text:
                self.call.warn(text)
        if not self.call.act:
            for lack in plan.would_need:
                self.call.warn(f"The host lacks what this needs: {lack.field}: {lack.message}")

    def _report(self, found: Situation, plan: Plan, after: t.Optional[Situation], waited: t.Optional[list[dict[str, t.Any]]]) -> Outcome:
        result: dict[str, t.Any] = {
            "changed": plan.changed,
            "actions": plan.actions,
            "disruption": plan.disruption,
            "pending": list(plan.pending),
            "ignored": [i.as_dict() for i in plan.ignored],
            "backend_reason": plan.backend_reason,
        }
        if after is None:
            result["would_need"] = [lack.as_dict() for lack in plan.would_need]
            result["vm"] = (
                {"name": plan.name, "state": "absent"}
                if plan.state_after == "absent"
                else describe(found, self.vm, pending=plan.pending, definition=plan.definition, state=plan.state_after)
            )
        else:
            result["vm"] = describe(after, self.vm, pending=plan.pending)
            if waited is not None:
                result["waited"] = waited
            self._remember(plan, after, waited)
        return Outcome(result, plan.diff())

    def _remember(self, plan: Plan, after: Situation, waited: t.Optional[list[dict[str, t.Any]]]) -> None:
        digest = unchanged.fingerprint(self.call.options, self.call.environ, self.vm)
        kept = {"pending": list(plan.pending), "ignored": [i.as_dict() for i in plan.ignored], "notices": _notices(plan), "waited": waited or []}
        unchanged.remember(self.store, plan.name, digest, after.process.boot_id if after.process else None, kept)


def _notices(plan: Plan) -> list[str]:
    return [*(f"{i.field} is ignored: {i.message}" for i in plan.ignored), *plan.notices]
