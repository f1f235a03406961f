# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restart that was cut off when its process had ended."""

from __future__ import annotations

import os
import pathlib
import typing as t

from ansible_collections.unkey.vmcp.plugins.module_utils.call import Call
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.store import Store
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.plugins.module_utils.model.merge import fill_defaults
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.vm import run_vm


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
