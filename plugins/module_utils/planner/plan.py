# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans as data. A plan is made without touching anything, read by check mode, diff and tests, and carried out by the runner alone."""

from __future__ import annotations

import dataclasses
import typing as t

from ..errors import Internal, Violation
from ..model.definition import Definition

# The only words for steps, in results (C(actions)) too. What each does is in runner/apply.py.
ACTIONS = ("define", "update", "start", "resize", "pause", "resume", "shutdown", "kill", "remove", "forget")


@dataclasses.dataclass(frozen=True)
class Step:
    """One thing to do. C(args) are JSON values: C(grace_s) of a shutdown, C(keep) of a removal."""

    action: str
    args: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise Internal(f"{self.action!r} is no action that the runner knows.")


@dataclasses.dataclass(frozen=True)
class Change:
    """One field that becomes another. C(before)/C(after) are JSON values; secrets appear as digests."""

    field: str
    before: t.Any
    after: t.Any
    disruption: str = "none"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What will be done to one VM and why.

    C(definition): what vm.json is to hold afterwards (None after a removal or when nothing is stored).
    C(state_after): the state that follows when all steps succeed. C(disruption): the most that a step does to a running VM.
    C(pending): fields of the definition that the running process does not have yet, afterwards.
    C(metadata): the secret values that this task gives, by option (C(metadata), C(cloud_init)); None for none.
    C(would_need): what the host lacks; the runner refuses to act on such a plan.
    """

    name: str
    state_before: str
    state_after: str
    steps: tuple[Step, ...] = ()
    changes: tuple[Change, ...] = ()
    definition: t.Optional[Definition] = None
    metadata: t.Any = None
    disruption: str = "none"
    pending: tuple[str, ...] = ()
    would_need: tuple[Violation, ...] = ()
    ignored: tuple[Violation, ...] = ()
    notices: tuple[str, ...] = ()
    backend_reason: str = ""

    @property
    def changed(self) -> bool:
        return bool(self.steps)

    @property
    def actions(self) -> list[str]:
        return [s.action for s in self.steps]

    def diff(self) -> dict[str, t.Any]:
        """C({before, after}): only what changes, by field path, and the state."""
        before: dict[str, t.Any] = {c.field: c.before for c in self.changes}
        after: dict[str, t.Any] = {c.field: c.after for c in self.changes}
        if self.state_before != self.state_after or any(s.action == "start" for s in self.steps):
            before["state"], after["state"] = self.state_before, self.state_after
        title = f"vm {self.name}"
        return {"before": before, "after": after, "before_header": title, "after_header": title}
