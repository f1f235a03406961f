# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host loses power at any point of a task: every VM is found, and is started by its launch file alone, as before the task or as after it; and the task
run again ends where it would have."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.host.writing import are_few
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.tests.cases import FIXTURES
from ansible_collections.unkey.vmcp.tests.hosts.small import Host, Tree, small_host
from ansible_collections.unkey.vmcp.tests.power_loss import State, look, possible_states, put, record


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Host]:
    with small_host(tmp_path, monkeypatch) as made:
        made.task("other", **made.given, labels={"neighbour": "yes"})
        yield made


def plain(definition: Definition | None) -> Definition | None:
    """Without what is chosen anew when all of it was lost."""
    return definition and dataclasses.replace(definition, created_at="", generated={}, metadata_digest=None)


def go_through(host: Host, task: Tree, at_least: int) -> None:
    """Records the task, and finds the host in every state that a loss of power in its midst may leave."""
    other, other_table = host.store.load("other"), host.table()["other"]
    before, start, before_files = host.store.load("web"), look(host.state), started_from(host, "web")
    made = record(host.state, lambda: host.task(**task))
    after, after_files = host.store.load("web"), started_from(host, "web")
    assert plain(before) != plain(after)
    states = 0
    for count, found in possible_states(made):
        states += 1
        put(host.state, found)
        host.lose_power()
        where = f"after {count} of {len(made.done)}: {sorted(found)}"
        assert host.store.load("other") == other and host.table()["other"] == other_table, where
        web = host.store.load("web")
        assert web in (before, after), where
        if web is not None:
            wanted, booted = (before_files if web == before else after_files), started_from(host, "web")
            assert booted == wanted or (after is None and not booted["launch"]), f"started as another than it is said to be, {where}"
            assert host.store.load("web") == web, where
            given = host.table()["web"]
            assert (web.generated["uid"], web.generated["cid"]) == (given.get("uid"), given["cid"]), f"given out before it was used, {where}"
        host.task(**task)
        ended = host.store.load("web")
        assert plain(ended) == plain(after), where
        assert host.task(**task)["changed"] is False, where
        assert host.store.load("other") == other, where
        if after is None and not task.get("keep"):
            assert not host.store.has_remains("web") and "web" not in host.table(), where
    assert states >= at_least, f"{states} states of {len(made.done)} calls"
    put(host.state, start)


def test_a_definition(host: Host) -> None:
    go_through(host, {**host.given, "labels": {"a": "b"}, "metadata": {"key": "secret"}}, at_least=8)


def test_a_first_definition_of_all(host: Host) -> None:
    """Not even the directories are there."""
    shutil.rmtree(host.state)
    host.state.mkdir()
    made = record(host.state, lambda: host.task(**host.given))
    for count, found in possible_states(made):
        put(host.state, found)
        host.lose_power()
        assert host.store.names() in ([], ["web"]), count
        for name in host.store.names():
            host.store.load(name)
        host.task(**host.given)
        assert host.store.names() == ["web"] and host.task(**host.given)["changed"] is False


@pytest.mark.parametrize("launch", ["of this version", "of a released version"])
def test_an_update(host: Host, launch: str) -> None:
    """Of all that a VM is started from, and of what is said of it alone."""
    host.task(**host.given, metadata={"key": "secret"})
    if launch == "of a released version":
        # It knows nothing of files that follow it.
        pathlib.Path(host.store.layout.vm("web").launch).write_text((FIXTURES / "launch" / "1" / "bare.launch.txt").read_text())
    other = host.kernel.with_name("other-kernel")
    shutil.copy(host.kernel, other)
    policy = {"on_crash": "restart", "max_per_hour": 2}
    asked = {"kernel": str(other), "memory": "256M", "vcpus": 2, "labels": {"a": "b"}, "metadata": {"key": "other"}, "restart_policy": policy}
    go_through(host, {**host.given, **asked}, at_least=50)


