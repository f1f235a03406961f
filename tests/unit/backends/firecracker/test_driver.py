# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the driver needs no VMM; the rest is under contract (C(tests/contract))."""

from __future__ import annotations

import pathlib
import subprocess
import sys


def test_observing_needs_the_standard_library_and_little_of_ours() -> None:
    code = (
        "import sys\n"
        "from ansible_collections.unkey.vmcp.plugins.module_utils import errors\n"
        "from ansible_collections.unkey.vmcp.plugins.module_utils.backends.firecracker.driver import Driver\n"
        "try:\n    Driver().observe('/nonexistent/s', 1e18)\n"
        "except errors.Unavailable:\n    print(sorted({'httpx', 'h11', 'pydantic', 'ssl', 'yaml'} & set(sys.modules)))\n"
        "    print(sorted(name.rpartition('.')[2] for name in sys.modules if '.backends.firecracker.' in name))\n"
    )
    root = pathlib.Path(__file__).resolve().parents[4]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=150, check=True)
    assert done.stdout == "[]\n['driver']\n"
