# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Name patterns of groups of identical VMs: C(fn-{index:04d}). Standard library only, pure."""

from __future__ import annotations

import dataclasses
import re
import typing as t

# Python's own integer formats, as far as what they make can stand in a name: as short as can be, or filled with zeros.
_FORM = re.compile(r"(?:0(?P<width>[1-9][0-9]?))?d?")
_PLACE = re.compile(r"\{index(?::(?P<form>[^{}]*))?\}")
RULE = "a name with one {index} in it, which may have a format: fn-{index}, fn-{index:04d}"


@dataclasses.dataclass(frozen=True)
class NamePattern:
    """C(text) is how the user wrote it, and by which the group is recorded. Indexes count from 0."""

    text: str
    before: str
    after: str
    width: int

    @classmethod
    def read(cls, text: str) -> NamePattern:
        """ValueError with a sentence for what is none."""
        places = list(_PLACE.finditer(text))
        form = _FORM.fullmatch(places[0]["form"] or "") if len(places) == 1 else None
        if form is None:
            raise ValueError(f"must be {RULE}")
        before, after = text[: places[0].start()], text[places[0].end() :]
        if "{" in before + after or "}" in before + after:
            raise ValueError(f"must be {RULE}")
        return cls(text, before, after, int(form["width"] or 0))

    def name(self, index: int) -> str:
        return f"{self.before}{index:0{self.width}d}{self.after}"

    def index(self, name: str) -> t.Optional[int]:
        """The index of a name of this pattern; None for any other name."""
        digits = name[len(self.before) : len(name) - len(self.after)]
        if not digits.isascii() or not digits.isdigit():
            return None
        return int(digits) if self.name(int(digits)) == name else None


def is_pattern(text: str) -> bool:
    """Whether it is meant as one; whether it is right, C(NamePattern.read) says."""
    return "{" in text or "}" in text
