# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes each task's wall time as a JSON line to the file that VMCP_BENCH_OUT names, and the processor time that C(meter.py) counts meanwhile."""

from __future__ import annotations

import json
import os
import pathlib
import sys
import time
import typing as t

from ansible.plugins.callback import CallbackBase

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from meter import read_s

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
        self._began: dict[str, tuple[float, float]] = {}

    def v2_runner_on_start(self, host: t.Any, task: t.Any) -> None:
        self._began[task._uuid] = time.perf_counter(), _processor_s()

    def v2_runner_on_ok(self, result: t.Any) -> None:
        self._write(result, True)

    def v2_runner_on_failed(self, result: t.Any, ignore_errors: bool = False) -> None:
        self._write(result, False)

    def _write(self, result: t.Any, ok: bool) -> None:
        task = result._task
        began, began_processor = self._began[task._uuid]
        took, processor = time.perf_counter() - began, _processor_s() - began_processor
        with open(os.environ["VMCP_BENCH_OUT"], "a", encoding="utf-8") as out:
            said = {"changed": bool(result._result.get("changed")), "msg": str(result._result.get("msg", ""))}
            out.write(json.dumps({"name": task.name, "ok": ok, "seconds": took, "processor": processor, **said}) + "\n")


def _processor_s() -> float:
    counter = os.environ.get("VMCP_BENCH_METER")
    return read_s(counter) if counter else 0.0
