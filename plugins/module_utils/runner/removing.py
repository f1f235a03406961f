# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes VMs, and what a run left of them that was cut off before there was a definition or after it was removed (C(forget))."""

from __future__ import annotations

import time
import typing as t

from ..errors import VmcpError
from ..host import allocations
from ..host.removal import remove_vms
from ..host.supervisors.registry import supervisors
from .live import supervisor_of
from .power import KILL_S
from .work import Context, Work, attempt, stored


def remove(context: Context, works: t.Sequence[Work]) -> None:
    def release(work: Work) -> None:
        definition = stored(context, work)
        for supervisor in [supervisor_of(definition, context.store.layout)] if definition else supervisors(context.store.layout):
            supervisor.kill(work.vm, time.monotonic() + KILL_S)
            supervisor.set_autostart(work.vm, False)
            supervisor.forget(work.vm)

    released = attempt(context, works, release)
    for keeps in (False, True):
        _remove_files(context, [work for work in released if bool(work.left[0].args.get("keep")) == keeps], keeps)


def _remove_files(context: Context, works: t.Sequence[Work], keep_data: bool) -> None:
    layout = context.store.layout
    if not works:
        return

    def give_back(names: list[str]) -> None:
        allocations.release_all(layout, names, lock_timeout_s=context.lock_timeout_s)

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
