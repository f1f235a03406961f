# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who names a file or device of the user's, by whatever name, and when that is looked at."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.host import processes
from ansible_collections.unkey.vmcp.plugins.module_utils.host.block_devices import BlockDevices, Standing
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.store import Store
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.path_users import Other, PathUsers, fresh_paths
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.shelf import Shelves


@pytest.fixture
def store(tmp_path: pathlib.Path) -> Store:
    return Store(Layout(str(tmp_path / "state"), str(tmp_path / "run")))


def defined(name: str, *entries: dict[str, t.Any]) -> Definition:
    return Definition(name, "qemu", "7.2.0", "/q", {"storage": [{"id": f"d{index}", **entry} for index, entry in enumerate(entries)]})


def test_a_file_is_known_by_all_its_names(store: Store, tmp_path: pathlib.Path) -> None:
    file, link, hard = tmp_path / "disk.raw", tmp_path / "link", tmp_path / "hard"
    file.write_bytes(b"disk")
    link.symlink_to(file)
    os.link(file, hard)
    store.save(defined("db", {"path": str(file)}))
    for path in (file, link, hard, tmp_path / "." / "disk.raw"):
        assert PathUsers(store).others(str(path), "web")[0][:2] == ("db", False), path
        assert PathUsers(store).others(str(path), "db") == (), "its own"
        assert PathUsers(store, but=["db"]).others(str(path), "web") == ()
    assert PathUsers(store).others(str(tmp_path / "other"), "web") == ()


class Built(BlockDevices):
    """Partitions that this host has not."""

    def standing(self, path: str) -> Standing:
        return {"/dev/sda": Standing("sda", (path,)), "/dev/sda1": Standing("sda1", (path,), frozenset({"sda"}))}.get(path) or Standing(path, (path,))


def test_a_part_of_a_disk_is_not_given_beside_the_whole(store: Store) -> None:
    store.save(defined("a", {"path": "/dev/sda1"}))
    store.save(defined("b", {"path": "/dev/sdb"}, {"path": "/dev/sda1", "read_only": True}))
    found = PathUsers(store, devices=Built())
    assert found.others("/dev/sda", "web") == (Other("a", False, "/dev/sda1"),) == found.others("/dev/sda1", "web")
    assert found.others("/dev/sda", "a") == (Other("b", True, "/dev/sda1"),)
    found.claim("c", [{"path": "/dev/sda"}])
    assert found.others("/dev/sda1", "a", "b") == (Other("c", False, "/dev/sda"),)
    assert found.others("/dev/sdc", "web") == ()


def test_what_is_not_there_yet_is_known_by_its_name(store: Store, tmp_path: pathlib.Path) -> None:
    (tmp_path / "link").symlink_to("later.raw")
    store.save(defined("db", {"path": f"{tmp_path}/later.raw"}))
    assert PathUsers(store).others(str(tmp_path / "link"), "web")[0][:2] == ("db", False)


def test_one_that_writes_comes_before_those_that_read(store: Store, tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "iso")
    store.save(defined("a", {"path": path, "read_only": True}))
    assert PathUsers(store).others(path, "web")[0][:2] == ("a", True)
    users = PathUsers(store)
    users.claim("b", [{"path": path}])
    assert users.others(path, "web")[0][:2] == ("b", False)
    users.claim("c", [{"path": path}])
    assert users.others(path, "b")[0][:2] == ("c", False), "also what is claimed after somebody asked"


def test_what_runs_has_what_it_was_started_with(store: Store, tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "disk")
    store.save(defined("db"))
    vm = store.layout.vm("db")
    pathlib.Path(vm.booted).write_text(defined("db", {"path": path}).to_json())
    assert PathUsers(store).others(path, "web") == (), "it has ended, and left that behind"
    pathlib.Path(vm.pid).parent.mkdir(parents=True)
    pathlib.Path(vm.pid).write_text(f"{os.getpid()} {processes.start_time(os.getpid())} boot-1 {processes.host_boot_id()}\n")
    assert PathUsers(store).others(path, "web")[0][:2] == ("db", False)


def test_what_cannot_be_read_names_nothing(store: Store, tmp_path: pathlib.Path) -> None:
    for name, text in (("a", "{"), ("b", "[]"), ("c", '{"config": {"storage": 5}}'), ("d", '{"config": null}')):
        store.save(defined(name))
        pathlib.Path(store.layout.vm(name).definition).write_text(text)
    store.save(defined("e", {"path": str(tmp_path / "disk")}))
    assert PathUsers(store).others(str(tmp_path / "disk"), "web")[0][:2] == ("e", False)


def test_only_a_path_that_is_new_to_the_vm_is_looked_after() -> None:
    rw, ro = {"path": "/a"}, {"path": "/a", "read_only": True}
    assert fresh_paths([rw], []) == {"/a"} == fresh_paths([ro], []) == fresh_paths([rw], [ro]) == fresh_paths([rw, {"path": "/b"}], [{"path": "/b"}])
    assert fresh_paths([rw], [rw]) == set() == fresh_paths([ro], [rw]) == fresh_paths([ro], [ro]) == fresh_paths([{"disk": "data"}], [])


def test_a_vm_that_is_to_replace_another_may_name_its_disks(store: Store, tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "disk")
    store.save(defined("web", {"path": path}, {"disk": "data"}))
    given = {"storage": [{"path": path}, {"disk": "data"}]}
    for labels, free in (({"vmcp-replaces": "web"}, True), ({"vmcp-replaces": "db"}, False), ({}, False), (None, False)):
        shelf = Shelves(store).of("web-qemu", None, given, labels)
        assert shelf is not None and (shelf.files == {}) == free, labels
        assert Shelves(store)._other_users("data", ("web-qemu", (labels or {}).get("vmcp-replaces"))) == (() if free else (("web", False),))


class Watched(Store):
    def names(self) -> list[str]:
        raise AssertionError("all VMs of the host were gone through")


def test_nobody_goes_through_all_vms_for_one_that_stays_as_it_is(store: Store, tmp_path: pathlib.Path) -> None:
    had = defined("web", {"path": str(tmp_path / "disk")})
    store.save(had)
    shelves = Shelves(Watched(store.layout))
    shelves.claim(had)
    assert shelves.of("web", had, had.config) is None and shelves.of("web", had, {"memory": {"size_bytes": 1}}) is None
    with pytest.raises(AssertionError, match="gone through"):
        shelves.of("web", had, {"storage": [{"path": str(tmp_path / "other")}]})
