# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests make once and keep: several runs of them, at the same time on one machine, want the same."""

from __future__ import annotations

import contextlib
import fcntl
import pathlib
import typing as t


@contextlib.contextmanager
def alone(directory: pathlib.Path) -> t.Iterator[None]:
    """Nobody else makes anything for this directory meanwhile. Whoever had to wait looks again whether it is there now."""
    with open(directory / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
