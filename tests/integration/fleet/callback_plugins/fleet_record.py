# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a line for every task that changed something on a host, and at the end what the playbook handed on with set_stats."""

from __future__ import annotations

import json
import os

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: fleet_record
type: notification
short_description: Records changes for the tests of fleets
description: See the module's docstring.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "fleet_record"
    CALLBACK_NEEDS_ENABLED = True

    def v2_runner_on_ok(self, result):
        # ansible-core 2.19 made the attributes public; 2.17 and 2.18 have the underscore only.
        body = result.result if hasattr(type(result), "result") else result._result
        task = result.task if hasattr(type(result), "task") else result._task
        host = result.host if hasattr(type(result), "host") else result._host
        if body.get("changed"):
            with open(os.environ["FLEET_RECORD"], "a", encoding="utf-8") as stream:
                stream.write(json.dumps({"host": host.get_name(), "task": task.name}) + "\n")

    def v2_playbook_on_stats(self, stats):
        with open(os.environ["FLEET_STATS"], "w", encoding="utf-8") as stream:
            json.dump(stats.custom.get("_run", {}), stream, default=str)
