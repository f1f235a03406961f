# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host knows of its fleet: which VM was given to which host, and whether it is drained itself. Standard library only.

C(fleets/NAME.json) in the state directory is the record of claims, C(drained.json) the mark. Both are replaced whole, under one lock."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import typing as t

from ..errors import FailedPrecondition
from ..model.words import COLLECTION_VERSION
from .files import read_json, remove, write_atomic
from .layout import Layout
from .locks import held
from .trees import ensure_dir

SCHEMA = 1


@dataclasses.dataclass(frozen=True)
class Record:
    """C(generation): 0 for a record that was never written, else one more than all that its writer had read. C(run_id): who wrote it. C(claims): VM to host;
    C(complete): of the whole fleet, else of this host alone."""

    generation: int = 0
    run_id: str = ""
    complete: bool = True
    claims: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    written_at: t.Optional[str] = None

    def as_dict(self) -> dict[str, t.Any]:
        return {**dataclasses.asdict(self), "claims": dict(self.claims)}

    def says_the_same(self, other: Record) -> bool:
        return dataclasses.replace(self, written_at=None) == dataclasses.replace(other, written_at=None)


@dataclasses.dataclass(frozen=True)
class Drain:
    """C(moved): VM to the host that it went to, for it to come back from there."""

    reason: str = ""
    moved: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    since: t.Optional[str] = None

    def as_dict(self) -> dict[str, t.Any]:
        return {**dataclasses.asdict(self), "moved": dict(self.moved)}


class FleetFiles:
    """The files below one state directory."""

    def __init__(self, layout: Layout) -> None:
        self._state_dir = layout.state_dir
        # A leading dot: no VM can have this name.
        self.lock = f"{layout.lock_dir}/.fleet"

    def _record_path(self, fleet: str) -> str:
        return f"{self._state_dir}/fleets/{fleet}.json"

    @property
    def _drain_path(self) -> str:
        return f"{self._state_dir}/drained.json"

    def record(self, fleet: str) -> Record:
        body = _read(self._record_path(fleet))
        if body is None:
            return Record()
        return Record(
            int(body["generation"]), str(body["run_id"]), bool(body["complete"]), {str(k): str(v) for k, v in body["claims"].items()}, body.get("written_at")
        )

    def drain(self) -> t.Optional[Drain]:
        body = _read(self._drain_path)
        return None if body is None else Drain(str(body["reason"]), {str(k): str(v) for k, v in body["moved"].items()}, body.get("since"))

    def write_record(self, fleet: str, record: Record) -> Record:
        written = dataclasses.replace(record, written_at=_now())
        self._write(self._record_path(fleet), written.as_dict())
        return written

    def write_drain(self, drain: t.Optional[Drain]) -> t.Optional[Drain]:
        if drain is None:
            remove(self._drain_path)
            return None
        written = dataclasses.replace(drain, since=drain.since or _now())
        self._write(self._drain_path, written.as_dict())
        return written

    @contextlib.contextmanager
    def still(self, claim: t.Optional[t.Mapping[str, str]], timeout_s: float) -> t.Iterator[None]:
        """Keeps the record as it is while something is done that rests on it. C(claim): C(fleet) and the C(run_id) of who must have written it; None
        rests on nothing. FailedPrecondition when somebody else has written since."""
        if claim is None:
            yield
            return
        with held(self.lock, f"a start by the claims of the fleet {claim['fleet']}", timeout_s):
            record = self.record(claim["fleet"])
            if record.run_id != claim["run_id"]:
                raise FailedPrecondition(
                    f"The claims of the fleet {claim['fleet']} were written by another run meanwhile (generation {record.generation}, "
                    f"{record.run_id or 'none'}, {record.written_at or 'removed'}). Nothing was started here. Run the playbook again when that run has ended.",
                    details={"record": record.as_dict()},
                )
            yield

    def remove_record(self, fleet: str) -> None:
        remove(self._record_path(fleet))

    def _write(self, path: str, body: t.Mapping[str, t.Any]) -> None:
        ensure_dir(self._state_dir, 0o711)
        if os.path.dirname(path) != self._state_dir:
            ensure_dir(os.path.dirname(path), 0o700)
        write_atomic(path, json.dumps({"schema": SCHEMA, **body}, indent=1, sort_keys=True) + "\n")


def _read(path: str) -> t.Optional[dict[str, t.Any]]:
    try:
        body = read_json(path)
    except FileNotFoundError:
        return None
    schema = body.get("schema") if isinstance(body, dict) else None
    if not isinstance(schema, int) or schema > SCHEMA:
        raise FailedPrecondition(
            f"{path} has schema {schema}; this is unkey.vmcp {COLLECTION_VERSION}, which reads up to schema {SCHEMA}. "
            "Run the task with the version that wrote it."
        )
    return t.cast("dict[str, t.Any]", body)


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
