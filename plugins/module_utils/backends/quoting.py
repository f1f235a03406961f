# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VMM's own words in messages of ours. Standard library only."""

from __future__ import annotations

# A VMM's complaint is a sentence or two; one that is broken or hostile may say megabytes.
_MOST = 500


def quoted(words: object) -> str:
    """On one line, printable, and bounded: a message must act on no terminal and fill no log."""
    text = str(words)[: 4 * _MOST]
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _MOST else f"{line[:_MOST]}…"
