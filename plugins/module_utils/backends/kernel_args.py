# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's command line where the VMM does not complete it itself. Pure, standard library only."""

from __future__ import annotations

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
    words = line.split()
    kernels = words[: words.index("--")] if "--" in words else words
    missing = []
    if not any(word.startswith("root=") for word in kernels):
        missing.append(f"root={ROOT_DEVICE}")
    if "ro" not in kernels and "rw" not in kernels:
        missing.append("ro" if root_read_only else "rw")
    if not missing:
        return line
    if kernels is words:
        return " ".join(([line.rstrip()] if words else []) + missing)
    head, tail = _split_at_double_dash(line)
    return " ".join(([head.rstrip()] if head.strip() else []) + missing + [tail])


def _split_at_double_dash(line: str) -> tuple[str, str]:
    position = 0
    while True:
        position = line.index("--", position)
        before, after = line[:position], line[position + 2 :]
        if (not before or before[-1].isspace()) and (not after or after[0].isspace()):
            return before, line[position:]
        position += 2
