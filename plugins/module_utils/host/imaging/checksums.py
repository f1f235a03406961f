# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists of SHA-256 or SHA-512 checksums, as sha256sum and BSD's tools write them. Standard library only, pure."""

from __future__ import annotations

import posixpath
import re

from ...errors import FailedPrecondition, NotFound

_GNU = re.compile(r"(?P<escaped>\\?)(?P<hex>[0-9A-Fa-f]{128}|[0-9A-Fa-f]{64})(?:[ \t]+[ *]?(?P<name>\S.*?))?\s*")
_BSD = re.compile(r"SHA(?:256|512) ?\((?P<name>.+)\) ?= ?(?P<hex>[0-9A-Fa-f]{128}|[0-9A-Fa-f]{64})\s*")


def look_up(text: str, name: str, where: str) -> str:
    """C(sha256:HEX), or C(sha512:HEX), of the file C(name) (no directory) in the list C(text). A list of one checksum without a
    name is that of the file beside it.

    NotFound when it is not listed, FailedPrecondition when it is listed twice with different checksums. C(where): the list's URL, for messages."""
    entries = [match for line in text.splitlines() if (match := _BSD.fullmatch(line) or _GNU.fullmatch(line)) is not None]
    exact = {_hex(match["hex"]) for match in entries if match["name"] and _name(match) == name}
    found = exact or {_hex(match["hex"]) for match in entries if match["name"] and posixpath.basename(_name(match)) == name}
    if not found and len(entries) == 1 and not entries[0]["name"]:
        found = {_hex(entries[0]["hex"])}
    if not found:
        listed = sorted({posixpath.basename(_name(match)) for match in entries if match["name"]})
        some = f" It lists {', '.join(listed[:8])}{'…' if len(listed) > 8 else ''}." if listed else " It lists no SHA-256 or SHA-512 checksum."
        raise NotFound(f"{where} has no checksum of {name!r}.{some} Give checksum: sha256:… itself, or the right list.")
    if len(found) > 1:
        raise FailedPrecondition(f"{where} lists {name!r} with different checksums. Give checksum: sha256:… itself.")
    return found.pop()


def _name(match: re.Match[str]) -> str:
    name = match["name"]
    if match.groupdict().get("escaped"):
        # sha256sum begins a line with a backslash where it had to write \n and \\ in the name.
        name = name.replace("\\n", "\n").replace("\\\\", "\\")
    return name.removeprefix("./")


def _hex(value: str) -> str:
    return f"{'sha256' if len(value) == 64 else 'sha512'}:{value.lower()}"
