# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible logs and echoes of a task's options."""

from __future__ import annotations

import json
import pathlib
import sys
import syslog
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils import bootstrap
from ansible_collections.unkey.vmcp.plugins.module_utils.argument_specs import HOST, LARGE, LOCK, VMS
from ansible_collections.unkey.vmcp.plugins.module_utils.bootstrap import run
from ansible_collections.unkey.vmcp.plugins.module_utils.call import Call, Outcome
from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition

patch_module_args = pytest.importorskip("ansible.module_utils.testing", reason="this ansible-core has no ansible.module_utils.testing").patch_module_args


def test_large_options_are_neither_logged_nor_echoed_and_reach_the_task(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    logged: list[str] = []
    monkeypatch.setattr(syslog, "syslog", lambda *words: logged.append(str(words[-1])))
    monkeypatch.setattr("ansible.module_utils.basic.has_journal", False)
    entries = [{"name": f"vm-{index}", "kernel_args": "unmistakable"} for index in range(3)]
    seen: list[t.Mapping[str, t.Any]] = []

    def task(call: Call) -> Outcome:
        seen.append(call.options)
        return Outcome({"changed": False})

    given = {"vms": entries, "defaults": {"labels": {"note": "unmistakable"}}, "secrets": {"vm-0": {"metadata": {"token": "tell-nobody"}}}}
    with patch_module_args(given), pytest.raises(SystemExit):
        run({**HOST, **LOCK, **VMS}, task, large=LARGE)
    echoed = json.loads(capsys.readouterr().out)["invocation"]["module_args"]
    assert (echoed["vms"], echoed["defaults"]) == ("3 entries, not repeated here", "1 entries, not repeated here")
    assert seen[0]["vms"] == entries and seen[0]["secrets"] == given["secrets"]
    (line,) = logged
    assert "3 entries" in line
    for text in (line, json.dumps(echoed)):
        assert "unmistakable" not in text and "tell-nobody" not in text


def test_a_task_that_is_too_large_to_be_handed_over_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ansible's respawn would wait for ever: it writes all arguments into a pipe that nobody reads yet."""
    monkeypatch.setattr(bootstrap, "matching_elsewhere", lambda: "/usr/bin/python3.99")
    monkeypatch.setattr(bootstrap, "is_installed", lambda library: False)
    entries = [{"name": f"vm-{index}", "kernel_args": "x" * 100} for index in range(1000)]
    words = r"arguments \(\d{6} bytes\) are too large .* Set ansible_python_interpreter to /usr/bin/python3.99 .*, or split the task"
    with pytest.raises(FailedPrecondition, match=words):
        bootstrap._require_libraries({"vms": entries})


def test_where_nothing_can_be_handed_over_the_interpreter_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under Mitogen, Ansible's respawn has no zip to hand over, and would end in a traceback."""
    monkeypatch.setattr(bootstrap, "matching_elsewhere", lambda: "/usr/bin/python3.99")
    monkeypatch.setattr(bootstrap, "is_installed", lambda library: False)
    with pytest.raises(FailedPrecondition, match=r"\(not Mitogen\) .* Set ansible_python_interpreter to /usr/bin/python3.99 for this host"):
        bootstrap._require_libraries({"name": "web"})


def test_nothing_of_a_task_stays_on_the_path_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible.module_utils.basic.has_journal", False)
    monkeypatch.setattr(bootstrap, "lend_libraries", lambda: sys.path.insert(0, "/opt/vmcp/runtime/x/lib"))
    before = list(sys.path)
    seen: list[list[str]] = []

    def task(call: Call) -> Outcome:
        seen.append(list(sys.path))
        return Outcome({"changed": False})

    with patch_module_args({}), pytest.raises(SystemExit):
        run({**HOST}, task)
    assert (seen, sys.path) == ([["/opt/vmcp/runtime/x/lib", *before]], before)


def test_a_result_is_what_the_core_said(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ansible adds owner, mode and a state of its own ("file") to whatever has a path."""
    monkeypatch.setattr("ansible.module_utils.basic.has_journal", False)
    said = {"changed": False, "path": str(tmp_path), "state": "running"}
    with patch_module_args({}), pytest.raises(SystemExit):
        run({**HOST}, lambda call: Outcome(said))
    result = json.loads(capsys.readouterr().out)
    assert {key: value for key, value in result.items() if key != "invocation"} == said
