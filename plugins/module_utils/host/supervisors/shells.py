# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shell files that run for themselves: started in a session of their own, and known by the lock that they hold for as long as they live."""

from __future__ import annotations

import fcntl
import os
import signal
import typing as t

from ..files import os_errors
from . import ending

# The descriptor on which they expect their lock.
_LOCK_FD = 9


def detached(command: t.Sequence[str], output: int, lock: int) -> int:
    """Starts a shell file of ours in a session of its own; its pid. Python has SIGPIPE ignored, which would be inherited."""
    return os.posix_spawnp(
        command[0],
        list(command),
        ending.CLEAN_ENVIRONMENT,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
            (os.POSIX_SPAWN_DUP2, lock, _LOCK_FD),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
    )


def lock_file(path: str, flags: int = os.O_CREAT) -> t.Optional[int]:
    """A descriptor that has the lock; None when somebody else has it."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def is_free(path: str) -> bool:
    """Whether nobody has this lock: of a VM, whether nobody starts, watches or clears up after it. Makes nothing."""
    with os_errors(f"look at {path}"):
        try:
            lock = lock_file(path, 0)
        except FileNotFoundError:
            return True
    if lock is None:
        return False
    os.close(lock)
    return True
