# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plans of all VMs of a C(vmcp_vms), or everything that is wrong with any of them. Touches nothing."""

from __future__ import annotations

import dataclasses
import typing as t

from ..call import Call
from ..errors import FailedPrecondition, InvalidArgument, Violation, VmcpError
from ..host import allocations, capacity, processes
from ..host.store import Store
from ..model.entries import Entry
from ..model.requests import Requests
from ..model.task import VmRequest
from ..planner.make import plan_removal
from ..planner.plan import Plan
from ..planner.prune import Surplus
from ..planner.room import Room, lacks_room
from .live import situations
from .named_networks import with_networks
from .nic_lacks import is_tap
from .planning import Planning, beyond_the_backend, stored_config

if t.TYPE_CHECKING:
    from ..model.definition import Definition
    from ..planner.situation import Situation

# The definition of a VM that is known to be unchanged, by its name; None for another.
Known = t.Callable[[str], t.Optional["Definition"]]


@dataclasses.dataclass(frozen=True)
class One:
    """One VM of the task. C(entry) None: nobody named it, it goes."""

    request: VmRequest
    entry: t.Optional[Entry]
    found: Situation
    plan: Plan


class Planned:
    """C(going): what is to go without being named. C(ones): after C(make), every VM that was not known to be unchanged, by name."""

    def __init__(self, call: Call, store: Store, rest: t.Sequence[Entry], going: Surplus, known: Known) -> None:
        self.call = call
        self.store = store
        self.rest = rest
        self.going = going
        self.ones: dict[str, One] = {}
        self.lacks: list[Violation] = []
        self.overcommitted: list[Violation] = []
        self.planning = Planning(store, call.uid, call.environ)
        self._known = known
        self._requests = Requests(call.options.get("defaults") or {}, beyond_the_backend, lambda options: with_networks(options, store.layout))

    def unreadable(self) -> list[Violation]:
        """What is wrong with the entries in themselves."""
        return [v for entry in self.rest for v in self._requests.read(entry, stored_config(self.store, entry.name))[1]]

    def make(self) -> None:
        """Plans all. Raises with everything that is wrong: what is wrong in itself before what is only wrong now."""
        errors = _Errors()
        requests = self._read(errors)
        errors.raise_any()
        entries = {entry.name: entry for entry in self.rest}
        founds = situations(self.store, list(requests))
        plans: list[Plan] = []
        for found, (name, request) in zip(founds, requests.items(), strict=True):
            with errors.of(self._requests, entries[name]):
                plans.append(self.planning.plan(request, found))
                self.ones[name] = One(request, entries[name], found, plans[-1])
        errors.violations += _taps_used_twice([one for one in self.ones.values() if one.entry])
        for name, seen in self.planning.foresee(plans).items():
            with errors.of(self._requests, entries[name]):
                if isinstance(seen, InvalidArgument):
                    raise seen
                self.ones[name] = dataclasses.replace(self.ones[name], plan=seen)
        errors.raise_any()
        self._remove_surplus()
        self._gather_lacks(entries)

    def _read(self, errors: _Errors) -> dict[str, VmRequest]:
        requests = {}
        for entry in self.rest:
            request, violations = self._requests.read(entry, stored_config(self.store, entry.name))
            errors.violations += violations
            if request is not None:
                requests[entry.name] = request
        return requests

    def _remove_surplus(self) -> None:
        defaults = self.call.options.get("defaults") or {}
        grace = {"shutdown_timeout": defaults["shutdown_timeout"]} if isinstance(defaults.get("shutdown_timeout"), int) else {}
        founds = situations(self.store, self.going.names)
        for name, found in zip(self.going.names, founds, strict=True):
            request = VmRequest(name, options={"state": "absent", **grace})
            if (found.exists or found.leftovers) and not found.protected:
                self.ones[name] = One(request, None, found, plan_removal(request, found))

    # --- what the host lacks -------------------------------------------------------------------------------
    def _gather_lacks(self, entries: t.Mapping[str, Entry]) -> None:
        lacks = [self._requests.blame(one.entry, lack) for one in self.ones.values() if one.entry for lack in one.plan.would_need]
        room = self._lacks_room()
        if self.call.options.get("overcommit"):
            self.overcommitted = room
        else:
            lacks += room
        self.lacks = list(dict.fromkeys(lacks))

    def _lacks_room(self) -> list[Violation]:
        starts = [one for one in self.ones.values() if any(step.action == "start" for step in one.plan.steps) and not one.found.runs]
        starting = [one.plan.definition for one in starts if one.plan.definition is not None]
        if not starting:
            return []
        new = sum(1 for one in self.ones.values() if one.found.definition is None and one.plan.definition is not None)
        return lacks_room(starting, self._running(), new if self.call.uid == 0 else 0, self._room())

    def _running(self) -> list[Definition]:
        """The definitions of all VMs of this host that run, and will go on."""
        running = []
        for name in self.store.names():
            one = self.ones.get(name)
            if one is not None and (not one.found.runs or one.plan.state_after not in ("running", "paused")):
                continue
            if one is None and processes.current(self.store.layout.vm(name)) is None:
                continue
            definition = (one.found.definition if one else None) or self._known(name) or self._load(name)
            running += [definition] if definition is not None else []
        return running

    def _load(self, name: str) -> t.Optional[Definition]:
        try:
            return self.store.load(name)
        except VmcpError:
            # Not ours to judge here: a VM that cannot be read is reported where it is asked for.
            return None

    def _room(self) -> Room:
        facts = capacity.capacity(self.store.layout.state_dir)
        return Room(
            memory_total=facts["memory_bytes"],
            memory_available=facts["memory_available_bytes"],
            hugepages_free={page["size_bytes"]: page["size_bytes"] * page["free"] for page in facts["hugepages"]},
            tasks_free=capacity.tasks_free(self.call.uid),
            files_free=capacity.files_free(),
            uids_free=allocations.uids_free(self.store.layout, self.planning.defaults.uid_range) if self.call.uid == 0 else None,
        )

    def refuse_lacks(self) -> None:
        if self.lacks:
            first = self.lacks[0]
            more = f" ({len(self.lacks) - 1} more in 'violations')" if len(self.lacks) > 1 else ""
            raise FailedPrecondition(f"{first.field}: {first.message}{more} Nothing was done.", violations=self.lacks)


