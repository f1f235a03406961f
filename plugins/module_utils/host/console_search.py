# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Users' regular expressions on guests' output, within bounds. Standard library only.

A search of Python's C(re) can take for ever, and nothing within the process stops it: it holds the interpreter's lock. So whatever may backtrack is searched by
a process of its own, of which the kernel takes the processor's time and the memory that it may use. Expressions without any choice cannot backtrack, are what
most people write, and are searched here.
"""

from __future__ import annotations

import collections
import contextlib
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import typing as t

from ..errors import Unavailable

# Of the processor's time, so that a busy machine does not count. 4 MiB are searched in a small part of it.
LIMIT_S = 2.0
MEMORY_BYTES = 1 << 30
# Only for a process that was stopped: one that computes ends by its own limit.
ANSWER_S = 120.0
# Many VMs are waited for with one expression: after so many searches that were given up nobody else waits for the next.
STRIKES = 3
_CHOICES = frozenset("*+?{|")
_PLAIN_MAX = 1000
_HEAD = struct.Struct(">II")
_NO, _YES, _NO_MEMORY = b"0", b"1", b"2"
_PROGRAM = """
import re, resource, signal, struct, sys
limit_s, memory = float(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
head = sys.stdin.buffer.read(8)
while len(head) == 8:
    pattern, text = (sys.stdin.buffer.read(size) for size in struct.unpack(">II", head))
    signal.setitimer(signal.ITIMER_VIRTUAL, limit_s)
    try:
        answer = b"1" if re.search(pattern.decode("utf-8", "surrogatepass"), text.decode("utf-8", "replace"), re.MULTILINE) else b"0"
    except MemoryError:
        answer = b"2"
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
    head = sys.stdin.buffer.read(8)
"""


class TooSlow(Exception):
    """The search was given up. Its text completes a sentence that names the expression."""


class Searcher:
    """For as long as the with-block lasts; for any number of expressions, texts and threads. The process is started with the first search that needs it."""

    def __init__(self, limit_s: float = LIMIT_S, memory_bytes: int = MEMORY_BYTES) -> None:
        self._limit_s, self._memory_bytes = limit_s, memory_bytes
        self._lock = threading.Lock()
        self._child: t.Optional[tuple[subprocess.Popen[bytes], socket.socket]] = None
        self._strikes: collections.Counter[str] = collections.Counter()

    def __enter__(self) -> Searcher:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._end()

    def found(self, pattern: str, text: bytes) -> bool:
        """Whether the expression (a valid one, with C(re.MULTILINE)) matches anywhere. TooSlow, Unavailable."""
        if len(pattern) <= _PLAIN_MAX and not _CHOICES & set(pattern):
            return re.search(pattern, text.decode("utf-8", "replace"), re.MULTILINE) is not None
        with self._lock:
            if self._strikes[pattern] >= STRIKES:
                raise TooSlow(f"was given up on the output of {STRIKES} VMs already")
            answer = self._ask(pattern, text)
            if answer in (_NO, _YES):
                return answer == _YES
            self._strikes[pattern] += 1
            self._end()
            raise TooSlow(
                f"needs more than {self._memory_bytes >> 20} MiB of memory for this output"
                if answer == _NO_MEMORY
                else f"was not done with this output after {self._limit_s:g} s of computing"
            )

    def _ask(self, pattern: str, text: bytes) -> bytes:
        """One of the answers; nothing from a process that ended or does not answer."""
        if self._child is None:
            self._child = self._start()
        raw = pattern.encode("utf-8", "surrogatepass")
        with contextlib.suppress(OSError):
            self._child[1].sendall(_HEAD.pack(len(raw), len(text)) + raw + text)
            return self._child[1].recv(1)
        return b""

    def _start(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        ours, theirs = socket.socketpair()
        ours.settimeout(ANSWER_S)
        with theirs:
            try:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _PROGRAM, str(self._limit_s), str(self._memory_bytes)],
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                )
            except OSError as exc:
                ours.close()
                raise Unavailable(f"Cannot search consoles: {sys.executable} does not run ({exc.strerror}). Run the task again.") from exc
        return process, ours

    def _end(self) -> None:
        if self._child is not None:
            process, stream = self._child
            self._child = None
            stream.close()
            process.send_signal(signal.SIGKILL)
            process.wait()
