# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VMs vmcp_vm_info selects."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.call import Call
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.store import Store
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.plugins.module_utils.model.task import validate_request
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.info import run_info


def test_labels_select_by_what_a_task_gave_them(tmp_path: pathlib.Path) -> None:
    given = {"gold": True, "tier": 1, "zone": "a"}
    request, _violations = validate_request({"name": "web", "labels": given})
    assert request is not None
    layout = Layout(str(tmp_path / "state"), str(tmp_path / "run"))
    labels = request.settings["labels"]
    Store(layout).save(Definition(name="web", backend="qemu", backend_version="7.2.22", binary="/bin/false", config={}, labels=labels))

    def names(**wanted: object) -> list[str]:
        options = {"state_dir": layout.state_dir, "run_dir": layout.run_dir, "labels": wanted}
        return [vm["name"] for vm in run_info(Call(options, True, {}, 0, pytest.fail, lambda: None)).result["vms"]]

    assert names(**given) == names(gold="true") == names() == ["web"]
    assert names(gold=False) == []
