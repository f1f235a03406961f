# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Python reads this file when it starts (it is on PYTHONPATH of the bench's tasks): at the end of a module it writes down the most memory it ever had.

Asking at the end costs the measured task a file; looking from outside would take time from it on the same processors, and might miss the peak.
"""

from __future__ import annotations

import atexit
import json
import os
import pathlib
import sys


def _say() -> None:
    module = pathlib.Path(sys.argv[0]).name.removeprefix("AnsiballZ_").removesuffix(".py")
    words = next(line for line in pathlib.Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")).split()
    with open(os.environ["VMCP_BENCH_PEAKS"], "a", encoding="utf-8") as out:
        out.write(json.dumps({"module": module, "peak_bytes": int(words[1]) * 1024}) + "\n")


if "VMCP_BENCH_PEAKS" in os.environ and pathlib.Path(sys.argv[0] if hasattr(sys, "argv") else "").name.startswith("AnsiballZ_"):
    atexit.register(_say)
