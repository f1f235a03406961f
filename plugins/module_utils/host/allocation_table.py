# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(allocations.json) in memory, and how values are chosen in it: see C(allocations), which reads and writes it. Standard library only."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import typing as t

from ..errors import FailedPrecondition
from .files import read_kernel, read_text

if t.TYPE_CHECKING:
    from .layout import Layout

SCHEMA = 1

# Guests' context ids are host-wide for QEMU (vhost-vsock). 0-2 are reserved by the kernel; people choose small ones by hand.
CID_RANGE = (10000, 2**31 - 1)


@dataclasses.dataclass(frozen=True)
class Allocation:
    """The values of one VM. C(macs) and C(taps) by NIC id; C(uid) None when none was asked for."""

    uid: t.Optional[int]
    cid: int
    macs: t.Mapping[str, str]
    taps: t.Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What one VM wants chosen. C(uid_range) None: no uid. C(taken_macs): addresses that users gave by hand, avoided."""

    nic_ids: t.Sequence[str]
    uid_range: t.Optional[tuple[int, int]]
    taken_macs: t.Sequence[str] = ()


class LostError(Exception):
    """The table is not there, or not to be read; its text says which. Never leaves C(allocations)."""


@dataclasses.dataclass
class Taken:
    """What belongs to VMs, to be looked up."""

    uids: set[int]
    cids: set[int]
    macs: set[str]
    taps: set[str]


class Table:
    """allocations.json in memory. The counters make a value that was given back rest as long as the range allows: files or
    access entries that a removed VM left somewhere must not become the next VM's."""

    def __init__(self, body: dict[str, t.Any]) -> None:
        self.vms: dict[str, dict[str, t.Any]] = body.get("vms", {})
        self.next_uid: int = body.get("next_uid", 0)
        self.next_cid: int = body.get("next_cid", 0)
        self.extra = {key: value for key, value in body.items() if key not in ("schema", "vms", "next_uid", "next_cid")}
        self._taken: t.Optional[Taken] = None

    @classmethod
    def read(cls, path: str) -> Table:
        """FailedPrecondition for a newer schema."""
        try:
            body = json.loads(read_text(path))
        except FileNotFoundError as exc:
            raise LostError("was not there") from exc
        except (ValueError, RecursionError) as exc:
            raise LostError(f"was not readable JSON ({exc})") from exc
        schema = body.get("schema") if isinstance(body, dict) else None
        if not isinstance(schema, int):
            raise LostError("was not the table of what belongs to which VM")
        if schema > SCHEMA:
            raise FailedPrecondition(f"{path} was written by a newer unkey.vmcp. Run the task with that version of the collection.")
        if not _is_sound(body):
            raise LostError("was not the table of what belongs to which VM")
        return cls(body)

    def as_json(self) -> str:
        body = {**self.extra, "schema": SCHEMA, "next_uid": self.next_uid, "next_cid": self.next_cid, "vms": self.vms}
        return json.dumps(body, indent=1, sort_keys=True) + "\n"

    @property
    def taken(self) -> Taken:
        """Gathered once: what is given to many VMs in one go must not cost a look at all VMs for each."""
        if self._taken is None:
            nics = [nic for record in self.vms.values() for nic in record.get("nics", {}).values()]
            self._taken = Taken(
                uids={record["uid"] for record in self.vms.values() if record.get("uid") is not None},
                cids={record["cid"] for record in self.vms.values() if record.get("cid") is not None},
                macs={nic["mac"] for nic in nics},
                taps={nic["tap"] for nic in nics},
            )
        return self._taken

    def give(self, name: str, wanted: Wanted, layout: Layout) -> Allocation:
        record = self.vms.setdefault(name, {})
        if wanted.uid_range is not None and record.get("uid") is None:
            record["uid"] = self.free_uid(wanted.uid_range, layout)
        if record.get("cid") is None:
            record["cid"] = self.free_cid()
        record["nics"] = _nics(self.taken, name, wanted.nic_ids, record.get("nics", {}), {mac.lower() for mac in wanted.taken_macs})
        return Allocation(
            uid=record.get("uid") if wanted.uid_range is not None else None,
            cid=record["cid"],
            macs={nic: values["mac"] for nic, values in record["nics"].items()},
            taps={nic: values["tap"] for nic, values in record["nics"].items()},
        )

    def free_uid(self, uid_range: tuple[int, int], layout: Layout) -> int:
        first, last = uid_range
        taken = self.taken.uids
        uid = _first_free(first, last, self.next_uid, taken, refused=_has_passwd_entry)
        if uid is None:
            for gone in [vm for vm in self.vms if not os.path.lexists(layout.vm(vm).dir)]:
                taken.discard(self.vms[gone].pop("uid", None))
            uid = _first_free(first, last, self.next_uid, taken, refused=_has_passwd_entry)
        if uid is None:
            raise FailedPrecondition(f"All uids from {first} to {last} belong to VMs. Widen uid_range in /etc/vmcp/host.json, or remove VMs.")
        self.next_uid = uid + 1
        taken.add(uid)
        return uid

    def free_cid(self) -> int:
        cid = _first_free(*CID_RANGE, self.next_cid, self.taken.cids)
        if cid is None:  # two thousand million VMs
            raise FailedPrecondition("All vsock context ids belong to VMs. Remove VMs.")
        self.next_cid = cid + 1
        self.taken.cids.add(cid)
        return cid


