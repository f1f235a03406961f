# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes VMs, and what a run left of them that was cut off before there was a definition or after it was removed (C(forget))."""

from __future__ import annotations

import contextlib
import os
import time
import typing as t

from ..errors import DeadlineExceeded, VmcpError
from ..host import allocations
from ..host.removal import Removal
from ..host.supervisors.registry import supervisors
from .power import KILL_S
from .work import Context, Work

if t.TYPE_CHECKING:
    from ..host.port import Supervisor

# The files of some are deleted while the processes of others still end. Each portion is made durable by itself.
_PORTION = 128


def remove(context: Context, works: t.Sequence[Work]) -> None:
    deadline = time.monotonic() + KILL_S
    for supervisor, theirs in _by_supervisor(context, works):
        with _errors_of(theirs):
            supervisor.end([work.vm for work in theirs], deadline)
    with _errors_of(works):
        removal = Removal(context.store.layout, [work.name for work in works], lambda names: _give_back(context, names))
        for first in range(0, len(works), _PORTION):
            portion = works[first : first + _PORTION]
            _see_gone(context, portion, deadline)
            for keeps in (False, True):
                gone = [work.name for work in portion if work.error is None and bool(work.left[0].args.get("keep")) == keeps]
                removal.clear(gone, keep_data=keeps)
        found = removal.finish()
        for work in works:
            outcome = found.get(work.name)
            if isinstance(outcome, VmcpError):
                work.error = outcome


def _by_supervisor(context: Context, works: t.Sequence[Work]) -> list[tuple[Supervisor, list[Work]]]:
    """Each supervisor that may have something of a VM, with all of its VMs; without those that have failed."""
    every = {supervisor.name: supervisor for supervisor in supervisors(context.store.layout)}
    listed: dict[str, list[Work]] = {}
    for work in works:
        definition = work.found.definition
        for name in [definition.supervisor] if definition and definition.supervisor in every else every:
            if work.error is None:
                listed.setdefault(name, []).append(work)
    return [(every[name], theirs) for name, theirs in listed.items()]


@contextlib.contextmanager
def _errors_of(works: t.Sequence[Work]) -> t.Iterator[None]:
    """An error within is that of all of these which have none of their own."""
    try:
        yield
    except VmcpError as exc:
        for work in works:
            work.error = work.error or exc


def _see_gone(context: Context, works: t.Sequence[Work], deadline: float) -> None:
    for supervisor, theirs in _by_supervisor(context, works):
        with _errors_of(theirs):
            left = supervisor.remove([work.vm for work in theirs], deadline)
            for work in theirs:
                if work.name in left:
                    work.error = DeadlineExceeded(left[work.name])


def _give_back(context: Context, names: list[str]) -> None:
    layout = context.store.layout
    on_networks = os.path.isdir(f"{layout.state_dir}/networks")
    if on_networks:
        # Imported here: where there are no networks, nobody pays for them.
        from .networking import clear_stray
        from .networking import give_back as leave_networks

        leave_networks(context.store, names, context.lock_timeout_s)
    allocations.release_all(layout, names, lock_timeout_s=context.lock_timeout_s, tell=context.tell)
    if on_networks:
        clear_stray(layout)
