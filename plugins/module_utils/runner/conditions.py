# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be waited for: each condition of C(wait_for) as a predicate that asks once and keeps nobody waiting.

Console and file conditions that were met are remembered for the boot, so that a later run does not fail on a log that was trimmed meanwhile.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import socket
import threading
import time
import typing as t

from ..errors import Internal, VmcpError
from ..host.console_search import Searcher

CONNECT_S = 1.0
# From one question for the addresses of a name to the next.
ASK_AGAIN_S = 1.0
CONSOLE_BUFFER_BYTES = 4 << 20
# Family, and what the kernel connects to.
_Address = tuple[int, t.Any]


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


def conditions(wanted: t.Sequence[t.Mapping[str, t.Any]], target: Target, searcher: Searcher) -> list[Condition]:
    """From C(VmRequest.wait_for): dictionaries with one of the known keys each."""
    return [_condition(item, target, searcher) for item in wanted]


def _condition(item: t.Mapping[str, t.Any], target: Target, searcher: Searcher) -> Condition:
    if "running" in item:
        return Condition("running", target.running)
    if "console" in item:
        return Condition(f"console: {item['console']}", _ConsoleMatch(target.console_log, item["console"], searcher), lasting=True)
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

    def __init__(self, path: str, pattern: str, searcher: Searcher) -> None:
        self._path = path
        self._pattern = pattern
        self._searcher = searcher
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
            self._held = self._searcher.found(self._pattern, self._seen)
        return self._held


class _Lookup(threading.Thread):
    """Asks the resolver for a name. It blocks for as long as it likes, so it is asked in a thread that may be left behind."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(daemon=True)
        self._of = (host, port)
        self._found: list[_Address] = []
        self.start()

    def run(self) -> None:
        # A name that is not known may be so a moment later.
        with contextlib.suppress(OSError):
            self._found = [(family, address) for family, _kind, _protocol, _name, address in socket.getaddrinfo(*self._of, type=socket.SOCK_STREAM)]

    def answer(self) -> t.Optional[list[_Address]]:
        """None while there is none yet."""
        return None if self.is_alive() else self._found


def _literal(host: str, port: int) -> list[_Address]:
    """The address that this is; none for a name. Asks nobody."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except OSError:
        return []
    return [(family, address) for family, _kind, _protocol, _name, address in found[:1]]


class _Accepts:
    """Whether somebody accepts on a port, at any of a name's addresses. A lookup or a connection that is on its way is looked at again with the next call:
    nobody waits for it."""

    def __init__(self, host: str, port: int) -> None:
        self._of = (host, port)
        self._lookup: t.Optional[_Lookup] = None
        self._asked = -ASK_AGAIN_S
        self._addresses: list[_Address] = _literal(host, port)
        self._is_name = not self._addresses
        self._pending: t.Optional[socket.socket] = None
        self._began = 0.0

    def __call__(self) -> bool:
        try:
            if self._pending is None:
                return self._begin()
            return self._look(self._pending)
        except OSError:
            # Refused, unreachable, not up yet: each is "not now".
            self._drop()
            return False

    def _begin(self) -> bool:
        address = self._next()
        if address is None:
            return False
        self._pending = socket.socket(address[0], socket.SOCK_STREAM)
        self._pending.setblocking(False)
        self._began = time.monotonic()
        with contextlib.suppress(BlockingIOError):
            self._pending.connect(address[1])
        return self._look(self._pending)

    def _next(self) -> t.Optional[_Address]:
        """In turn; None while the resolver has not answered, or knows none. What a name stands for may change while it is waited for."""
        now = time.monotonic()
        if self._lookup is not None:
            answer = self._lookup.answer()
            if answer is not None:
                self._lookup, self._addresses = None, answer
        elif self._is_name and now - self._asked >= ASK_AGAIN_S:
            self._asked = now
            self._lookup = _Lookup(*self._of)
        if not self._addresses:
            return None
        self._addresses.append(self._addresses.pop(0))
        return self._addresses[-1]

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
