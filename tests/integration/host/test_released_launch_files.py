# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Launch files as released versions wrote them (tests/fixtures/launch/FORMAT): this version starts, sees, asks and ends what they run. Such a file stays
on a host until its VM is changed. Files in there are never edited; a new format gets a directory of its own."""

from __future__ import annotations

import os
import pathlib
import signal
import typing as t

import pytest
from vms import Maker, made_below

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import Isolation
from ansible_collections.unkey.vmcp.plugins.module_utils.host import events, processes
from ansible_collections.unkey.vmcp.plugins.module_utils.host.launchfile import FORMAT
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import VmLayout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.supervisors.plain import PlainSupervisor
from ansible_collections.unkey.vmcp.tests.cases import FIXTURES
from ansible_collections.unkey.vmcp.tests.waiting import soon, until

TOP = FIXTURES / "launch"
UIDS: dict[str, int | None] = {"bare": None, "isolated": 70123}


@pytest.fixture
def maker() -> t.Iterator[Maker]:
    """In a directory whose name needs no quotes: it takes the place of another one in the file."""
    with made_below("vmcp-launch-", "stub") as made:
        yield made


def released(maker: Maker, directory: pathlib.Path, name: str) -> VmLayout:
    uid = UIDS[name]
    vm = maker.define(name, maker.stub_spec("stay"), Isolation(uid=uid, jail=uid is not None, seccomp=True))
    for file in ("launch", "policy"):
        text = (directory / f"{name}.{file}.txt").read_text()
        pathlib.Path(vm.dir, file).write_text(text.replace("@TOP@", str(maker.stub.parent)).replace("@SHEBANG@", "#!/bin/sh"))
    return vm


def test_every_format_has_its_files() -> None:
    assert sorted(int(path.name) for path in TOP.iterdir()) == list(range(1, FORMAT + 1))


@pytest.mark.parametrize("directory", sorted(TOP.iterdir()), ids=lambda path: path.name)
@pytest.mark.parametrize("name", UIDS)
def test_it_starts_is_restarted_by_its_policy_and_ends(maker: Maker, directory: pathlib.Path, name: str) -> None:
    if UIDS[name] is not None and os.geteuid() != 0:
        pytest.skip("only root gives a VM a uid of its own")
    plain = PlainSupervisor(maker.layout, trim_interval_s=1, console_max_bytes=1 << 20)
    vm = released(maker, directory, name)
    assert plain.start([vm], soon(60)) == {}
    first = until(lambda: processes.current(vm), "it runs")
    # With no socket to wait for, the start is through before the privileges are dropped.
    until(lambda: "stub speaking" in pathlib.Path(vm.console_log).read_text(), "its console is where it should be")
    assert os.stat(f"/proc/{first.pid}").st_uid == (UIDS[name] or os.geteuid())
    processes.send(vm, signal.SIGSEGV)
    until(lambda: (now := processes.current(vm)) is not None and now.boot_id != first.boot_id and os.path.exists(vm.up), "its policy starts it again")
    plain.kill(vm, soon(60))
    assert [event["event"] for event in events.read(vm)] == ["start", "boot", "exit"] * 2
    last = events.last_exit(events.read(vm))
    assert last is not None and (last.reason, last.signal) == ("request", "SIGKILL")
    assert processes.recorded(vm) is None