def test_an_update_that_launch_files_say_nothing_of(host: Host) -> None:
    host.task(**host.given)
    launch = pathlib.Path(host.store.layout.vm("web").launch)
    inode = launch.stat().st_ino
    host.task(**host.given, labels={"a": "b"})
    assert launch.stat().st_ino == inode, "it is left alone"
    go_through(host, {**host.given, "labels": {"c": "d"}}, at_least=3)


@pytest.mark.parametrize("keep", [[], ["disks"]])
def test_a_removal(host: Host, keep: list[str]) -> None:
    host.task(**host.given, metadata={"key": "secret"})
    data = pathlib.Path(host.store.layout.vm("web").data)
    (data / "disk").write_text("data")
    go_through(host, {"state": "absent", "keep": keep}, at_least=8)


MANY = [f"fn-{index}" for index in range(9)]


@pytest.mark.parametrize("what", ["creation", "update", "removal"])
def test_many_in_one_task(host: Host, what: str) -> None:
    """Their files are made durable by one call for all of them, in the order of one."""
    assert not are_few(2 * len(MANY)), "another path than that of few files"
    given = {key: value for key, value in host.given.items() if key != "networks"}
    made: Tree = {"defaults": {**given, "state": "present", "labels": {"fleet": "fn"}}, "vms": [{"name": name} for name in MANY]}
    asked = {
        "creation": made,
        "update": {**made, "defaults": {**made["defaults"], "memory": "256M", "vcpus": 2}},
        "removal": {"vms": [], "prune": {"labels": {"fleet": "fn"}, "allow_empty": True}},
    }[what]
    if what != "creation":
        host.tasks(**made)
    other, before, before_files = host.store.load("other"), [host.store.load(name) for name in MANY], [started_from(host, name) for name in MANY]
    recorded = record(host.state, lambda: host.tasks(**asked))
    assert what == "removal" or any(done.what == "sync_all" for done in recorded.done)
    after, after_files = [host.store.load(name) for name in MANY], [started_from(host, name) for name in MANY]
    states = 0
    for count, found in possible_states(recorded, every=3):
        states += 1
        put(host.state, found)
        host.lose_power()
        where = f"after {count} of {len(recorded.done)}: {sorted(found)}"
        assert host.store.load("other") == other, where
        for index, name in enumerate(MANY):
            now = host.store.load(name)
            assert now in (before[index], after[index]), where
            if now is not None:
                wanted = before_files[index] if now == before[index] else after_files[index]
                assert started_from(host, name) == wanted, f"started as another than it is said to be, {where}"
        host.tasks(**asked)
        assert [plain(host.store.load(name)) for name in MANY] == list(map(plain, after)), where
        assert host.tasks(**asked)["changed"] is False and host.store.load("other") == other, where
    assert states >= 40, f"{states} states of {len(recorded.done)} calls"


def started_from(host: Host, name: str) -> dict[str, str | None]:
    """What a VM is started from when the host comes back and there is no task: by its launch file, which settles what was under way."""
    top = pathlib.Path(host.store.layout.vm(name).dir)
    launch = top / "launch"
    if launch.exists() and "settle)" in launch.read_text() and any(top.glob("*.follows-*")):
        subprocess.run(["/bin/sh", str(launch), "settle"], check=True, timeout=60)
    files = {file: top / file for file in ("launch", "firecracker.json", "metadata.json", "policy")}
    # Of which definition it is shows by all the others.
    return {name: re.sub("^follows=.*$", "", file.read_text(), flags=re.MULTILINE) if file.exists() else None for name, file in files.items()}


def test_the_record_tells_what_is_sure_from_what_is_not(tmp_path: pathlib.Path) -> None:
    """A writer that syncs nothing is found out: the test of this test."""
    (tmp_path / "file").write_text("old")

    def careless() -> None:
        fd = os.open(tmp_path / "new", os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(fd, b"new!")
        os.close(fd)
        os.rename(tmp_path / "new", tmp_path / "file")

    made = record(tmp_path, careless)
    found = [state for _count, state in possible_states(made)]
    for content in (b"old", b"", b"ne", b"new!"):
        assert any(state.get("file") == content for state in found), content
    assert State(made).after(len(made.done)).found(everything=True) == {"file": b"new!"}
