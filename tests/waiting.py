# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for what a test has set going: as long as the slowest machine needs, no longer than it takes."""

from __future__ import annotations

import time
import typing as t

# For processes that share a small machine with all the other tests, emulated guests among them.
PATIENCE_S = 90.0


def soon(seconds: float = PATIENCE_S) -> float:
    """A deadline, by the monotonic clock."""
    return time.monotonic() + seconds


def until(condition: t.Callable[[], t.Any], what: str | t.Callable[[], str], timeout_s: float = PATIENCE_S) -> t.Any:
    """The condition's first true value. Fails the test with C(what), also where what it asks was never there.

    A file that is not there yet is a condition that does not hold yet: what a test waits for is often written by what it started.
    """
    deadline = soon(timeout_s)
    while True:
        missing = None
        try:
            value = condition()
        except FileNotFoundError as error:
            value, missing = None, error
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout_s:.0f} s: {what if isinstance(what, str) else what()}") from missing
        time.sleep(0.02)
