# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories and VMs for the tests beside this file; whatever a test leaves running is killed by its verified pid."""

from __future__ import annotations

import os
import pathlib
import signal
import sys
import tempfile
import typing as t

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from vms import STUB, Maker

from ansible_collections.unkey.vmcp.plugins.module_utils.host import processes
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.store import Store
from ansible_collections.unkey.vmcp.plugins.module_utils.host.supervisors.plain import PlainSupervisor


@pytest.fixture
def maker() -> t.Iterator[Maker]:
    """Short paths with characters that a careless shell would trip over."""
    with tempfile.TemporaryDirectory(prefix="vm cp'$x%n") as top:
        os.chmod(top, 0o711)
        stub = pathlib.Path(top, "stub vmm")
        stub.write_text(STUB)
        stub.chmod(0o755)
        layout = Layout(state_dir=f"{top}/state", run_dir=f"{top}/run")
        yield Maker(layout, stub)
        for name in Store(layout).names():
            vm = layout.vm(name)
            for path in (f"{vm.run}/supervisor", vm.pid):
                record = processes.parse_record(path)
                if record is not None and processes.is_live(record):
                    os.kill(record.pid, signal.SIGKILL)


@pytest.fixture
def plain(maker: Maker) -> PlainSupervisor:
    return PlainSupervisor(maker.layout, trim_interval_s=1, console_max_bytes=1 << 20)
