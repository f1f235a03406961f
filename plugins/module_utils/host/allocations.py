# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is chosen for a VM once and must be unique on the host: uid, vsock cid, tap names, MAC addresses. Standard library only.

One file (C(Layout.allocations)), changed under the host lock and written before anything uses the values. Nothing here looks at the VMs
themselves, except when a range is used up (then records of VMs that are gone are taken back), and when the file is lost or torn (then it is made
anew from what the VMs have).
"""

from __future__ import annotations

import os
import typing as t

from .allocation_table import Allocation, LostError, Table, Wanted, tap_for
from .files import os_errors, write_atomic
from .locks import held
from .rebuilding import records_of_vms
from .trees import ensure_dir

if t.TYPE_CHECKING:
    from .layout import Layout

Tell = t.Callable[[str], object]


def _nobody(_text: str) -> None:
    """Nobody listens."""


def allocate(
    layout: Layout,
    name: str,
    nic_ids: t.Sequence[str],
    *,
    uid_range: tuple[int, int] | None,
    lock_timeout_s: float,
    taken_macs: t.Collection[str] = (),
    tell: Tell = _nobody,
) -> Allocation:
    """As C(allocate_all), for one VM."""
    return allocate_all(layout, {name: Wanted(nic_ids, uid_range, tuple(taken_macs))}, lock_timeout_s=lock_timeout_s, tell=tell)[name]


def allocate_all(layout: Layout, wanted: t.Mapping[str, Wanted], *, lock_timeout_s: float, tell: Tell = _nobody) -> dict[str, Allocation]:
    """Values for each VM: those recorded before, new ones for what is new, in one write. NICs that are no longer wanted are given back.

    C(tell) hears of a table that had to be made anew.
    DeadlineExceeded when the host lock is not to be had, FailedPrecondition when the uid range is used up."""
    ensure_dir(layout.state_dir, 0o711)
    with held(layout.host_lock, f"allocating for {_who(wanted)}", lock_timeout_s):
        table, before = _opened(layout, tell)
        given = {name: table.give(name, one, layout) for name, one in wanted.items()}
        if table.as_json() != before:
            write_atomic(layout.allocations, table.as_json())
    return given


def _who(names: t.Collection[str]) -> str:
    first = next(iter(names), "none")
    return f"VM {first}" if len(names) == 1 else f"{len(names)} VMs ({first} …)"


def release(layout: Layout, name: str, *, lock_timeout_s: float, tell: Tell = _nobody) -> bool:
    """As C(release_all), for one VM. False when nothing was recorded for it."""
    return bool(release_all(layout, [name], lock_timeout_s=lock_timeout_s, tell=tell))


def release_all(layout: Layout, names: t.Sequence[str], *, lock_timeout_s: float, tell: Tell = _nobody) -> list[str]:
    """Gives back all that is recorded for these VMs, in one write. Those for which something was. The uid stays a VM's as long as its C(data) is there:
    another VM that was given it could read what is kept. A VM of that name goes on with it; a removal that keeps nothing gives it back."""
    if not os.path.exists(layout.allocations):
        return []
    with held(layout.host_lock, f"releasing what {_who(names)} had", lock_timeout_s):
        table, before = _opened(layout, tell)
        had = []
        for name in names:
            record = table.vms.pop(name, None)
            if record is None:
                continue
            had.append(name)
            if record.get("uid") is not None and os.path.lexists(layout.vm(name).data):
                table.vms[name] = {"uid": record["uid"]}
        if table.as_json() != before:
            write_atomic(layout.allocations, table.as_json())
    return had


def predict(layout: Layout, name: str, nic_ids: t.Sequence[str], *, uid_range: tuple[int, int] | None, taken_macs: t.Collection[str] = ()) -> Allocation:
    """As C(predict_all), for one VM."""
    return predict_all(layout, {name: Wanted(nic_ids, uid_range, tuple(taken_macs))})[name]


def predict_all(layout: Layout, wanted: t.Mapping[str, Wanted]) -> dict[str, Allocation]:
    """What C(allocate_all) would give now; writes and locks nothing (check mode)."""
    table = _known(layout)
    return {name: table.give(name, one, layout) for name, one in wanted.items()}


def uids_free(layout: Layout, uid_range: tuple[int, int]) -> int:
    """How many uids of the range belong to no VM."""
    first, last = uid_range
    return last - first + 1 - sum(1 for uid in _known(layout).taken.uids if first <= uid <= last)


def taps_given(layout: Layout) -> set[str]:
    """The names of all taps that belong to VMs."""
    return set(_known(layout).taken.taps)


def _opened(layout: Layout, tell: Tell) -> tuple[Table, str]:
    """The table, for whoever holds the host lock, and what stands in the file ("" when it is to be written anew in any case)."""
    try:
        table = Table.read(layout.allocations)
        return table, table.as_json()
    except LostError as exc:
        reason = str(exc)
    table, unread = _rebuilt(layout)
    kept = ""
    if os.path.lexists(layout.allocations):
        with os_errors(f"keep {layout.allocations} aside"):
            os.rename(layout.allocations, f"{layout.allocations}.torn")
        kept = f" What stood there is kept in {layout.allocations}.torn."
    if kept or table.vms:
        less = f" The definition of {', '.join(unread)} cannot be read, so of that only the uid is known: restore or remove it." if unread else ""
        tell(f"{layout.allocations} {reason}. It was made anew from what {len(table.vms)} VMs have.{kept}{less}")
    return table, ""


def _known(layout: Layout) -> Table:
    """The table, for whoever only looks."""
    try:
        return Table.read(layout.allocations)
    except LostError:
        return _rebuilt(layout)[0]


def _rebuilt(layout: Layout) -> tuple[Table, list[str]]:
    """From the VMs' own files. The counters begin behind what is given, so that what was given back not long ago rests as far as can be known."""
    table = Table({})
    table.vms, unread = records_of_vms(layout)
    taps = {nic["tap"] for record in table.vms.values() for nic in record.get("nics", {}).values() if "tap" in nic}
    for name, record in table.vms.items():
        for nic_id, nic in record.get("nics", {}).items():
            # One that is on no bridge has a tap of the user's, and a name of its own all the same.
            taps.add(nic.setdefault("tap", tap_for(name, nic_id, taps)))
    table.next_uid = 1 + max((record["uid"] for record in table.vms.values() if "uid" in record), default=-1)
    table.next_cid = 1 + max((record["cid"] for record in table.vms.values() if "cid" in record), default=-1)
    return table, unread
