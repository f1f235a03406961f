# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stops that did not come to their end."""

from __future__ import annotations

import os
import pathlib
import subprocess
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.call import Call
from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition
from ansible_collections.unkey.vmcp.plugins.module_utils.host import processes
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.store import Store
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.plugins.module_utils.model.merge import fill_defaults
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.vm import run_vm
from ansible_collections.unkey.vmcp.tests.hosts.small import small_host


def test_a_shutdown_takes_it_back(tmp_path: pathlib.Path) -> None:
    layout = Layout(str(tmp_path / "state"), str(tmp_path / "run"))
    vm = layout.vm("web")
    config = fill_defaults({"boot": {"kernel_path": "/boot/vmlinux"}})
    security = {"jail": True, "seccomp": True}
    policy = {"on_reboot": "restart", "on_crash": "no", "max_per_hour": 5}
    Store(layout).save(
        Definition(name="web", backend="qemu", backend_version="7.2.22", binary="/bin/false", config=config, security=security, restart_policy=policy)
    )
    os.makedirs(vm.run)
    pathlib.Path(vm.restarting).touch()

    def actions(act: bool, state: str) -> t.Any:
        options = {"name": "web", "state": state, "state_dir": layout.state_dir, "run_dir": layout.run_dir, "lock_timeout": 5}
        return run_vm(Call(options, act, {}, os.geteuid(), lambda text: None, lambda: None)).result["actions"]

    assert "start" in actions(False, "present")
    assert actions(False, "shutdown") == []
    assert os.path.lexists(vm.restarting), "a check takes nothing back"
    assert actions(True, "shutdown") == []
    assert "start" not in actions(False, "present")


def test_a_stop_that_failed_leaves_no_mark(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of the task may live on (Mitogen): the mark would make a later crash a stop that was asked for."""
    with small_host(tmp_path, monkeypatch) as host, subprocess.Popen(["sleep", "600"]) as vmm:
        host.task(**host.given)
        vm = host.store.layout.vm("web")
        os.makedirs(vm.run, exist_ok=True)
        pathlib.Path(vm.pid).write_text(f"{vmm.pid} {processes.start_time(vmm.pid)} boot-1 {processes.host_boot_id()}\n")
        # Whoever clears up after it refuses to run a file that anybody may have written.
        os.chmod(vm.launch, 0o666)
        with pytest.raises(FailedPrecondition, match="not ours alone to write") as failed:
            host.task(state="shutdown", shutdown_timeout=0)
        assert failed.value.details["actions"] == ["kill"] and vmm.wait(10) == -9
        assert os.path.exists(vm.pid) and not os.path.exists(vm.stopping)
