# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a task on many VMs is, for whoever looks meanwhile: Ansible shows nothing until it has ended.

C(RUN_DIR/.progress.jsonl), one JSON object a line, for C(tail -f): C(at), C(task) (the process), C(doing), C(done), C(total), C(failed), and what else there
is to say. It says what was, and nobody reads it back.
"""

from __future__ import annotations

import json
import os
import time
import typing as t

from ..errors import VmcpError
from ..host import events, files, trees
from ..host.layout import Layout

MAX_BYTES = 1 << 20
# Between two lines of one wait.
INTERVAL_S = 0.5


def progress_path(layout: Layout) -> str:
    # A leading dot: no VM can have this name.
    return f"{layout.run_dir}/.progress.jsonl"


class Progress:
    """C(tell) hears once when the file cannot be written: that is no reason to stop."""

    def __init__(self, layout: Layout, total: int, tell: t.Callable[[str], object]) -> None:
        self.path = progress_path(layout)
        self.total = total
        self._run_dir = layout.run_dir
        self._tell = tell
        self._fd: t.Optional[int] = None
        self._broken = False
        self._last = 0.0

    def say(self, doing: str, done: int, failed: int = 0, *, often: bool = False, **more: t.Any) -> None:
        """C(often): one of many; left out when it comes too soon after the last."""
        if self._broken or (often and time.monotonic() - self._last < INTERVAL_S):
            return
        self._last = time.monotonic()
        body = {"at": events.now(), "task": os.getpid(), "doing": doing, "done": done, "total": self.total, "failed": failed, **more}
        try:
            with files.os_errors(f"write {self.path}"):
                os.write(self._open(), json.dumps(body, ensure_ascii=False).encode() + b"\n")
        except (VmcpError, FileNotFoundError) as exc:
            self._broken = True
            self._tell(f"The progress of this task cannot be followed: {exc}")

    def _open(self) -> int:
        if self._fd is None:
            trees.ensure_dir(self._run_dir, 0o711)
            self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            if os.fstat(self._fd).st_size > MAX_BYTES:
                os.ftruncate(self._fd, 0)
        return self._fd

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
