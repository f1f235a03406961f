# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes the files of VMs, one or many: the state directory is listed once, and made durable once for many of them. Standard library only."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ..errors import DeadlineExceeded, VmcpError
from .files import os_errors, remove, sync_dir
from .locks import held
from .store import REMOVING, unfinished
from .trees import mount_points, mounts_below, refuse_mounted, remove_below, remove_tree

if t.TYPE_CHECKING:
    from .layout import Layout, VmLayout

Removed = t.Union[bool, VmcpError]

# To delete files that are on the disk is to wait for the file system, for each of them (where it discards what is freed, for the disk): the waits of
# several go on at the same time.
_THREADS = 16
_FEW = 16


class Removal:
    """Removes what belongs to VMs, their run-time directories too; locks stay. In portions, while others still end: C(clear) each, then C(finish).

    Directories are renamed first, so that a run killed in between leaves no half VM; the rest goes with the next removal.
    C(give_back) returns what the VMs had of the host: called once nothing can use it, while something is still there by which a repeated removal
    would find that there is something to do. C(names): of all portions."""

    def __init__(self, layout: Layout, names: t.Collection[str], give_back: t.Callable[[list[str]], object]) -> None:
        self._layout = layout
        self._give_back = give_back
        self._found: dict[str, Removed] = {}
        read = mount_points()
        # Usually none: then no path has to be looked at for it any more.
        self._points = [point for directory in (layout.vms, layout.run_dir) for point in mounts_below(directory, read)]
        _finish_others(layout, names, give_back, self._points)

    def clear(self, names: t.Sequence[str], *, keep_data: bool) -> None:
        """Their files, but for an empty directory each. C(keep_data) leaves C(data) alone."""
        points = self._points
        for name in names:
            try:
                vm = self._layout.vm(name)
                with os_errors(f"remove {vm.pid}"):
                    # First: while it says that there was a process, others wait for the word of whoever saw it end.
                    remove(vm.pid)
                there = remove_tree(vm.run, sync=False, points=points)
                self._found[name] = (_remove_all_but_data(vm) if keep_data else _set_aside(self._layout, vm, points)) or there
            except VmcpError as exc:
                self._found[name] = exc
        removed = [name for name in names if not isinstance(self._found[name], VmcpError)]
        if not keep_data and any(self._found[name] is True for name in removed):
            _sync_names(self._layout)
        # Before what they had is given back: that may have to write, and the disk may be full.
        _for_all(removed, lambda name: remove_below(_doomed(self._layout, name), points=points))

    def finish(self) -> dict[str, Removed]:
        """Gives back what they had. For each whether there was anything, or why it is not removed: something is mounted below."""
        removed = [name for name, found in self._found.items() if not isinstance(found, VmcpError)]
        if removed:
            self._give_back(removed)
        for name, was_there in _for_all(removed, lambda name: _drop(_doomed(self._layout, name), self._points)):
            self._found[name] = was_there or self._found[name]
        if removed:
            _sync_names(self._layout)
        return self._found


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
    refuse_mounted(vm.dir, points)
    with os_errors(f"remove {vm.dir}"):
        try:
            os.rename(vm.dir, doomed)
        except FileNotFoundError:
            return False
        except OSError:
            # What a removal that was cut off has left there.
            if not os.path.lexists(doomed):
                raise
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


def _drop(doomed: str, points: t.Sequence[str]) -> bool:
    """The directory, empty by now but for what came into it since. False when it was not there."""
    try:
        os.rmdir(doomed)
    except FileNotFoundError:
        return False
    except OSError:
        return remove_tree(doomed, sync=False, points=points)
    return True


def _finish_others(layout: Layout, but: t.Collection[str], give_back: t.Callable[[list[str]], object], points: t.Sequence[str]) -> None:
    """Removals that were cut off. One whose VM somebody has the lock of is left to them, and what belongs to a new VM of that name is left to it."""
    for name in unfinished(layout):
        if name in but:
            continue
        with contextlib.suppress(DeadlineExceeded), held(layout.vm(name).lock, "finishing a removal that was cut off", 0):
            doomed = _doomed(layout, name)
            remove_below(doomed, points=points)
            if not os.path.lexists(layout.vm(name).dir):
                give_back([name])
            remove_tree(doomed, points=points)
