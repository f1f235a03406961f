# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task that changes nothing loads of a backend; all else of drivers is under contract (C(tests/contract))."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

CODE = """
import sys
from ansible_collections.unkey.vmcp.plugins.module_utils import errors
from ansible_collections.unkey.vmcp.plugins.module_utils.backends.{backend}.driver import Driver
try:
    Driver().observe('/nonexistent/s', 1e18)
except errors.Unavailable:
    print(sorted({{'asyncio', 'httpx', 'h11', 'logging', 'pydantic', 'ssl', 'yaml'}} & set(sys.modules)))
    print(sorted(name.rpartition('.')[2] for name in sys.modules if '.backends.{backend}.' in name))
"""


@pytest.mark.parametrize(
    ("backend", "loaded"), [("cloudhypervisor", ["client", "driver", "words"]), ("firecracker", ["driver"]), ("qemu", ["driver", "status", "words"])]
)
def test_observing_needs_the_standard_library_and_little_of_ours(backend: str, loaded: list[str]) -> None:
    root = pathlib.Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", CODE.format(backend=backend)], cwd=root, capture_output=True, text=True, timeout=150, check=True)
    assert done.stdout == f"[]\n{loaded}\n"
