# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(vmcp_vms): the VMs of a host from options to result. All are looked at, all are planned, and only when nothing is wrong with any of them are all carried
out, by the code that does one (C(planning), C(apply)).

Up to the point where something is to be done, only the standard library is imported: a task that finds nothing to do reads no more than the definitions, and
asks each VMM once.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ..call import Call, Outcome
from ..errors import InvalidArgument, Violation, VmcpError
from ..host import locks
from ..host.following import settle
from ..host.layout import Layout
from ..host.store import Store, unfinished
from ..model.entries import Entries, Entry, read_entries
from ..model.pruning import read_prune
from ..planner.prune import Surplus, surplus
from . import collector, unchanged
from .each import ahead
from .live import look_at
from .vms_report import Report

if t.TYPE_CHECKING:
    from ..model.definition import Definition
    from .vms_plan import Planned

START_BATCH_MAX = 10_000
AT_A_TIME_MAX = 256


@collector.at_rest()
def run_vms(call: Call) -> Outcome:
    layout = Layout.resolve(call.options.get("state_dir"), call.options.get("run_dir"), call.environ, call.uid)
    return _Task(call, Store(layout)).run()


class _Task:
    def __init__(self, call: Call, store: Store) -> None:
        self.call = call
        self.store = store
        self.entries: Entries = read_entries(call.options.get("vms"), call.options.get("defaults"), call.options.get("secrets"))
        self.rule, found = read_prune(call.options.get("prune"), declares_nothing=self.entries.empty)
        self.violations: list[Violation] = [*self.entries.violations, *found]
        self.at_a_time = _number(call.options, "parallel", AT_A_TIME_MAX, self.violations)
        self.start_batch = _number(call.options, "start_batch", START_BATCH_MAX, self.violations)
        self.report = Report(call, store, [entry.name for entry in self.entries.listed])

    def run(self) -> Outcome:
        rest = self.entries.listed if self.violations else self._changed()
        if rest or self.violations:
            self.call.require_libraries()
        if self.violations:
            # What is right so far is read too: everything is said at once.
            raise InvalidArgument.of(_each_once([*self.violations, *self._planned(rest, Surplus()).unreadable()]))
        going = self._surplus()
        self.report.surplus(going)
        if not rest and not going.names:
            return self.report.outcome()
        self.call.require_libraries()
        planned = self._planned(rest, going)
        wrong = planned.unreadable()
        if wrong:
            raise InvalidArgument.of(_each_once(wrong))
        if not self.call.act:
            planned.make()
            self.report.foreseen(planned)
            return self.report.outcome()
        names = [*(entry.name for entry in rest), *going.names]
        what = f"vmcp_vms of {len(names)} VMs"
        with locks.vm_locks(self.store.layout, names, what, self.call.options["lock_timeout"], self._say_wait):
            for name in names:
                settle(self.store.layout.vm(name))
            # Somebody else may have had one of them until now.
            planned.going = self._surplus(among=going.names) if going.names else going
            planned.make()
            planned.refuse_lacks()
            return self._act(planned)

    # --- what there is to do -------------------------------------------------------------------------------
    def _changed(self) -> list[Entry]:
        """The entries for which an earlier run has not left word that nothing is to be done, or for which that does not hold any more."""
        hits = ahead(self.entries.listed, self._confirm)
        # By position: this runs before the task may be handed to a newer Python, and zip() of 3.9 cannot be strict.
        return [entry for at, entry in enumerate(self.entries.listed) if not hits[at]]

    def _confirm(self, entry: Entry) -> t.Callable[[], bool]:
        asked = fingerprinted(entry)
        state = str(asked.get("state"))
        digest = unchanged.fingerprint(asked, self.call.environ, self.store.layout.vm(entry.name)) if state in unchanged.SATISFIED_BY else None
        if digest is None:
            return lambda: False
        waits = bool(asked.get("wait_for")) and self.call.act
        confirmed = unchanged.confirm(self.store, entry.name, digest, state, waits, lambda: look_at(self.store, entry.name))

        def reported() -> bool:
            hit = confirmed()
            if hit is not None:
                self.report.unchanged(*hit)
            return hit is not None

        return reported

    def _surplus(self, among: t.Optional[t.Collection[str]] = None) -> Surplus:
        """What is to go without being named. C(among): only these may."""
        if self.rule is None and not self.entries.groups:
            return Surplus()
        there = {name: definition for name in self.store.names() if (definition := self._readable(name)) is not None}
        found = surplus(self.rule, self.entries.groups, self.entries.names, there)
        # Of these there is no definition any more by which they could be found again.
        cut_off = {name for name in unfinished(self.store.layout) if name not in self.entries.names and name not in there}
        found = dataclasses.replace(found, pruned=tuple(sorted({*found.pruned, *cut_off})))
        if among is None:
            return found
        return Surplus(tuple(n for n in found.pruned if n in among), tuple(n for n in found.shrunk if n in among), found.kept)

    def _readable(self, name: str) -> t.Optional[Definition]:
        """None for a definition that cannot be read: it says nothing that it could be removed for."""
        known = self.report.definition(name)
        if known is not None:
            return known
        try:
            return self.store.load(name)
        except VmcpError as exc:
            if name not in self.entries.names:
                self.call.warn(f"VM {name} is left alone by prune: {exc.msg}")
            return None

    def _planned(self, rest: t.Sequence[Entry], going: Surplus) -> Planned:
        from .vms_plan import Planned

        return Planned(self.call, self.store, rest, going, self.report.definition)

    # --- acting --------------------------------------------------------------------------------------------
    def _act(self, planned: Planned) -> Outcome:
        from .vms_act import act

        act(self.call, self.store, planned, self.report, at_a_time=self.at_a_time, start_batch=self.start_batch)
        return self.report.outcome()

    def _say_wait(self, holder: object) -> None:
        self.call.warn(f"Waiting for the lock of a VM of this task, held by {holder or 'another process'}.")


def fingerprinted(entry: Entry) -> dict[str, t.Any]:
    """What the no-change path knows an entry by."""
    return {**entry.options, "group": entry.group}


def _number(options: t.Mapping[str, t.Any], name: str, most: int, violations: list[Violation]) -> t.Optional[int]:
    value = options.get(name)
    if value in (None, "auto"):
        return None
    if re.fullmatch("[0-9]{1,9}", str(value)) and 1 <= int(value) <= most:
        return int(value)
    violations.append(Violation(name, f"must be auto, or a number of VMs, 1 to {most}."))
    return None


def _each_once(violations: t.Sequence[Violation]) -> list[Violation]:
    return list(dict.fromkeys(violations))
