# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes the files of VMs, one or many: the state directory is listed once and made durable once for all of them. Standard library only."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ..errors import DeadlineExceeded, FailedPrecondition, VmcpError
from .files import os_errors, sync_dir
from .locks import held
from .store import REMOVING, unfinished
from .trees import mount_points, mounts_below, remove_tree

if t.TYPE_CHECKING:
    from .layout import Layout, VmLayout

Removed = t.Union[bool, VmcpError]

# To delete files that are on the disk is to wait for the file system, for each of them: the waits of several go on at the same time.
_THREADS = 4
_FEW = 16


def remove_vms(layout: Layout, names: t.Sequence[str], *, keep_data: bool, give_back: t.Callable[[list[str]], object]) -> dict[str, Removed]:
    """Removes what belongs to the VMs, their run-time directories too; locks stay. For each whether there was anything, or why it is not removed: something
    is mounted below.

    Directories are renamed first, so that a run killed in between leaves no half VM; the rest goes with the next removal.
    C(give_back) returns what the VMs had of the host: called once nothing can use it, while something is still there by which a repeated removal
    would find that there is something to do. C(keep_data) leaves C(data) alone."""
    found: dict[str, Removed] = {}
    read = mount_points()
    # Usually none: then no path has to be looked at for it any more.
    points = [point for directory in (layout.vms, layout.run_dir) for point in mounts_below(directory, read)]
    _finish_others(layout, names, give_back, points)
    for name in names:
        try:
            vm = layout.vm(name)
            there = remove_tree(vm.run, sync=False, points=points)
            found[name] = (_remove_all_but_data(vm) if keep_data else _set_aside(layout, vm, points)) or there
        except VmcpError as exc:
            found[name] = exc
    removed = [name for name in names if not isinstance(found[name], VmcpError)]
    if not keep_data and any(found[name] is True for name in removed):
        _sync_names(layout)
    _for_all(removed, lambda name: _empty(_doomed(layout, name), points))
    if removed:
        give_back(removed)
    for name, was_there in _for_all(removed, lambda name: remove_tree(_doomed(layout, name), sync=False, points=points)):
        found[name] = was_there or found[name]
    if removed:
        _sync_names(layout)
    return found


def _for_all(names: t.Sequence[str], work: t.Callable[[str], t.Any]) -> list[tuple[str, t.Any]]:
    """Each with what C(work) answers for it."""
    if len(names) <= _FEW:
        return [(name, work(name)) for name in names]
    # Not needed by those who remove a few.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda name: (name, work(name)), names))


def _doomed(layout: Layout, name: str) -> str:
    return f"{layout.vms}/{REMOVING}{name}"


def _sync_names(layout: Layout) -> None:
    if os.path.isdir(layout.vms):
        with os_errors(f"write {layout.vms}"):
            sync_dir(layout.vms)


def _set_aside(layout: Layout, vm: VmLayout, points: t.Sequence[str]) -> bool:
    doomed = _doomed(layout, vm.name)
    with os_errors(f"remove {vm.dir}"):
        mounted = mounts_below(vm.dir, points)
        if mounted:
            raise FailedPrecondition(f"{mounted[0]} is a mount point, so {vm.dir} is not removed. Unmount it and run the task again.")
        if not os.path.lexists(vm.dir):
            return False
        remove_tree(doomed, sync=False, points=points)
        os.rename(vm.dir, doomed)
    return True


def _remove_all_but_data(vm: VmLayout) -> bool:
    found = False
    with os_errors(f"clear {vm.dir}"):
        try:
            entries = os.listdir(vm.dir)
        except FileNotFoundError:
            return False
        # The definition last: as long as it is there, a run killed in between can be repeated.
        for entry in sorted(entries, key=lambda name: name == "vm.json"):
            if entry != "data":
                found = remove_tree(f"{vm.dir}/{entry}") or found
    return found


def _empty(doomed: str, points: t.Sequence[str]) -> None:
    """Before what it had is given back: that may have to write, and the disk may be full."""
    if os.path.lexists(doomed):
        for entry in os.listdir(doomed):
            remove_tree(f"{doomed}/{entry}", sync=False, points=points)


def _finish_others(layout: Layout, but: t.Collection[str], give_back: t.Callable[[list[str]], object], points: t.Sequence[str]) -> None:
    """Removals that were cut off. One whose VM somebody has the lock of is left to them, and what belongs to a new VM of that name is left to it."""
    for name in unfinished(layout):
        if name in but:
            continue
        with contextlib.suppress(DeadlineExceeded), held(layout.vm(name).lock, "finishing a removal that was cut off", 0):
            doomed = _doomed(layout, name)
            _empty(doomed, points)
            if not os.path.lexists(layout.vm(name).dir):
                give_back([name])
            remove_tree(doomed, points=points)
