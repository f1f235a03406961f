# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a VM of ours is waited for, with what earlier tasks saw of it in this boot."""

from __future__ import annotations

import typing as t

from ..host import events, processes
from .conditions import conditions
from .live import require, running_as
from .vm_target import LiveVm
from .waits import Wait

if t.TYPE_CHECKING:
    from ..host.console_search import Searcher
    from ..host.layout import VmLayout
    from ..host.store import Store
    from ..model.task import VmRequest


def wait_of(store: Store, vm: VmLayout, request: VmRequest, timeout_s: float, searcher: Searcher, *, fresh: bool = False) -> Wait:
    """C(fresh): of a boot that has only just begun nothing can have been seen. NotFound when there is no such VM."""
    target = LiveVm(running_as(store, vm.name, None) or require(store, vm.name, "wait for"), vm)
    process = processes.current(vm)
    history = events.of_boot(events.read(vm), process.boot_id) if process and not fresh else []
    met_before = [str(event.get("condition")) for event in history if event["event"] == "met"]
    return Wait(target, conditions(request.wait_for, target, searcher), timeout_s, met_before, lambda text: events.append(vm, "met", condition=text))
