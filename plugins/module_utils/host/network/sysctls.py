# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the host's kernel that networks need: remembered as they were, and restored when no network needs them any more. Standard library only."""

from __future__ import annotations

import json
import typing as t

from ...errors import Internal
from ..files import os_errors, read_kernel, read_text, remove, write_atomic, write_plain
from ..trees import ensure_dir

if t.TYPE_CHECKING:
    from .store import NetworkStore

_ROOT = "/proc/sys/net"


def current(names: t.Iterable[str]) -> dict[str, str]:
    """By the path below /proc/sys/net; what the kernel does not have is left out."""
    found = {}
    for name in names:
        try:
            found[name] = read_kernel(f"{_ROOT}/{name}").strip()
        except FileNotFoundError:
            continue
    return found


def recorded(store: NetworkStore) -> dict[str, str]:
    """What they were before a network changed them."""
    try:
        body = json.loads(read_text(store.sysctls, trusted=True))
    except FileNotFoundError:
        return {}
    except ValueError as exc:
        raise Internal(f"{store.sysctls} is not readable JSON ({exc}). Remove it: then ip_forward stays on when the last network is removed.") from exc
    return {str(key): str(value) for key, value in body.get("before", {}).items()}


def ensure(store: NetworkStore, wanted: t.Mapping[str, str]) -> None:
    """Remembers, then sets."""
    now = current(wanted)
    changing = {name: value for name, value in wanted.items() if name in now and now[name] != value}
    if not changing:
        return
    before = recorded(store)
    after = {**before, **{name: now[name] for name in changing if name not in before}}
    if after != before:
        ensure_dir(store.dir, 0o711)
        write_atomic(store.sysctls, json.dumps({"schema_version": 1, "before": after}) + "\n")
    for name, value in changing.items():
        _write(name, value)


def restore(store: NetworkStore, still_needed: t.Collection[str]) -> list[str]:
    """Sets back what no network needs. Those that were."""
    before = recorded(store)
    now = current(before)
    restored = [name for name in before if name not in still_needed]
    # The last that was set is the first that is set back.
    for name in reversed(restored):
        if name in now and now[name] != before[name]:
            _write(name, before[name])
    kept = {name: value for name, value in before.items() if name in still_needed}
    if kept != before:
        if kept:
            write_atomic(store.sysctls, json.dumps({"schema_version": 1, "before": kept}) + "\n")
        else:
            remove(store.sysctls)
    return restored


def set_own(wanted: t.Mapping[str, str]) -> None:
    """Settings of our own interfaces, which end with them."""
    now = current(wanted)
    for name, value in sorted(wanted.items()):
        if name in now and now[name] != value:
            _write(name, value)


def _write(name: str, value: str) -> None:
    with os_errors(f"set {name.replace('/', '.')} to {value}"):
        write_plain(f"{_ROOT}/{name}", value + "\n")
