# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a kernel has built in, as modules, or not at all, by its configuration. Standard library only."""

from __future__ import annotations

import os
import re
import typing as t
import zlib

from ...model.kernel_needs import NEEDS
from ..files import os_errors
from .work import CHUNK_BYTES

_BEGIN, _END = b"IKCFG_ST", b"IKCFG_ED"
_CONFIG_MAX_BYTES = 4 << 20
_LINE = re.compile(r"(?m)^CONFIG_([A-Z0-9_]+)=(.*)$")
_WORDS = {"y": "built_in", "m": "module"}


def embedded(path: str) -> str:
    """The configuration in an uncompressed kernel (CONFIG_IKCONFIG); empty when it carries none."""
    tail = b""
    with os_errors(f"read {path}"), open(path, "rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            body = tail + chunk
            begin = body.find(_BEGIN + b"\x1f\x8b")
            if begin >= 0:
                body = body[begin + len(_BEGIN) :] + stream.read(_CONFIG_MAX_BYTES)
                return _inflate(body.split(_END)[0])
            tail = body[-len(_BEGIN) - 2 :]
    return ""


def _inflate(body: bytes) -> str:
    try:
        return zlib.decompressobj(wbits=31).decompress(body, _CONFIG_MAX_BYTES).decode("utf-8", "replace")
    except zlib.error:
        # Bytes of a program that search for the mark look like it.
        return ""


def read(path: str) -> str:
    """A configuration in a file; empty when it is none."""
    with os_errors(f"read {path}"), open(path, encoding="utf-8", errors="replace") as stream:
        text = stream.read(_CONFIG_MAX_BYTES)
    return text if _LINE.search(text) else ""


def needs(text: str) -> dict[str, str]:
    """For each thing that a microVM needs (C(NEEDS)): C(built_in), C(module) (it has to come from an initrd), or C(missing)."""
    options = dict(_LINE.findall(text))
    return {name: _state([options.get(option, "") for option in wanted]) for name, wanted in NEEDS.items()}


def _state(values: t.Sequence[str]) -> str:
    """Of something that takes several options: as good as the worst of them."""
    states = [_WORDS.get(value, "missing") for value in values]
    return next((state for state in ("missing", "module") if state in states), "built_in")


def beside(path: str, version: str) -> str:
    """The configuration that distributions lay beside a kernel (C(/boot/config-VERSION)), empty when there is none."""
    directory, base = os.path.split(path)
    for name in dict.fromkeys((f"config-{version}", re.sub(r"^(vmlinu[xz]|bzImage|Image)", "config", base), f"{base}.config", "config")):
        candidate = f"{directory}/{name}"
        if name != base and os.path.isfile(candidate) and os.path.getsize(candidate) <= _CONFIG_MAX_BYTES:
            text = read(candidate)
            if text:
                return text
    return ""
