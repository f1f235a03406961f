# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the records of several hosts say together about who has which VM. Pure."""

from __future__ import annotations

import dataclasses
import typing as t

Record = t.Mapping[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Claims:
    """C(claims): VM to host. C(complete): no record that a run went by can have been missed. C(generation): the highest seen. C(needed): how many of
    C(keepers) have to be asked; C(asked): how many were."""

    claims: dict[str, str]
    complete: bool
    generation: int
    keepers: list[str]
    asked: int
    needed: int


def read_claims(records: t.Mapping[str, t.Optional[Record]], keepers: t.Collection[str], fenced: t.Collection[str]) -> Claims:
    """C(records): by host, as vmcp_fleet returns them, None for a host that cannot be reached. C(keepers): the hosts that keep the whole of it.

    A run starts nothing before more than half of the keepers have its record. So who reads more than half sees it at one of them at least, under the
    highest generation. Two runs at once can have written the same generation; only one of them to more than half, and the other has started nothing.
    Where they differ, the one that more keepers have is believed, and before that a host out of sight: nothing is lost by waiting for it."""
    counted = sorted(name for name in keepers if name not in fenced)
    asked = [name for name in counted if records.get(name) is not None]
    needed = len(counted) // 2 + 1
    seen = [record for _name, record in sorted(records.items()) if record is not None]
    generation = max((int(record["generation"]) for record in seen), default=0)
    whole = [record for record in seen if record["complete"]]
    last = max((int(record["generation"]) for record in whole), default=0)
    newest = {str(record["run_id"]): record for record in whole if int(record["generation"]) == last}
    votes = [str(record["run_id"]) for name in asked if (record := records[name]) is not None and int(record["generation"]) == last]
    lost = {name for name, record in records.items() if record is None and name not in fenced}
    claims: dict[str, str] = {}
    for run_id in sorted(newest, key=lambda run_id: (votes.count(run_id), run_id)):
        for vm, host in newest[run_id]["claims"].items():
            if claims.get(vm) not in lost:
                claims[vm] = host
    return Claims(claims, len(asked) >= needed, generation, counted, len(asked), needed)
