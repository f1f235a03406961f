# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON for files that people look into and that are written by the thousand. Standard library only: the no-change path imports it."""

from __future__ import annotations

import json
import typing as t

# Without indentation, which Python before 3.14 writes by code of its own: that took longer than anything else about a definition.
_ENCODE = json.JSONEncoder(ensure_ascii=False).encode
_ENCODE_SORTED = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode


def key_a_line(body: t.Mapping[str, t.Any], *, sort_keys: bool = True) -> str:
    """An object, each of its keys with its value on a line of its own; ends with a newline. Equal objects are equal texts (C(sort_keys))."""
    encode = _ENCODE_SORTED if sort_keys else _ENCODE
    lines = [f"  {_ENCODE(key)}: {encode(body[key])}" for key in (sorted(body) if sort_keys else body)]
    return "{\n" + ",\n".join(lines) + "\n}\n"
