# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task on somebody else's VMM is refused for, a check of it is refused for in the same words."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.call import Call
from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.vm import run_vm
from ansible_collections.unkey.vmcp.tests.fakes.qmp import QmpServer


def run(socket: pathlib.Path, act: bool, state: str) -> t.Any:
    options = {"name": "web", "state": state, "backend": "qemu", "endpoint": f"unix://{socket}", "state_dir": str(socket.parent), "run_dir": str(socket.parent)}
    return run_vm(Call(options, act, {}, os.geteuid(), lambda text: None, lambda: None)).result


@pytest.mark.parametrize(("state", "words"), [("shutdown", "ends with its VM"), ("absent", "cannot drop its VM"), ("restarted", "ends with its VM")])
@pytest.mark.parametrize("act", [False, True])
def test_what_is_its_owners(tmp_path: pathlib.Path, state: str, words: str, act: bool) -> None:
    with QmpServer(tmp_path / "qmp.sock"), pytest.raises(FailedPrecondition, match=words):
        run(tmp_path / "qmp.sock", act, state)
