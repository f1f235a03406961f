# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host small enough for unit tests: VMs are defined, changed and removed on it through the runner, in this process; none is started."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.call import Call
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.store import Store
from ansible_collections.unkey.vmcp.plugins.module_utils.runner import nic_lacks
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.vm import run_vm
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.vms import run_vms

Tree = dict[str, t.Any]


class Host:
    """A host with a Firecracker that can say its version, a tap and a kernel. Its state directory survives, its run-time directory does not."""

    def __init__(self, top: pathlib.Path) -> None:
        self.state, self.run_dir = top / "state", top / "run"
        self.kernel = top / "kernel"
        self.kernel.write_bytes(b"\x7fELF" + bytes(1024))
        self.given: Tree = {"backend": "firecracker", "kernel": str(self.kernel), "networks": ["tap7"], "security": {"jail": False}}
        self.store = Store(Layout(str(self.state), str(self.run_dir)))

    def task(self, name: str = "web", act: bool = True, **options: t.Any) -> Tree:
        asked = {"name": name, "state": "present", "lock_timeout": 5, "state_dir": str(self.state), "run_dir": str(self.run_dir), **options}
        return dict(run_vm(Call(asked, act, {}, os.geteuid(), lambda text: None, lambda: None)).result)

    def tasks(self, vms: t.Sequence[Tree], **options: t.Any) -> Tree:
        """The same for many VMs in one task."""
        asked = {"vms": list(vms), "lock_timeout": 5, "state_dir": str(self.state), "run_dir": str(self.run_dir), **options}
        return dict(run_vms(Call(asked, True, {}, os.geteuid(), lambda text: None, lambda: None)).result)

    def lose_power(self) -> None:
        shutil.rmtree(self.run_dir, ignore_errors=True)
        shutil.rmtree(f"{self.run_dir}.locks", ignore_errors=True)

    def table(self) -> Tree:
        return json.loads((self.state / "allocations.json").read_text())["vms"]  # type: ignore[no-any-return]


@contextlib.contextmanager
def small_host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Host]:
    binaries, net = tmp_path / "bin", tmp_path / "net"
    (net / "tap7").mkdir(parents=True)
    (net / "tap7" / "tun_flags").touch()
    binaries.mkdir()
    (binaries / "firecracker").write_text("#!/bin/sh\necho Firecracker v1.16.1\n")
    (binaries / "firecracker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{binaries}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(nic_lacks, "NET", str(net))
    # In memory: thousands of syncs there cost nothing, and nothing here needs a real one.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    top = pathlib.Path(tempfile.mkdtemp(prefix="vmcp-host", dir=memory))
    try:
        yield Host(top)
    finally:
        shutil.rmtree(top)
