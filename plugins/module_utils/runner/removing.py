# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes VMs, and what a run left of them that was cut off before there was a definition or after it was removed (C(forget))."""

from __future__ import annotations

import os
import time
import typing as t

from ..errors import DeadlineExceeded, VmcpError
from ..host import allocations
from ..host.removal import remove_vms
from ..host.supervisors.registry import supervisors
from .power import KILL_S
from .work import Context, Work


def remove(context: Context, works: t.Sequence[Work]) -> None:
    _end(context, works)
    ended = [work for work in works if work.error is None]
    for keeps in (False, True):
        _remove_files(context, [work for work in ended if bool(work.left[0].args.get("keep")) == keeps], keeps)


def _end(context: Context, works: t.Sequence[Work]) -> None:
    """By each supervisor that may have something of a VM, all of its VMs at once."""
    every = {supervisor.name: supervisor for supervisor in supervisors(context.store.layout)}
    listed: dict[str, list[Work]] = {}
    for work in works:
        definition = work.found.definition
        for name in [definition.supervisor] if definition and definition.supervisor in every else every:
            listed.setdefault(name, []).append(work)
    for name, those in listed.items():
        theirs = [work for work in those if work.error is None]
        try:
            left = every[name].remove([work.vm for work in theirs], time.monotonic() + KILL_S)
        except VmcpError as exc:
            left = {}
            for work in theirs:
                work.error = exc
        for work in theirs:
            if work.name in left:
                work.error = DeadlineExceeded(left[work.name])


def _remove_files(context: Context, works: t.Sequence[Work], keep_data: bool) -> None:
    layout = context.store.layout
    if not works:
        return

    def give_back(names: list[str]) -> None:
        on_networks = os.path.isdir(f"{layout.state_dir}/networks")
        if on_networks:
            # Imported here: where there are no networks, nobody pays for them.
            from .networking import clear_stray
            from .networking import give_back as leave_networks

            leave_networks(context.store, names, context.lock_timeout_s)
        allocations.release_all(layout, names, lock_timeout_s=context.lock_timeout_s, tell=context.tell)
        if on_networks:
            clear_stray(layout)

    try:
        removed = remove_vms(layout, [work.name for work in works], keep_data=keep_data, give_back=give_back)
    except VmcpError as exc:
        for work in works:
            work.error = exc
        return
    for work in works:
        found = removed[work.name]
        if isinstance(found, VmcpError):
            work.error = found
