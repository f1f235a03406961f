# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(vmcp_fleet): reads and writes what a host knows of its fleet. A record is replaced only by who has read it. Standard library only."""

from __future__ import annotations

import collections.abc
import contextlib
import re
import typing as t

from ..call import Call, Outcome
from ..errors import FailedPrecondition, InvalidArgument, Violation
from ..host.fleet_files import Drain, FleetFiles, Record
from ..host.layout import Layout
from ..host.locks import held
from ..model.words import NAME_PATTERN, NAME_RULE

_WITH_CLAIMS = ("generation", "run_id", "expected_generation")


def run_fleet(call: Call) -> Outcome:
    options = call.options
    _validate(options)
    files = FleetFiles(Layout.resolve(options.get("state_dir"), options.get("run_dir"), call.environ, call.uid))
    writes = options["state"] == "absent" or "claims" in options or "drained" in options
    # Check mode reads without locks, and so does who only reads.
    locked = held(files.lock, "vmcp_fleet", float(options["lock_timeout"])) if writes and call.act else contextlib.nullcontext()
    with locked:
        fleet = str(options["fleet"])
        before, drain_before = files.record(fleet), files.drain()
        after = _record(options, before)
        drain = _drain(options, drain_before)
        changed_record, changed_drain = not after.says_the_same(before), drain != drain_before
        if call.act and changed_record:
            if after.generation:
                after = files.write_record(fleet, after)
            else:
                files.remove_record(fleet)
        if call.act and changed_drain:
            drain = files.write_drain(drain)
    result = {"changed": changed_record or changed_drain, "record": after.as_dict(), "drained": drain is not None, "drain": drain.as_dict() if drain else None}
    return Outcome(result, {"before": _shown(before, drain_before), "after": _shown(after, drain)})


def _validate(options: t.Mapping[str, t.Any]) -> None:
    found: list[Violation] = []
    if not re.fullmatch(NAME_PATTERN, str(options["fleet"])):
        found.append(Violation("fleet", f"must be {NAME_RULE}."))
    if "claims" in options:
        found += [Violation(key, "is required with claims.") for key in _WITH_CLAIMS if key not in options]
        if options["state"] == "absent":
            found.append(Violation("claims", "contradicts state: absent. Give one of them."))
        if options.get("generation", 1) <= options.get("expected_generation", 0):
            found.append(Violation("generation", "must be above expected_generation."))
    else:
        found += [Violation(key, "has no meaning without claims.") for key in _WITH_CLAIMS if key in options]
    for name in ("claims", "moved"):
        if any(isinstance(value, (collections.abc.Mapping, list)) for value in (options.get(name) or {}).values()):
            found.append(Violation(name, "must be a dictionary of a VM's name to a host's name."))
    if not options.get("drained"):
        found += [Violation(key, "has no meaning without drained: true.") for key in ("drain_reason", "moved") if key in options]
    if found:
        raise InvalidArgument.of(found)


def _record(options: t.Mapping[str, t.Any], before: Record) -> Record:
    if options["state"] == "absent":
        return Record()
    if "claims" not in options:
        return before
    wanted = Record(
        int(options["generation"]), str(options["run_id"]), bool(options["complete"]), {str(vm): str(host) for vm, host in options["claims"].items()}
    )
    if wanted.says_the_same(before):
        return before
    if (before.generation, before.run_id) != (int(options["expected_generation"]), str(options.get("expected_run_id", ""))):
        raise FailedPrecondition(
            f"The claims of the fleet {options['fleet']} were written by another run meanwhile (generation {before.generation}, {before.run_id or 'none'}, "
            f"{before.written_at or 'removed'}). Nothing was claimed here. Run the playbook again when that run has ended.",
            details={"record": before.as_dict()},
        )
    return wanted


def _drain(options: t.Mapping[str, t.Any], before: t.Optional[Drain]) -> t.Optional[Drain]:
    wanted = options.get("drained")
    if wanted is None:
        return before
    if not wanted:
        return None
    old = before or Drain()
    moved = {str(vm): str(host) for vm, host in options["moved"].items()} if "moved" in options else old.moved
    return Drain(str(options.get("drain_reason", old.reason)), moved, old.since)


def _shown(record: Record, drain: t.Optional[Drain]) -> str:
    lines = [f"generation: {record.generation}", *(f"claim: {vm} {host}" for vm, host in sorted(record.claims.items()))]
    if drain:
        lines += ["drained: true", *(f"moved: {vm} {host}" for vm, host in sorted(drain.moved.items()))]
    return "\n".join(lines) + "\n"
