# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes: bytes, or a number with a binary suffix. Standard library only."""

from __future__ import annotations

import re

_SIZE = re.compile(r"\s*(?P<number>[0-9]{1,20}(?:\.[0-9]{1,20})?)\s*(?P<suffix>[kmgtp]?)(?:i?b)?\s*", re.IGNORECASE)
_SHIFT = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}

MIB = 1 << 20
GIB = 1 << 30


def parse_size(value: int | str) -> int:
    """Bytes of C(536870912), C("512M"), C("512MiB"), C("1.5g"). Suffixes are binary: C(1K) is 1024. ValueError with the rule otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError("give bytes as a whole number, or a number with a suffix: 512M, 16G, 4GiB")
    if isinstance(value, int):
        if value < 0:
            raise ValueError("a size cannot be negative")
        return value
    match = _SIZE.fullmatch(value)
    if not match:
        shown = value if len(value) <= 60 else f"{value[:57]}..."
        raise ValueError(f"{shown!r} is not a size: give bytes as a whole number, or a number with a suffix: 512M, 16G, 4GiB")
    size = (
        float(match["number"]) * (1 << _SHIFT[match["suffix"].lower()]) if "." in match["number"] else int(match["number"]) << _SHIFT[match["suffix"].lower()]
    )
    if size != int(size):
        raise ValueError(f"{value!r} is not a whole number of bytes")
    return int(size)


# Sectors are the least that any VMM counts in.
SECTOR = 512


def parse_disk_size(value: int | str) -> int:
    """As C(parse_size), in whole sectors."""
    size = parse_size(value)
    if size % SECTOR:
        raise ValueError(f"is {size} bytes, which is no multiple of a sector ({SECTOR} bytes)")
    return size


def format_size(size: int) -> str:
    """The shortest exact form: C(512MiB), C(1GiB), C(1000) for what is no multiple of a KiB."""
    for suffix in "PTGMK":
        unit = 1 << _SHIFT[suffix.lower()]
        if size and size % unit == 0:
            return f"{size // unit}{suffix}iB"
    return str(size)
