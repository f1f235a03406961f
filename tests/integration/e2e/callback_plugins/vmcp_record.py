# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes each task's whole result as a line of JSON, with the files that changed below some directories while the task ran.

Environment: C(VMCP_E2E_RECORD), the file; C(VMCP_E2E_WATCH), directories separated by colons. Ansible and the host that it manages are the same
machine here, so that the controller can see what a task touches."""

from __future__ import annotations

import hashlib
import json
import os
import time

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: vmcp_record
type: notification
short_description: Records results for the end-to-end tests
description: See the module's docstring.
"""


# A disk of gigabytes is mostly a hole, and would be read whole.
READ_BYTES = 1 << 20


def tree(top: str) -> dict[str, tuple]:
    """Everything below a directory: kind and mode, size, time of change, and a digest or the link's target. Of disks, the time of change has to do."""
    found = {}
    for where, directories, names in os.walk(top):
        for path in (where, *(os.path.join(where, name) for name in (*directories, *names))):
            if path.endswith(".locks/.trimmer"):
                # The process that bounds logs says there who it is: some time after the task that has started it.
                continue
            try:
                seen = os.lstat(path)
                content = None
                if os.path.islink(path):
                    content = os.readlink(path)
                elif os.path.isfile(path) and seen.st_size <= READ_BYTES:
                    with open(path, "rb") as stream:
                        content = hashlib.sha256(stream.read()).hexdigest()
            except FileNotFoundError:
                continue
            found[path] = (seen.st_mode, seen.st_uid, seen.st_ino, seen.st_size, seen.st_mtime_ns, content)
    return found


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "vmcp_record"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._path = os.environ["VMCP_E2E_RECORD"]
        self._watched = [top for top in os.environ.get("VMCP_E2E_WATCH", "").split(":") if top]
        self._before: dict[str, tuple] = {}
        self._began = 0.0

    def _look(self) -> dict[str, tuple]:
        return {path: seen for top in self._watched for path, seen in tree(top).items()}

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._before = self._look()
        self._began = time.monotonic()

    def _write(self, result, status: str) -> None:
        # ansible-core 2.19 made the attributes public; 2.17 and 2.18 have the underscore only.
        body = result.result if hasattr(type(result), "result") else result._result
        task = result.task if hasattr(type(result), "task") else result._task
        after = self._look()
        paths = {path for path in {*self._before, *after} if self._before.get(path) != after.get(path)}
        line = {"name": task.name, "status": status, "result": body, "touched": sorted(paths), "seconds": round(time.monotonic() - self._began, 3)}
        with open(self._path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, default=str) + "\n")

    def v2_runner_on_ok(self, result):
        self._write(result, "ok")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._write(result, "failed")

    def v2_runner_on_unreachable(self, result):
        self._write(result, "unreachable")

    def v2_runner_on_skipped(self, result):
        self._write(result, "skipped")
