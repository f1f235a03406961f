# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which supervisor starts a VM with the host, after it was handed from one to another."""

from __future__ import annotations

import dataclasses
import os
import pathlib

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.supervisors import systemd
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.live import start_with_host


def test_systemd_starts_no_vm_that_was_taken_from_it(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "UNIT_DIR", str(tmp_path / "units"))
    layout = Layout(str(tmp_path / "state"), str(tmp_path / "run"))
    vm = layout.vm("web")
    former = Definition(name="web", backend="qemu", backend_version="7.2.22", binary="/bin/false", config={}, supervisor="systemd", autostart=True)
    systemd.SystemdSupervisor(layout).set_autostart(vm, True)
    link = tmp_path / "units" / "vmcp.target.wants" / "vmcp-vm@web.service"
    assert os.path.lexists(link)
    start_with_host(layout, vm, dataclasses.replace(former, supervisor="plain"), former)
    assert not os.path.lexists(link)
