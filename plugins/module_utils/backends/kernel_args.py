# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's command line where the VMM does not complete it itself. Pure, standard library only."""

from __future__ import annotations

import re
import typing as t

DEFAULT = "console=ttyS0 panic=1"
# The root disk is attached first, and virtio disks are named in the order in which they are attached.
ROOT_DEVICE = "/dev/vda"


def complete(args: t.Optional[str], root_read_only: t.Optional[bool]) -> str:
    """What the user wrote, verbatim, and a C(root=) and C(ro) or C(rw) behind it where they are missing and there is a root disk.

    C(root_read_only): None without a root disk. A C(--) ends the kernel's own words (the rest is for init), so ours go before it."""
    line = DEFAULT if args is None else args
    if root_read_only is None:
        return line
    ours, _rest = _split(line)
    words = ours.split()
    missing = [] if any(word.startswith("root=") for word in words) else [f"root={ROOT_DEVICE}"]
    if not {"ro", "rw"} & set(words):
        missing.append("ro" if root_read_only else "rw")
    return with_words(line, missing)


def with_words(line: str, words: t.Sequence[str]) -> str:
    """The line with more of the kernel's own words behind those that it has; verbatim without any."""
    ours, rest = _split(line)
    return " ".join([ours.rstrip(), *words, *rest]).lstrip() if words else line


def _split(line: str) -> tuple[str, list[str]]:
    match = re.search(r"(?<!\S)--(?!\S)", line)
    return (line[: match.start()], [line[match.start() :]]) if match else (line, [])


def shortest(line: str, root_read_only: t.Optional[bool]) -> str:
    """The shortest text that C(complete) makes into C(line): whether a user wrote what we would add cannot be told from the line."""
    if root_read_only is None:
        return line
    ends = [f" root={ROOT_DEVICE} ro", f" root={ROOT_DEVICE} rw", f" root={ROOT_DEVICE}", " ro", " rw"]
    candidates = [f" {line}".replace(end, "", 1)[1:] for end in ends if end in f" {line}"]
    fitting = [candidate for candidate in candidates if complete(candidate, root_read_only) == line]
    return min(fitting, key=len, default=line)
