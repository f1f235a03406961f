# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happened to a VM: C(events.jsonl), one JSON object a line. Standard library only; on the no-change path.

Events: C(start) (the process is about to be), C(boot) (it is there and its guest was told to boot), C(exit) (code, signal, reason), and what the runner
adds (C(met), with the C(condition) of a task's wait that held). Each has C(event), C(at) (ISO 8601, UTC, milliseconds), C(boot_id) and
C(host_boot_id). The launch file writes the first three without Python (C(boot) where no task watches), and bounds the file when a process ends.
"""

from __future__ import annotations

import datetime
import json
import os
import typing as t

from .files import os_errors, read_bytes
from .port import Exit
from .processes import host_boot_id, recorded

if t.TYPE_CHECKING:
    from .layout import VmLayout

# The launch file cuts to KEEP_LINES when it finds more than MAX_BYTES.
MAX_BYTES = 256 << 10
KEEP_LINES = 500
# No start takes an hour: the clock was set meanwhile.
BOOT_MS_MAX = 3_600_000


def read(vm: VmLayout, since: int = 0) -> list[dict[str, t.Any]]:
    """All events, oldest first, or those after the first C(since) bytes. A torn last line (power failure) is left out."""
    try:
        body = read_bytes(vm.events)
    except FileNotFoundError:
        return []
    found = []
    # A file that is shorter now was cut to its last lines when the process ended: what is new is among them.
    for line in body[since if since <= len(body) else 0 :].decode("utf-8", "replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            found.append(event)
    return found


def append(vm: VmLayout, event: str, **fields: t.Any) -> None:
    """Adds an event of the running boot. One write, so that lines never mix."""
    record = recorded(vm)
    body = {
        "event": event,
        "at": now(),
        "boot_id": record.boot_id if record else None,
        "host_boot_id": host_boot_id(),
        **fields,
    }
    with os_errors(f"write {vm.events}"):
        fd = os.open(vm.events, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(fd, json.dumps(body, sort_keys=True).encode() + b"\n")
        finally:
            os.close(fd)


def now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def of_boot(events: t.Sequence[dict[str, t.Any]], boot_id: str) -> list[dict[str, t.Any]]:
    """The events of one boot of the VM."""
    return [event for event in events if event.get("boot_id") == boot_id]


def last_exit(events: t.Sequence[dict[str, t.Any]]) -> Exit | None:
    """How the last process ended; None when none was ever started. For a VM whose process is not there: a start without an exit means that nobody was left to
    record it (the host went down, or the supervisor was killed): reason C(lost)."""
    for event in reversed(events):
        if event["event"] == "exit":
            return Exit(
                boot_id=str(event.get("boot_id")),
                reason=str(event.get("reason")),
                code=event["code"] if isinstance(event.get("code"), int) else None,
                signal=event["signal"] if isinstance(event.get("signal"), str) else None,
                at=str(event.get("at")),
            )
        if event["event"] == "start":
            return Exit(boot_id=str(event.get("boot_id")), reason="lost", code=None, signal=None, at=str(event.get("at")))
    return None


def boot_duration_ms(events: t.Sequence[dict[str, t.Any]], boot_id: str) -> int | None:
    """From C(start) to C(boot) of that boot; None when it has not come so far, or cannot be told because the clock was set in between."""
    at = {event["event"]: event.get("at") for event in of_boot(events, boot_id)}
    if "start" not in at or "boot" not in at:
        return None
    try:
        began, booted = (datetime.datetime.fromisoformat(str(at[key]).replace("Z", "+00:00")) for key in ("start", "boot"))
        duration_ms = round((booted - began).total_seconds() * 1000)
    except (ValueError, TypeError):
        # A line that somebody edited.
        return None
    return duration_ms if 0 <= duration_ms <= BOOT_MS_MAX else None
