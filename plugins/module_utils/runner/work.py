# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the steps of plans are carried out on: VMs with their plans, and what is the same for all of them in one task."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ..errors import FailedPrecondition, Internal, VmcpError
from ..host.clones import Overlays
from ..host.supervisors.registry import supervisors
from . import live
from .each import each
from .live import supervisor_of

if t.TYPE_CHECKING:
    from ..host.host_json import HostDefaults
    from ..host.layout import VmLayout
    from ..host.port import Supervisor
    from ..host.store import Store
    from ..model.definition import Definition
    from ..planner.plan import Plan, Step
    from ..planner.situation import Situation
    from .launching import Launchable

# What is done VM by VM and lets us wait (a guest that is asked, a VMM that is silent, a disk) is done for so many at a time.
AT_A_TIME = min(32, 4 * (os.cpu_count() or 1))


def _nothing(*_ignored: object) -> None:
    """Nobody listens."""


@dataclasses.dataclass
class Context:
    """C(tell) hears what the user should know besides; C(progress) what is done, in words of its own. C(foreseen): see C(Planning). C(stop): nothing more is
    begun after a failure; C(start_batch): so many VMs are started in one request, None for all. C(halted): something failed, and C(stop)."""

    store: Store
    host: HostDefaults
    root: bool
    lock_timeout_s: float
    foreseen: t.Mapping[str, Launchable] = dataclasses.field(default_factory=dict)
    tell: t.Callable[[str], object] = _nothing
    progress: t.Callable[[str, t.Sequence[Work]], object] = _nothing
    stop: bool = False
    start_batch: t.Optional[int] = None
    halted: bool = False
    overlays: Overlays = dataclasses.field(default_factory=Overlays)
    at_a_time: int = AT_A_TIME


@dataclasses.dataclass
class Work:
    """One VM under its lock. C(definition) is what is stored while the steps go on; C(done) names those that were begun. One that failed is left as it is."""

    plan: Plan
    found: Situation
    vm: VmLayout
    priority: int = 0
    definition: t.Optional[Definition] = None
    done: list[str] = dataclasses.field(default_factory=list)
    error: t.Optional[VmcpError] = None
    launch_is_written: bool = False
    # For whom it is restarted, kept in the mark of a restart until that is done.
    restarted_for: str = ""

    def __post_init__(self) -> None:
        self.definition = self.plan.definition
        self.left: list[Step] = list(self.plan.steps)

    @property
    def name(self) -> str:
        return self.plan.name

    def takes(self, action: str) -> bool:
        return any(step.action == action for step in self.plan.steps)

    @property
    def on_networks(self) -> bool:
        """Whether it may be a member of networks of ours: by what it is to be, what it was, or what runs."""
        return any(definition is not None and definition.on_networks for definition in (self.definition, self.found.definition, self.found.booted))

    def wanted(self) -> Definition:
        if self.definition is None:
            raise Internal(f"The plan for VM {self.name} has steps on a definition and no definition.")
        return self.definition


Of = t.Callable[[Work], object]


def attempt(context: Context, works: t.Sequence[Work], what: Of) -> list[Work]:
    """Does C(what) to each that has not failed. Those that went through; the others have their error."""

    def one(work: Work) -> None:
        try:
            what(work)
        except VmcpError as exc:
            work.error = exc

    each([work for work in works if work.error is None], one, context.at_a_time)
    return [work for work in works if work.error is None]


def by_supervisor(context: Context, works: t.Sequence[Work]) -> list[tuple[Supervisor, list[Work]]]:
    groups: dict[str, list[Work]] = {}
    for work in works:
        groups.setdefault(work.wanted().supervisor, []).append(work)
    return [(supervisor_of(listed[0].wanted(), context.store.layout), listed) for listed in groups.values()]


def running_as(context: Context, work: Work) -> Definition:
    """With what the live process was started: its backend may differ from the definition's."""
    running = _known_to_run(context, work)
    if running is None:
        raise FailedPrecondition(f"Nothing is known of the process of VM {work.name}. Remove it with state: absent.")
    return running


def who_may_run_it(context: Context, work: Work) -> list[Supervisor]:
    """The one that the live process was started with; all of them, where no definition that can be read says which."""
    known = _known_to_run(context, work)
    return [supervisor_of(known, context.store.layout)] if known else supervisors(context.store.layout)


def _known_to_run(context: Context, work: Work) -> t.Optional[Definition]:
    return live.running_as(context.store, work.name, work.found.definition or work.definition)