def _taps_used_twice(ones: t.Sequence[One]) -> list[Violation]:
    """A tap that the user named carries one interface; VMs may share a bridge. Easily written in 'defaults'."""
    users: dict[str, str] = {}
    found = []
    for one in ones:
        network = one.plan.definition.config.get("network") or [] if one.plan.definition else []
        for index, tap in enumerate(nic.get("tap_device") for nic in network):
            if tap and one.entry and is_tap(tap) and users.setdefault(tap, one.plan.name) != one.plan.name:
                found.append(
                    Violation(
                        f"{one.entry.path}.config.network[{index}].tap_device",
                        f"{tap} is used by VM {users[tap]} of this task already. Name another tap, or a bridge.",
                    )
                )
    return found


class _Errors:
    """Everything that is wrong with any VM, said at once."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self._first: t.Optional[VmcpError] = None

    def of(self, requests: Requests, entry: Entry) -> _Catch:
        return _Catch(self, requests, entry)

    def add(self, error: VmcpError, requests: Requests, entry: Entry) -> None:
        # What is wrong in itself goes before what is only wrong now.
        if self._first is None or (isinstance(error, InvalidArgument) and not isinstance(self._first, InvalidArgument)):
            self._first = error
        if isinstance(error, InvalidArgument) and error.violations:
            self.violations += [requests.blame(entry, violation) for violation in error.violations]
        else:
            self.violations.append(Violation(entry.path, error.msg))

    def raise_any(self) -> None:
        if not self.violations:
            return
        violations = list(dict.fromkeys(self.violations))
        told = InvalidArgument.of(violations)
        kind = type(self._first) if self._first is not None else InvalidArgument
        raise kind(f"{told.msg} Nothing was done.", violations=violations)


class _Catch:
    """A context in which the errors of one VM are collected."""

    def __init__(self, errors: _Errors, requests: Requests, entry: Entry) -> None:
        self._errors, self._requests, self._entry = errors, requests, entry

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: t.Optional[BaseException], trace: object) -> bool:
        if not isinstance(error, VmcpError):
            return False
        self._errors.add(error, self._requests, self._entry)
        return True
