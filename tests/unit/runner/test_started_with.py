# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running VM of which it cannot be read with what it was started: it is reported, and can still be stopped, restarted and removed."""

from __future__ import annotations

import os
import pathlib
import subprocess
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.call import Call
from ansible_collections.unkey.vmcp.plugins.module_utils.host import processes
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.store import Store
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.plugins.module_utils.model.merge import fill_defaults
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.info import run_info
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.live import situation
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.vm import run_vm


@pytest.fixture
def store(tmp_path: pathlib.Path) -> t.Iterator[Store]:
    """With a VM whose process is there, answers nobody, and was started with nobody knows what."""
    store = Store(Layout(str(tmp_path / "state"), str(tmp_path / "run")))
    policy = {"on_reboot": "restart", "on_crash": "no", "max_per_hour": 5}
    config = fill_defaults({"boot": {"kernel_path": "/boot/vmlinux"}})
    store.save(Definition(name="web", backend="firecracker", backend_version="1.16.1", binary="/bin/false", config=config, restart_policy=policy))
    vm = store.layout.vm("web")
    os.makedirs(vm.run)
    with subprocess.Popen(["sleep", "60"]) as process:
        pathlib.Path(vm.pid).write_text(f"{process.pid} {processes.start_time(process.pid)} b {processes.host_boot_id()}\n")
        pathlib.Path(vm.booted).write_text('{"schema": 1, "na')
        yield store
        process.kill()


def run(store: Store, state: str, act: bool = False) -> dict[str, t.Any]:
    options = {"name": "web", "state": state, "state_dir": store.layout.state_dir, "run_dir": store.layout.run_dir, "lock_timeout": 5}
    return run_vm(Call(options, act, {}, os.geteuid(), lambda text: None, lambda: None)).result


def test_it_is_part_of_the_answer(store: Store) -> None:
    found = situation(store, "web")
    assert found.definition is not None and found.runs
    assert "With what VM web was started cannot be read" in str(found.booted_unread)
    options = {"names": None, "state_dir": store.layout.state_dir, "run_dir": store.layout.run_dir}
    (shown,) = run_info(Call(options, False, {}, os.geteuid(), lambda text: None, lambda: None)).result["vms"]
    assert shown["error"] == found.booted_unread
    assert shown["state"] == "running"


def test_it_can_be_stopped_restarted_and_removed(store: Store) -> None:
    assert run(store, "shutdown")["actions"][-1] == "kill"
    assert run(store, "restarted")["actions"][-2:] == ["kill", "start"]
    assert run(store, "absent", act=True)["actions"] == ["kill", "remove"]
    assert not situation(store, "web").exists


def test_so_can_one_of_which_nothing_can_be_read(store: Store) -> None:
    pathlib.Path(store.layout.vm("web").definition).write_text("torn")
    found = situation(store, "web")
    assert "Nothing that can be read says which VMM" in str(found.unresponsive)
    assert run(store, "absent", act=True)["actions"] == ["kill", "remove"]
