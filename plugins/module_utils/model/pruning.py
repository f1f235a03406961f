# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option C(prune) of C(vmcp_vms). Standard library only, pure."""

from __future__ import annotations

import collections.abc
import dataclasses
import re
import typing as t

from ..errors import Violation

_KEYS = ("labels", "max", "allow_empty")


@dataclasses.dataclass(frozen=True)
class PruneRule:
    """VMs with all of C(labels) that are not declared are to go. C(most): a number, or with C(percent) a share of those that have the labels; None: as many as
    there are."""

    labels: t.Mapping[str, str]
    most: t.Optional[int] = None
    percent: bool = False

    def matches(self, labels: t.Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in self.labels.items())

    def limit(self, there: int) -> t.Optional[int]:
        """How many may go of C(there) that have the labels. A share is rounded down: more than that is never removed."""
        if self.most is None:
            return None
        return there * self.most // 100 if self.percent else self.most

    def written(self) -> str:
        return f"{self.most}{'%' if self.percent else ''}"


def read_prune(value: t.Any, *, declares_nothing: bool) -> tuple[t.Optional[PruneRule], list[Violation]]:
    """C(declares_nothing): there is no entry, which with C(prune) would remove all that have the labels."""
    if value is None:
        return None, []
    if not isinstance(value, collections.abc.Mapping):
        return None, [Violation("prune", "must be a dictionary: {labels, max, allow_empty}.")]
    violations = [Violation(f"prune.{key}", f"is no key here. Known are: {', '.join(_KEYS)}.") for key in value if key not in _KEYS]
    allow_empty = _flag(value.get("allow_empty"), violations)
    labels = _labels(value.get("labels"), violations)
    if not labels and not allow_empty and not any(v.field.startswith("prune.labels") for v in violations):
        violations.append(
            Violation("prune.labels", "is empty, so every VM of the host that is not declared would be removed. Name labels, or set prune.allow_empty: true.")
        )
    if declares_nothing and not allow_empty:
        violations.append(
            Violation("vms", "is empty, so prune would remove every VM with these labels. If that is what you want, set prune.allow_empty: true.")
        )
    most, percent = _most(value.get("max"), violations)
    return (None, violations) if violations else (PruneRule(labels, most, percent), [])


def _flag(value: t.Any, violations: list[Violation]) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and value.lower() in ("true", "yes", "false", "no"):
        return value.lower() in ("true", "yes")
    violations.append(Violation("prune.allow_empty", "must be true or false."))
    return False


def _labels(value: t.Any, violations: list[Violation]) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, collections.abc.Mapping):
        violations.append(Violation("prune.labels", "must be a dictionary of text to text."))
        return {}
    labels = {}
    for key, item in value.items():
        if not isinstance(item, (str, int, float)):
            # Also a null: a template that came to nothing must not widen what is removed.
            violations.append(Violation(f"prune.labels.{key}", "must be text."))
            continue
        labels[str(key)] = str(item).lower() if isinstance(item, bool) else str(item)
    return labels


def _most(value: t.Any, violations: list[Violation]) -> tuple[t.Optional[int], bool]:
    if value is None:
        return None, False
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    found = re.fullmatch(r"([0-9]{1,9})(%?)", text.replace(" ", "")) if isinstance(text, str) else None
    if found is None or (found[2] and int(found[1]) > 100):
        violations.append(Violation("prune.max", "must be a number of VMs, or a share of those with the labels as in 10%."))
        return None, False
    return int(found[1]), bool(found[2])
