# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are written together: in order, durably, all or nothing of what failed before it had its name."""

from __future__ import annotations

import os
import pathlib

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition
from ansible_collections.unkey.vmcp.plugins.module_utils.host import allocations, writing
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.locks import held
from ansible_collections.unkey.vmcp.plugins.module_utils.host.store import Store
from ansible_collections.unkey.vmcp.plugins.module_utils.host.writing import FileText, Writing, commit
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.tests.removals import remove_vms


def written(root: pathlib.Path, count: int) -> list[Writing]:
    made = []
    for index in range(count):
        (root / str(index)).mkdir()
        one = Writing()
        one.add(FileText(f"{root}/{index}/vm.json", "definition"), rank=1)
        one.add(FileText(f"{root}/{index}/launch", "launch"))
        made.append(one)
    return made


@pytest.mark.parametrize("count", [1, 2 * writing.FEW_FILES])
def test_every_rank_is_durable_before_the_next_has_its_names(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    log: list[str] = []
    rename, fsync, whole = os.rename, os.fsync, writing.sync_file_system
    monkeypatch.setattr(os, "rename", lambda old, new: (log.append(os.path.basename(new)), rename(old, new)))
    monkeypatch.setattr(os, "fsync", lambda fd: (log.append("sync"), fsync(fd)))
    monkeypatch.setattr(writing, "sync_file_system", lambda root: (log.append("sync"), whole(root))[1])
    commit(written(tmp_path, count), str(tmp_path))
    order = [word for index, word in enumerate(log) if index == 0 or log[index - 1] != word]
    assert order == ["sync", "launch", "sync", "vm.json", "sync"]
    assert log.count("launch") == log.count("vm.json") == count
    assert count == 1 or log.count("sync") == 3, "one sync for all of a rank"
    assert sorted(os.listdir(tmp_path / "0")) == ["launch", "vm.json"]


def test_what_fails_leaves_no_half(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = written(tmp_path, 3)

    def full(path: str) -> None:
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(writing, "sync_file", full)
    with pytest.raises(FailedPrecondition, match="Free space on that file system"):
        commit(made, str(tmp_path))
    assert [os.listdir(tmp_path / str(index)) for index in range(3)] == [[], [], []]


def test_a_file_that_is_the_same_is_left_alone(tmp_path: pathlib.Path) -> None:
    (tmp_path / "launch").write_text("same")
    (tmp_path / "launch").chmod(0o600)
    before = os.stat(tmp_path / "launch").st_ino
    one = Writing()
    one.add_if_different(FileText(f"{tmp_path}/launch", "same"))
    commit([one], str(tmp_path))
    assert os.stat(tmp_path / "launch").st_ino == before


# --- many at once -------------------------------------------------------------------------------------------
@pytest.fixture
def layout(tmp_path: pathlib.Path) -> Layout:
    return Layout(str(tmp_path / "state"), str(tmp_path / "run"))


def test_many_are_given_what_they_want_in_one_write(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[str] = []
    real = allocations.write_atomic
    monkeypatch.setattr(allocations, "write_atomic", lambda path, text: (writes.append(path), real(path, text)))
    wanted = {f"vm-{index}": allocations.Wanted(["eth0", "eth1"], (70000, 79999)) for index in range(200)}
    predicted = allocations.predict_all(layout, wanted)
    given = allocations.allocate_all(layout, wanted, lock_timeout_s=200)
    assert given == predicted and len(writes) == 1
    for values in ([a.uid for a in given.values()], [a.cid for a in given.values()]):
        assert len(set(values)) == 200
    for by_nic in ([a.macs for a in given.values()], [a.taps for a in given.values()]):
        assert len({value for nics in by_nic for value in nics.values()}) == 400
    assert allocations.uids_free(layout, (70000, 79999)) == 9800
    assert allocations.allocate_all(layout, wanted, lock_timeout_s=200) == given and len(writes) == 1
    assert allocations.release_all(layout, ["vm-1", "vm-2", "nobody"], lock_timeout_s=200) == ["vm-1", "vm-2"]
    assert len(writes) == 2


@pytest.mark.parametrize("more", [0, 40])
def test_many_are_removed_and_given_back_once(layout: Layout, more: int) -> None:
    store = Store(layout)
    others = [f"fn-{index}" for index in range(more)]
    for name in ("a", "b", "c", *others):
        store.save(Definition(name, "qemu", "7.2", "/q", {}))
        os.makedirs(f"{layout.vm(name).run}/vmm")
    os.makedirs(f"{layout.vms}/.removing-old/data")
    told: list[list[str]] = []
    found = remove_vms(layout, ["a", "b", "nobody", *others], give_back=told.append)
    assert found == {"a": True, "b": True, "nobody": False, **dict.fromkeys(others, True)}
    assert told == [["old"], ["a", "b", "nobody", *others]], "what a removal had that was cut off is given back too"
    assert os.listdir(layout.vms) == ["c"] and os.listdir(layout.run_dir) == ["c"]


def test_what_a_removal_left_that_was_cut_off_is_left_to_whoever_has_its_lock(layout: Layout) -> None:
    os.makedirs(f"{layout.vms}/.removing-busy/data")
    os.makedirs(f"{layout.vms}/.removing-anew/data")
    Store(layout).save(Definition("anew", "qemu", "7.2", "/q", {}))
    told: list[list[str]] = []
    with held(layout.vm("busy").lock, "another task", 1):
        remove_vms(layout, ["nobody"], give_back=told.append)
    assert told == [["nobody"]], "what the new VM of that name has stays its own"
    assert sorted(os.listdir(layout.vms)) == [".removing-busy", "anew"]