def _is_sound(body: t.Mapping[str, t.Any]) -> bool:
    """Whether it can be relied upon: an edited table is told from ours here, and not by a crash."""
    vms = body.get("vms", {})
    numbers = [body.get("next_uid", 0), body.get("next_cid", 0)]
    if not isinstance(vms, dict) or not all(isinstance(record, dict) and isinstance(record.get("nics", {}), dict) for record in vms.values()):
        return False
    numbers += [record[key] for record in vms.values() for key in ("uid", "cid") if record.get(key) is not None]
    nics = [nic for record in vms.values() for nic in record.get("nics", {}).values()]
    return all(isinstance(number, int) for number in numbers) and all(
        isinstance(nic, dict) and isinstance(nic.get("mac"), str) and isinstance(nic.get("tap"), str) for nic in nics
    )


def _first_free(first: int, last: int, start: int, taken: t.Collection[int], refused: t.Callable[[int], bool] = lambda value: False) -> int | None:
    start = start if first <= start <= last else first
    for low, high in ((start, last), (first, start - 1)):
        for value in range(low, high + 1):
            if value not in taken and not refused(value):
                return value
    return None


def _has_passwd_entry(uid: int) -> bool:
    import grp
    import pwd

    for look_up in (pwd.getpwuid, grp.getgrgid):
        with contextlib.suppress(KeyError):
            look_up(uid)
            return True
    return False


def _nics(taken: Taken, name: str, nic_ids: t.Sequence[str], recorded: t.Mapping[str, t.Any], by_hand: set[str]) -> dict[str, dict[str, str]]:
    for nic in recorded.values():
        taken.macs.discard(nic["mac"])
        taken.taps.discard(nic["tap"])
    chosen: dict[str, dict[str, str]] = {}
    for nic_id in nic_ids:
        values = recorded.get(nic_id) or {
            "mac": _derived(_mac, name, nic_id, taken.macs, by_hand),
            "tap": _derived(_tap, name, nic_id, taken.taps),
        }
        taken.macs.add(values["mac"])
        taken.taps.add(values["tap"])
        chosen[nic_id] = dict(values)
    return chosen


def tap_for(name: str, nic_id: str, taken: t.Collection[str]) -> str:
    """A name for a tap that nobody has."""
    return _derived(_tap, name, nic_id, taken)


def _derived(derive: t.Callable[[str, str, int], str], name: str, nic_id: str, *taken: t.Collection[str]) -> str:
    salt = 0
    while any((value := derive(name, nic_id, salt)) in values for values in taken):
        salt += 1
    return value


def _mac(name: str, nic_id: str, salt: int) -> str:
    """Stable: the same host, VM and NIC give the same address again after a removal. The machine id keeps hosts on one network apart."""
    octets = bytearray(hashlib.sha256(f"mac\0{machine_id()}\0{name}\0{nic_id}\0{salt}".encode()).digest()[:6])
    octets[0] = (octets[0] & 0xFC) | 0x02  # unicast, locally administered
    return ":".join(f"{octet:02x}" for octet in octets)


def _tap(name: str, nic_id: str, salt: int) -> str:
    """14 of the 15 characters that the kernel allows."""
    return "vm" + hashlib.sha256(f"tap\0{name}\0{nic_id}\0{salt}".encode()).hexdigest()[:12]


def machine_id() -> str:
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        with contextlib.suppress(OSError):
            return read_kernel(path).strip()
    return os.uname().nodename
