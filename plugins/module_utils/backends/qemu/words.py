# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's words: option strings that no value can break out of, ids, names of its states. Standard library only."""

from __future__ import annotations

import json
import re
import typing as t

IMAGE_FORMATS = {"raw": "raw", "qcow2": "qcow2", "vhd": "vpc", "vhdx": "vhdx"}
AIO = {"sync": "threads", "aio": "native", "io_uring": "io_uring"}

# Run states of query-status by what they mean here. A VM that stands still for a reason of its own (an I/O error, a panic) is paused.
RUN_STATES = {"prelaunch": "created", "shutdown": "created", "running": "running"}
STANDING_RUN_STATES = ("paused", "suspended", "inmigrate", "postmigrate", "finish-migrate", "save-vm", "restore-vm") + (
    "guest-panicked",
    "io-error",
    "internal-error",
    "watchdog",
    "debug",
    "colo",
)

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def is_key(key: str) -> bool:
    """Whether C(key) can stand before the C(=) of an option without becoming anything else."""
    return _KEY.fullmatch(key) is not None


def option(head: str, **properties: t.Any) -> str:
    """C(head,key=value,…) as QEMU's option parser reads it: a comma in a value is doubled, True and False are C(on) and C(off), None is left out.

    Keys are ours, with C(__) for a dot and C(_) for a dash; keys of users go through C(properties_of)."""
    return properties_of(head, {key.replace("__", ".").replace("_", "-"): value for key, value in properties.items()})


def properties_of(head: str, properties: t.Mapping[str, t.Any]) -> str:
    """As C(option), with the keys as they are. Every key must be C(is_key)."""
    words = [head.replace(",", ",,")]
    words += [f"{key}={_value(value)}" for key, value in properties.items() if value is not None]
    return ",".join(words)


def _value(value: t.Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value).replace(",", ",,")


def document(properties: t.Mapping[str, t.Any]) -> str:
    """The JSON form that C(-device) (from 6.2) and C(-object) (from 6.0) take: nothing in a value needs quoting. None is left out."""
    return json.dumps({key: value for key, value in properties.items() if value is not None}, separators=(",", ":"))


def wire_id(kind: str, our_id: str) -> str:
    """C(disk_data-1) of C(disk) and C(data-1). Users' ids are made of what QEMU allows behind a letter, so this is reversible as it is."""
    return f"{kind}_{our_id}"


def our_id(wire: str) -> tuple[str, str]:
    """Kind and id; the kind is C("") for a device that is not of our making."""
    match = re.fullmatch(r"(disk|net|zone)_(.+)", wire)
    return (match[1], match[2]) if match else ("", wire)
