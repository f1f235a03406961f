# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting until conditions hold, all under one deadline.

A condition is a predicate; the loop knows nothing of what it waits for but that the VM's process must live. Console and file
conditions that were met are remembered for the boot, so that a later run does not fail on a log that was trimmed meanwhile.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import socket
import time
import typing as t

from ..errors import DeadlineExceeded, Internal, VmcpError

# A microVM is up within milliseconds, a Linux guest takes seconds: what has lasted longer is looked at less often.
POLL_LEAST_S = 0.002
POLL_MOST_S = 0.05
CONNECT_S = 1.0
CONSOLE_BUFFER_BYTES = 4 << 20


class Target(t.Protocol):
    """The VM that is waited for, as far as conditions look at it."""

    name: str
    console_log: str

    def alive(self) -> bool:
        """Whether its process lives."""

    def running(self) -> bool:
        """Whether its VMM says that the guest's processors run."""

    def open_vsock(self, port: int, timeout_s: float) -> bool:
        """Whether the guest accepts a connection on this vsock port."""

    def console_tail(self, lines: int) -> list[str]:
        """The console's last lines in this boot."""

    def obituary(self) -> VmcpError:
        """The error for a process that ended while it was waited for."""


@dataclasses.dataclass(frozen=True)
class Condition:
    """C(text) is how the user knows it; C(holds) asks once and returns at once or within about a second. C(lasting): once met it counts as met for this
    boot, whatever became of the log or the file since."""

    text: str
    holds: t.Callable[[], bool]
    lasting: bool = False


def conditions(wanted: t.Sequence[t.Mapping[str, t.Any]], target: Target) -> list[Condition]:
    """From C(VmRequest.wait_for): dictionaries with one of the known keys each."""
    return [_condition(item, target) for item in wanted]


def _condition(item: t.Mapping[str, t.Any], target: Target) -> Condition:
    if "running" in item:
        return Condition("running", target.running)
    if "console" in item:
        return Condition(f"console: {item['console']}", _ConsoleMatch(target.console_log, item["console"]), lasting=True)
    if "tcp" in item:
        host, port = str(item.get("host", "127.0.0.1")), int(item["tcp"])
        return Condition(f"tcp: {host}:{port}", lambda: _accepts(host, port))
    if "vsock" in item:
        port = int(item["vsock"])
        return Condition(f"vsock: {port}", lambda: target.open_vsock(port, CONNECT_S))
    if "file" in item:
        path = str(item["file"])
        return Condition(f"file: {path}", lambda: os.path.exists(path), lasting=True)
    raise Internal(f"wait_for has a condition that passed validation and is not known here: {sorted(item)}.")


class _ConsoleMatch:
    """Looks for a regular expression in the output of this boot, reading what is new since the last look."""

    def __init__(self, path: str, pattern: str) -> None:
        self._path = path
        self._regex = re.compile(pattern, re.MULTILINE)
        self._seen = b""
        self._offset = 0

    def __call__(self) -> bool:
        with contextlib.suppress(FileNotFoundError), open(self._path, "rb") as stream:
            if os.fstat(stream.fileno()).st_size < self._offset:
                # A new boot began a new file.
                self._seen, self._offset = b"", 0
            stream.seek(self._offset)
            new = stream.read(CONSOLE_BUFFER_BYTES)
            self._offset += len(new)
            # Holes that trimming left read as NULs.
            self._seen = (self._seen + new.replace(b"\0", b"").replace(b"\r", b""))[-CONSOLE_BUFFER_BYTES:]
        return self._regex.search(self._seen.decode("utf-8", "replace")) is not None


def _accepts(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=CONNECT_S):
            return True
    except OSError:
        # Refused, unreachable, not up yet: each is "not now".
        return False


def wait(
    target: Target,
    wanted: t.Sequence[Condition],
    timeout_s: float,
    met_before: t.Collection[str] = (),
    remember: t.Callable[[str], None] = lambda text: None,
) -> list[dict[str, t.Any]]:
    """Waits for all. C(met_before): texts of those that an earlier run saw met in this boot; C(remember) is called with each lasting one that is met now.

    Returns C([{condition, seconds}]) in the order given. DeadlineExceeded names the first that does not hold, with the console's last 20 lines; the VM's
    own error when its process ends meanwhile. The VM is left as it is."""
    began = time.monotonic()
    met: dict[str, float] = {c.text: 0.0 for c in wanted if c.lasting and c.text in met_before}
    while True:
        for condition in wanted:
            if condition.text not in met and condition.holds():
                met[condition.text] = time.monotonic() - began
                if condition.lasting:
                    remember(condition.text)
        waited = time.monotonic() - began
        if len(met) == len({c.text for c in wanted}):
            return [{"condition": c.text, "seconds": round(met[c.text], 3)} for c in wanted]
        if not target.alive():
            raise target.obituary()
        if waited >= timeout_s:
            raise _unmet(target, wanted, met, waited)
        time.sleep(min(max(POLL_LEAST_S, min(POLL_MOST_S, waited / 20)), max(0.0, timeout_s - waited)))


def _unmet(target: Target, wanted: t.Sequence[Condition], met: t.Mapping[str, float], waited: float) -> DeadlineExceeded:
    missing = [c.text for c in wanted if c.text not in met]
    tail = target.console_tail(20)
    others = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    shown = " The console's last lines are in 'console'." if tail else " The console is empty."
    return DeadlineExceeded(
        f"VM {target.name} did not meet '{missing[0]}'{others} within {waited:.0f} s.{shown} "
        "The VM is left as it is; raise wait_timeout, or look at it with unkey.vmcp.vmcp_console.",
        details={"unmet": missing, "met": list(met), "waited_s": round(waited, 1), "console": tail},
    )
