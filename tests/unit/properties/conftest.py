# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bounds of the property tests: in continuous integration the same examples on every run, so that a red run is of what was changed."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile("vmcp", deadline=None, database=None, derandomize=bool(os.environ.get("CI")), suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("vmcp")
