# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plain supervisor's one process for all VMs of a directory, which bounds their logs (C(trimming)): started with the first, ended with the last."""

from __future__ import annotations

import os
import time
import typing as t

from .. import processes, trimming
from ..files import os_errors, write_if_different
from ..locks import ensure_lock_dir
from . import ending
from .shells import detached, is_free, lock_file

if t.TYPE_CHECKING:
    from ..layout import Layout

# From its start to its first line: a shell that has to get a processor.
SAYS_WHO_S = 2.0


class Trimmer:
    """C(interval_s): how often the logs are looked at."""

    def __init__(self, layout: Layout, interval_s: int) -> None:
        self._layout = layout
        # Not the name of what systemd runs once a time: a host may have VMs of both.
        self._file = f"{layout.state_dir}/trim-logs.plain"
        self._interval_s = interval_s

    def ensure_installed(self, most: int) -> bool:
        """C(most): bytes that a log may have."""
        return write_if_different(self._file, trimming.loop(self._layout.vms, self._layout.run_dir, self._layout.trimmer_lock, most, self._interval_s))

    def ensure_running(self) -> None:
        ensure_lock_dir(self._layout.lock_dir)
        with os_errors(f"start {self._file}"):
            lock = lock_file(self._layout.trimmer_lock)
            if lock is None:
                return
            try:
                # What stands there is of one that has ended; the new one says itself who it is.
                os.ftruncate(lock, 0)
                nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
                try:
                    detached(["/bin/sh", self._file], nowhere, lock)
                finally:
                    os.close(nowhere)
            finally:
                os.close(lock)

    def end(self, removed: t.Collection[str]) -> None:
        """It would end by itself, some time after the last VM: with the last one removed, nothing of ours is to be left."""
        with os_errors(f"list {self._layout.run_dir}"):
            for name in os.listdir(self._layout.run_dir) if os.path.isdir(self._layout.run_dir) else ():
                # What is not a VM's has a name that no VM can have.
                if name not in removed and not name.startswith(".") and processes.current(self._layout.vm(name)) is not None:
                    return
        limit = time.monotonic() + SAYS_WHO_S
        while (trimmer := processes.parse_record(self._layout.trimmer_lock)) is None and not is_free(self._layout.trimmer_lock):
            if time.monotonic() >= limit:
                # It ends by itself all the same.
                return
            time.sleep(ending.POLL_S)
        if trimmer is not None:
            processes.end_session(trimmer)
