# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes each task's wall time as a JSON line to the file that VMCP_BENCH_OUT names."""

from __future__ import annotations

import json
import os
import time
import typing as t

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: durations
type: notification
short_description: Wall time of each task, as JSON lines
description: For tests/bench only.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "durations"

    def __init__(self) -> None:
        super().__init__()
        self._began: dict[str, float] = {}

    def v2_runner_on_start(self, host: t.Any, task: t.Any) -> None:
        self._began[task._uuid] = time.perf_counter()

    def v2_runner_on_ok(self, result: t.Any) -> None:
        self._write(result, True)

    def v2_runner_on_failed(self, result: t.Any, ignore_errors: bool = False) -> None:
        self._write(result, False)

    def _write(self, result: t.Any, ok: bool) -> None:
        task = result._task
        took = time.perf_counter() - self._began[task._uuid]
        with open(os.environ["VMCP_BENCH_OUT"], "a", encoding="utf-8") as out:
            out.write(
                json.dumps(
                    {"name": task.name, "ok": ok, "seconds": took, "changed": bool(result._result.get("changed")), "msg": str(result._result.get("msg", ""))}
                )
                + "\n"
            )
