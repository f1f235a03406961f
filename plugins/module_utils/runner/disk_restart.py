# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs that are stopped while their disk grows, and started again: the same way as C(vmcp_vm) restarts one for a change that cannot be made beneath it.

Who uses this holds the locks of the VMs."""

from __future__ import annotations

import contextlib
import typing as t

from ..errors import FailedPrecondition, InvalidArgument, Violation, VmcpError
from ..host import processes
from ..model.task import VmRequest
from .apply import start_stopped, stop
from .disk_users import mark_of
from .live import situation
from .planning import Planning
from .work import Context, Work

if t.TYPE_CHECKING:
    from ..call import Call
    from ..host.store import Store


class Restarts:
    """C(lacks): what the host has not that a start of one of them takes. Nothing is touched before C(stop)."""

    def __init__(self, call: Call, store: Store, disk: str, names: t.Sequence[str], grace_s: int, lock_timeout_s: float) -> None:
        planning = Planning(store, call.uid, call.environ)
        found = {name: situation(store, name) for name in names}
        plans = [planning.restart(VmRequest(name), found[name], grace_s) for name in names]
        self._works = []
        self.lacks: list[Violation] = []
        for name, plan in planning.foresee(plans).items():
            if isinstance(plan, InvalidArgument):
                raise FailedPrecondition(f"VM {name} could not be started again, so it is not stopped: {plan.msg}", violations=plan.violations)
            text = f"needs a restart of VM {name}, and the host lacks what that takes"
            self.lacks += [Violation("size", f"{text}: {lack.field}: {lack.message}") for lack in plan.would_need]
            self._works.append(Work(plan, found[name], store.layout.vm(name), restarted_for=mark_of(disk)))
        self._store = store
        self._context = Context(store, planning.defaults, planning.root, lock_timeout_s, planning.foreseen, call.warn)

    def stop(self) -> None:
        for work in self._works:
            self._store.save_satisfied(work.name, None)
        stop(self._context, self._works)
        self._refuse_failed()

    def start(self) -> None:
        """Those that are down; one that could not be stopped goes on."""
        start_stopped(self._context, self._works)
        self._refuse_failed()

    def _refuse_failed(self) -> None:
        failed = [work for work in self._works if work.error]
        for work in failed:
            # An end that comes later was not asked for.
            with contextlib.suppress(VmcpError):
                processes.unmark_stopping(work.vm)
        for work in failed:
            if work.error:
                raise work.error
