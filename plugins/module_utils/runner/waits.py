# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting until conditions hold: those of one VM, or of many, by one loop that looks at all of them in turn.

A condition is a predicate; the loop knows nothing of what it waits for but that the VM's process must live. Console and file
conditions that were met are remembered for the boot, so that a later run does not fail on a log that was trimmed meanwhile.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import select
import socket
import time
import typing as t

from ..errors import DeadlineExceeded, Internal, VmcpError

# From the end of a process to the next one, where policy starts it again.
RESTART_S = 1.0
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

    def may_return(self) -> bool:
        """Whether a process that ended may be followed by another in a moment, by policy."""

    def running(self) -> bool:
        """Whether its VMM says that the guest's processors run."""

    def open_vsock(self, port: int, timeout_s: float) -> bool:
        """Whether the guest accepts a connection on this vsock port."""

    def answers(self, nic_id: t.Optional[str]) -> t.Callable[[], bool]:
        """Whether the guest answers for its addresses: those of one interface, or (None) of each on a network. FailedPrecondition where none is known."""

    def console_tail(self, lines: int) -> list[str]:
        """The console's last lines in this boot."""

    def obituary(self) -> VmcpError:
        """The error for a process that ended while it was waited for."""


@dataclasses.dataclass(frozen=True)
class Condition:
    """C(text) is how the user knows it; C(holds) asks once, and returns at once unless a VMM is silent. C(lasting): once met it counts as met for this
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
        return Condition(f"tcp: {host}:{port}", _Accepts(host, port))
    if "vsock" in item:
        port = int(item["vsock"])
        return Condition(f"vsock: {port}", lambda: target.open_vsock(port, CONNECT_S))
    if "address" in item:
        nic_id = None if item["address"] is True else str(item["address"])
        return Condition("address" if nic_id is None else f"address: {nic_id}", target.answers(nic_id))
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
        self._held = False

    def __call__(self) -> bool:
        with contextlib.suppress(FileNotFoundError), open(self._path, "rb") as stream:
            if os.fstat(stream.fileno()).st_size < self._offset:
                # A new boot began a new file.
                self._seen, self._offset = b"", 0
            stream.seek(self._offset)
            new = stream.read(CONSOLE_BUFFER_BYTES)
            self._offset += len(new)
            if not new:
                return self._held
            # Holes that trimming left read as NULs.
            self._seen = (self._seen + new.replace(b"\0", b"").replace(b"\r", b""))[-CONSOLE_BUFFER_BYTES:]
            self._held = self._regex.search(self._seen.decode("utf-8", "replace")) is not None
        return self._held


class _Accepts:
    """Whether somebody accepts on a port. A connection that is on its way is looked at again with the next call: nobody waits for it."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._pending: t.Optional[socket.socket] = None
        self._began = 0.0

    def __call__(self) -> bool:
        try:
            if self._pending is None:
                return self._begin()
            return self._look(self._pending)
        except OSError:
            # Refused, unreachable, a name that is not known, not up yet: each is "not now".
            self._drop()
            return False

    def _begin(self) -> bool:
        family, kind, protocol, _name, address = socket.getaddrinfo(*self._address, type=socket.SOCK_STREAM)[0]
        self._pending = socket.socket(family, kind, protocol)
        self._pending.setblocking(False)
        self._began = time.monotonic()
        with contextlib.suppress(BlockingIOError):
            self._pending.connect(address)
        return self._look(self._pending)

    def _look(self, pending: socket.socket) -> bool:
        poll = select.poll()
        poll.register(pending, select.POLLOUT)
        if poll.poll(0):
            number = pending.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._drop()
            return number == 0
        if time.monotonic() - self._began > CONNECT_S:
            self._drop()
        return False

    def _drop(self) -> None:
        if self._pending is not None:
            self._pending.close()
            self._pending = None


class Wait:
    """What one VM is waited for. C(met_before): texts of those that an earlier run saw met in this boot; C(remember) is called with each lasting one that is
    met now. C(met): condition to seconds. C(failed): why it is over without all of them."""

    def __init__(
        self,
        target: Target,
        wanted: t.Sequence[Condition],
        timeout_s: float,
        met_before: t.Collection[str] = (),
        remember: t.Callable[[str], None] = lambda text: None,
    ) -> None:
        self.target = target
        self.wanted = wanted
        self.timeout_s = timeout_s
        self.met: dict[str, float] = {c.text: 0.0 for c in wanted if c.lasting and c.text in met_before}
        self.failed: t.Optional[VmcpError] = None
        self._remember = remember
        self._gone_since: t.Optional[float] = None

    def look(self, waited_s: float) -> bool:
        """Asks once for each that is not met. Whether it is over, one way or the other."""
        for condition in self.wanted:
            if condition.text not in self.met and condition.holds():
                self.met[condition.text] = waited_s
                if condition.lasting:
                    self._remember(condition.text)
        if len(self.met) == len({c.text for c in self.wanted}):
            return True
        if self.target.alive():
            self._gone_since = None
        else:
            self._gone_since = waited_s if self._gone_since is None else self._gone_since
            if not self.target.may_return() or waited_s - self._gone_since >= RESTART_S:
                self.failed = self.target.obituary()
        if self.failed is None and waited_s >= self.timeout_s:
            self.failed = _unmet(self.target, self.wanted, self.met, waited_s)
        return self.failed is not None

    def result(self) -> list[dict[str, t.Any]]:
        """C([{condition, seconds}]) in the order given."""
        return [{"condition": c.text, "seconds": round(self.met[c.text], 3)} for c in self.wanted]


def wait_all(waits: t.Sequence[Wait], look: t.Callable[[t.Sequence[Wait], float], list[bool]], told: t.Callable[[int], object] = lambda left: None) -> None:
    """Until each of them is over, all from now on. C(look) asks many once each (C(Wait.look)); C(told) hears how many are left whenever that changes."""
    began = time.monotonic()
    left = list(waits)
    while left:
        waited = time.monotonic() - began
        over = look(left, waited)
        before = len(left)
        left = [one for one, is_over in zip(left, over, strict=True) if not is_over]
        if len(left) != before:
            told(len(left))
        if left:
            waited = time.monotonic() - began
            soonest = min(one.timeout_s for one in left)
            time.sleep(min(max(POLL_LEAST_S, min(POLL_MOST_S, waited / 20)), max(0.0, soonest - waited)))


def wait(
    target: Target,
    wanted: t.Sequence[Condition],
    timeout_s: float,
    met_before: t.Collection[str] = (),
    remember: t.Callable[[str], None] = lambda text: None,
) -> list[dict[str, t.Any]]:
    """Waits for all conditions of one VM; arguments and result as for C(Wait).

    DeadlineExceeded names the first that does not hold, with the console's last 20 lines; the VM's own error when its process ends
    meanwhile. The VM is left as it is."""
    return finish(Wait(target, wanted, timeout_s, met_before, remember))


def finish(one: Wait) -> list[dict[str, t.Any]]:
    """As C(wait), for what has been made to be waited for."""
    wait_all([one], lambda waits, waited_s: [each.look(waited_s) for each in waits])
    if one.failed is not None:
        raise one.failed
    return one.result()


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
