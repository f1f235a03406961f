# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The requests of many VMs, each distinct one validated once: five hundred that differ in nothing but their names cost what one costs."""

from __future__ import annotations

import dataclasses
import typing as t

from ..errors import Violation
from .entries import Entry
from .entry_merge import blame
from .task import VmRequest, validate_request

Named = t.Callable[[t.Mapping[str, t.Any]], t.Mapping[str, t.Any]]
Verdict = tuple[t.Optional[VmRequest], list[Violation]]


class Requests:
    """Reads entries. C(defaults): as the user wrote them, to tell where a wrong value stands. C(beside): what more is to be said of options that are wrong.
    C(named): the options with names made into what they are on this host."""

    def __init__(self, defaults: t.Mapping[str, t.Any], beside: t.Callable[[t.Mapping[str, t.Any]], list[Violation]], named: Named = dict) -> None:
        self._defaults = defaults
        self._beside = beside
        self._named = named
        self._read: dict[tuple[str, str], Verdict] = {}

    def read(self, entry: Entry, stored: t.Optional[t.Mapping[str, t.Any]]) -> Verdict:
        """The request, or None and all that is wrong, by where the user wrote it. C(stored): as for C(validate_request)."""
        key = (entry.likeness, repr(stored))
        if key not in self._read:
            request, violations = validate_request(self._named(entry.options), stored=stored)
            if request is None:
                violations = [*violations, *self._beside(entry.options)]
            self._read[key] = (request, violations)
        request, violations = self._read[key]
        if request is None:
            return None, [self.blame(entry, violation) for violation in violations]
        return dataclasses.replace(request, name=entry.name, group=entry.group), []

    def blame(self, entry: Entry, violation: Violation) -> Violation:
        return blame(violation, entry.path, entry.written, self._defaults, entry.secrets)
