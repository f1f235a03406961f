# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Regular expressions of users, and output of guests that makes the worst of them."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import sys
import threading

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import Unavailable
from ansible_collections.unkey.vmcp.plugins.module_utils.host.console_search import STRIKES, Searcher, TooSlow

ENDLESS = "(a+)+b"
BAIT = b"a" * 64


def children() -> set[str]:
    found = set()
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(stat.parent.name)
    return found


@pytest.mark.parametrize(
    "pattern", ["^login:", "^host login: $", "(LOGIN)", "l.gin:", "^(login|ready)", "log+in", r"\w+ login: ?$", "a\nb", "é.?", "[0-9]{2}\\.", "$"]
)
@pytest.mark.parametrize("text", [b"", b"host login: ", b"boot\nlogin:\n", b"a\nb\xff", "é!".encode(), b"[ 12.5] x"])
def test_it_finds_what_python_finds(pattern: str, text: bytes) -> None:
    with Searcher() as searcher:
        assert searcher.found(pattern, text) == bool(re.search(pattern, text.decode("utf-8", "replace"), re.MULTILINE))


def test_what_cannot_backtrack_needs_no_process() -> None:
    before = children()
    with Searcher() as searcher:
        assert searcher.found(r"^login: \(x\)$", b"login: (x)") and not searcher.found("[a-z]ogout", b"login")
        assert children() == before
        assert searcher.found("log.*", b"login")
        assert len(children() - before) == 1
        assert searcher.found("log.*", b"login " * 700_000) and not searcher.found("z+", b"login\n" * 700_000), "as much as is ever kept of a console"
        assert len(children() - before) == 1, "one for all"
    assert children() == before


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (ENDLESS, BAIT),
        # No repetition in another, but a line that is as long as all that is kept of a console.
        (".*ready", b"x" * (4 << 20)),
    ],
)
def test_a_search_without_end_is_given_up(pattern: str, text: bytes) -> None:
    before = children()
    with Searcher(limit_s=0.1) as searcher:
        with pytest.raises(TooSlow, match=r"^was not done with this output after 0\.1 s of computing$"):
            searcher.found(pattern, text)
        assert searcher.found(pattern, b"aab ready"), "and no other search suffers"
        for _strike in range(STRIKES - 1):
            with pytest.raises(TooSlow):
                searcher.found(pattern, text)
        with pytest.raises(TooSlow, match=f"given up on the output of {STRIKES} VMs already"):
            searcher.found(pattern, text)
        assert searcher.found("other+", b"another")
    assert children() == before


def test_memory_is_bounded() -> None:
    with Searcher(limit_s=60, memory_bytes=128 << 20) as searcher, pytest.raises(TooSlow, match="128 MiB of memory"):
        searcher.found("(?:(a)|(b)|(c))*d", b"abc" * (1 << 20))


def test_a_process_that_was_ended_from_outside_is_followed_by_another() -> None:
    before = children()
    with Searcher() as searcher:
        assert searcher.found("a+", b"a")
        (child,) = children() - before
        os.kill(int(child), signal.SIGKILL)
        with pytest.raises(TooSlow):
            searcher.found("a+", b"a")
        assert searcher.found("a+", b"a")


def test_many_threads_share_it() -> None:
    wrong: list[int] = []

    def look(index: int) -> None:
        for _round in range(20):
            if searcher.found(f"x+{index}$", f"xx{index}".encode()) is not True or searcher.found(f"x+{index}$", b"y"):
                wrong.append(index)

    with Searcher() as searcher:
        threads = [threading.Thread(target=look, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_an_interpreter_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with Searcher() as searcher, pytest.raises(Unavailable, match="/nonexistent/python does not run"):
        searcher.found("a+", b"a")
