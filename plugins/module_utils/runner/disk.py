# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(vmcp_disk): one disk from options to result. Look, plan, and, unless it is a check, act and look again."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from ..call import Call, Outcome
from ..errors import FailedPrecondition, InvalidArgument, VmcpError
from ..host import events, locks
from ..host.disks import DiskStore
from ..host.layout import Layout
from ..host.store import Store
from ..model.disk import DiskRequest, validate_disk
from ..planner.disk_situation import DiskSituation
from ..planner.disks import DiskPlan, plan_disk
from . import disk_apply
from .disk_look import describe_disk, situation
from .disk_users import users_of

if t.TYPE_CHECKING:
    from .disk_restart import Restarts


def run_disk(call: Call) -> Outcome:
    layout = Layout.resolve(call.options.get("state_dir"), call.options.get("run_dir"), call.environ, call.uid)
    request, violations = validate_disk(call.options)
    if request is None:
        raise InvalidArgument.of(violations)
    return _Task(call, Store(layout), request).run()


class _Task:
    def __init__(self, call: Call, store: Store, request: DiskRequest) -> None:
        self.call = call
        self.store = store
        self.disks = DiskStore(store.layout)
        self.request = request
        self.layout = store.layout.disk(request.name)
        self.locked: tuple[str, ...] = ()
        self.restarts: t.Optional[Restarts] = None

    def run(self) -> Outcome:
        if not self.call.act:
            found, plan = self._plan()
            for lack in plan.would_need:
                self.call.warn(f"The host lacks what this needs: {lack.field}: {lack.message}")
            return self._report(found, plan)
        with self._locks():
            found, plan = self._plan()
            if plan.would_need:
                first = plan.would_need[0]
                raise FailedPrecondition(f"{first.field}: {first.message}", violations=plan.would_need)
            self._act(found, plan)
            return self._report(found, plan)

    @contextlib.contextmanager
    def _locks(self) -> t.Iterator[None]:
        """The disk's own and, by name, that of the disk it is cloned from; then those of the VMs that use it, and, to remove it, of all who would begin to."""
        request = self.request
        names = {request.name, *([request.source.name] if request.source and request.source.kind == "disk" else ())}
        what = f"vmcp_disk {request.name} state={request.state}"
        with contextlib.ExitStack() as stack:
            for name in sorted(names):
                stack.enter_context(locks.held(self.store.layout.disk(name).lock, what, request.lock_timeout, self._say_wait))
            self.locked = tuple(user.vm for name in names for user in users_of(self.store, name))
            stack.enter_context(locks.vm_locks(self.store.layout, self.locked, what, request.lock_timeout, self._say_wait))
            if request.state == "absent":
                stack.enter_context(locks.held(self.store.layout.disks_lock, what, request.lock_timeout, self._say_wait))
            yield

    def _say_wait(self, holder: object) -> None:
        self.call.warn(f"Waiting for a lock that {holder or 'another process'} holds.")

    def _plan(self) -> tuple[DiskSituation, DiskPlan]:
        request = self.request
        found, lacks = situation(self.store, request)
        volume = {"volume_group": request.volume_group or "", "name": f"vmcp-{request.name}"} if request.format == "lvm" else None
        path = self.disks.path_of_new(request.name, request.format or "raw", volume)
        plan = plan_disk(request, found, path, lacks, events.now())
        return found, self._with_restarts(plan) if plan.restarts else plan

    def _with_restarts(self, plan: DiskPlan) -> DiskPlan:
        """With what the host lacks to start its VMs again."""
        late = sorted({*plan.restarts} - {*self.locked}) if self.call.act else []
        if late:
            raise FailedPrecondition(f"VM {late[0]} has got disk {plan.name} at the same time. Run this task again.")
        self.call.require_libraries()
        # Imported here: a task that restarts nobody does not pay for it.
        from .disk_restart import Restarts

        self.restarts = Restarts(self.call, self.store, plan.name, plan.restarts, self.request.shutdown_timeout, self.request.lock_timeout)
        return dataclasses.replace(plan, would_need=(*plan.would_need, *self.restarts.lacks))

    def _act(self, found: DiskSituation, plan: DiskPlan) -> None:
        done: list[str] = []
        try:
            for step in plan.steps:
                done.append(step)
                self._take(found, plan, step)
        except VmcpError as exc:
            if self.restarts and "start" not in done:
                self._start_all_the_same(exc, done)
            exc.details.update(changed=True, actions=done)
            raise

    def _take(self, found: DiskSituation, plan: DiskPlan, step: str) -> None:
        if self.restarts and step in ("shutdown", "kill"):
            self.restarts.stop()
        elif self.restarts and step == "start":
            self.restarts.start()
        else:
            disk_apply.take(self.store, self.disks, self.request, found, plan, step, self.call)

    def _start_all_the_same(self, exc: VmcpError, done: list[str]) -> None:
        """What failed is no reason to leave VMs down that were stopped for it."""
        done.append("start")
        try:
            if self.restarts:
                self.restarts.start()
        except VmcpError as second:
            if second is not exc:
                self.call.warn(f"And what was stopped for it did not come up again: {second.msg}")

    def _report(self, found: DiskSituation, plan: DiskPlan) -> Outcome:
        for text in plan.notices:
            self.call.warn(text)
        result: dict[str, t.Any] = {"changed": bool(plan.steps), "actions": list(plan.steps), "pending": list(plan.pending)}
        result.update(disruption=plan.disruption, restarts=list(plan.restarts))
        record = self.disks.load(self.request.name) if self.call.act and self.request.state != "absent" else plan.record
        if record is None:
            result["disk"] = {"name": self.request.name, "state": "absent"}
        else:
            result["disk"] = {"state": "present", **describe_disk(record, found.users, look=self.call.act)}
        if not self.call.act:
            result["would_need"] = [lack.as_dict() for lack in plan.would_need]
        return Outcome(result, plan.diff())
