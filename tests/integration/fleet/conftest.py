# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets of simulated hosts: each ends with every VM removed through Ansible and nothing left behind."""

from __future__ import annotations

import pathlib
import shutil
import tempfile
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.guests import pvh_guest
from ansible_collections.unkey.vmcp.tests.integration.e2e import vmms
from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import GREETING
from ansible_collections.unkey.vmcp.tests.integration.fleet.hosts import Hosts, Tree


@pytest.fixture
def hosts() -> t.Iterator[Hosts]:
    # Short, because the paths of unix sockets are bounded; open to the VMs' uids.
    top = pathlib.Path(tempfile.mkdtemp(prefix="f", dir="/tmp"))
    top.chmod(0o755)
    made = Hosts(top, ("h1", "h2", "h3"))
    yield made
    try:
        left = made.remove_all()
        assert not left, "left behind:\n" + "\n".join(left)
    finally:
        made.kill_all()
        shutil.rmtree(top)


@pytest.fixture
def vm(hosts: Hosts) -> Tree:
    """What makes a VM, on a VMM that can be started here: the real Firecracker, or else QEMU."""
    firecracker = vmms.vmm("firecracker")
    found = vmms.use("firecracker" if vmms.why_not_started(firecracker) is None and firecracker.real else "qemu", hosts.ground("h1"))
    hosts.path = found.path
    return {
        "backend": found.backend,
        "state": "running",
        "shutdown_timeout": 0,
        "kernel": guest(hosts, "guest"),
        "kernel_args": "console=ttyS0",
        "memory": "64M",
        "wait_for": [{"console": f"^{GREETING}$"}],
        **found.options,
    }


def guest(hosts: Hosts, name: str, greeting: str = GREETING) -> str:
    """A kernel of this test's that greets and goes on."""
    path = hosts.top / f"{name}.elf"
    path.write_bytes(pvh_guest(greeting, "halt"))
    return str(path)
