# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VMs that are not declared are to go: those that C(prune) names by label, and the members by which a group has shrunk. Pure, standard library only."""

from __future__ import annotations

import dataclasses
import typing as t

from ..errors import FailedPrecondition
from ..model.definition import Definition
from ..model.patterns import NamePattern
from ..model.pruning import PruneRule


@dataclasses.dataclass(frozen=True)
class Surplus:
    """C(pruned): names to be removed by C(prune); C(shrunk): by a group that has shrunk; C(kept): that stay because they are protected. All sorted."""

    pruned: tuple[str, ...] = ()
    shrunk: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted({*self.pruned, *self.shrunk}))


def surplus(rule: t.Optional[PruneRule], groups: t.Mapping[str, int], declared: t.Collection[str], there: t.Mapping[str, Definition]) -> Surplus:
    """C(declared): the names of all entries, whatever is asked for them: what is declared is never removed here. C(there): every VM that can be read.
    C(groups): pattern to the number wanted.

    FailedPrecondition when C(prune) would remove more than its C(max) allows."""
    undeclared = {name: definition for name, definition in there.items() if name not in declared}
    shrunk = {name for name, definition in undeclared.items() if _is_beyond(definition, groups)}
    matching = [name for name, definition in there.items() if rule is not None and rule.matches(definition.labels)]
    pruned = {name for name in matching if name in undeclared} - shrunk
    kept = {name for name in shrunk | pruned if there[name].protected}
    pruned -= kept
    _refuse_too_many(rule, sorted(pruned), len(matching))
    return Surplus(tuple(sorted(pruned)), tuple(sorted(shrunk - kept)), tuple(sorted(kept)))


def _is_beyond(definition: Definition, groups: t.Mapping[str, int]) -> bool:
    """Whether it was made in a group that is declared with fewer members now. A VM of such a name that was made otherwise is nobody's surplus."""
    if definition.group is None or definition.group not in groups:
        return False
    index = NamePattern.read(definition.group).index(definition.name)
    return index is not None and index >= groups[definition.group]


def _refuse_too_many(rule: t.Optional[PruneRule], pruned: list[str], matching: int) -> None:
    limit = rule.limit(matching) if rule is not None else None
    if rule is None or limit is None or len(pruned) <= limit:
        return
    shown = ", ".join(pruned[:5]) + (" …" if len(pruned) > 5 else "")
    raise FailedPrecondition(
        f"prune would remove {len(pruned)} of {matching} VMs with its labels ({shown}), and prune.max {rule.written()} allows {limit}. Nothing was done. "
        "Look at whether 'vms' is complete, or raise prune.max.",
        details={"prune": pruned},
    )
