# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition, Internal, InvalidArgument
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.store import Store
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.tests.removals import remove_vm


@pytest.fixture
def store(tmp_path: pathlib.Path) -> Store:
    return Store(Layout(str(tmp_path / "state"), str(tmp_path / "run")))


def definition(name: str) -> Definition:
    return Definition(
        name=name, backend="qemu", backend_version="7.2.22", binary="/usr/bin/qemu-system-x86_64", config={"cpu": {"vcpu_count": 1}}, extra={"later": 1}
    )


def test_a_directory_that_no_path_can_name_is_refused() -> None:
    for state, run in (("/srv/a\0b", None), (None, "/run/a\0b")):
        with pytest.raises(InvalidArgument, match="NUL"):
            Store(Layout.resolve(state, run, {}, 0))


def test_a_definition_comes_back_as_it_was_saved(store: Store) -> None:
    assert store.names() == []
    assert store.load("web") is None
    store.save(definition("web"))
    assert store.load("web") == definition("web")
    assert store.names() == ["web"]
    vm = store.layout.vm("web")
    assert os.stat(vm.dir).st_mode & 0o777 == 0o711
    assert os.stat(vm.data).st_mode & 0o777 == 0o700
    assert os.stat(vm.definition).st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("text", "error"), [('{"schema": 1, "na', Internal), ("", Internal), ('{"schema": 99, "collection_version": "9.0.0"}', FailedPrecondition)]
)
def test_a_vm_that_cannot_be_read_is_listed_and_can_be_removed(store: Store, text: str, error: type[Exception]) -> None:
    store.save(definition("good"))
    store.save(definition("bad"))
    pathlib.Path(store.layout.vm("bad").definition).write_text(text)
    assert store.names() == ["bad", "good"]
    with pytest.raises(error):
        store.load("bad")
    assert store.load("good") == definition("good")
    assert remove_vm(store.layout, "bad") is True
    assert store.names() == ["good"]


def test_removal_leaves_nothing_and_does_not_follow_what_the_vm_planted(store: Store, tmp_path: pathlib.Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_text("keep")
    store.save(definition("web"))
    vm = store.layout.vm("web")
    os.symlink(outside, f"{vm.data}/disks")
    store.save_satisfied("web", {"digest": "x"})
    assert remove_vm(store.layout, "web") is True
    assert remove_vm(store.layout, "web") is False
    assert store.has_remains("web") is False
    assert os.listdir(store.layout.vms) == []
    assert (outside / "keep").exists()


def test_a_removal_that_was_cut_off_is_finished_by_the_next(store: Store) -> None:
    store.save(definition("web"))
    os.rename(store.layout.vm("web").dir, f"{store.layout.vms}/.removing-web")
    assert store.names() == []
    store.save(definition("other"))
    remove_vm(store.layout, "other")
    assert os.listdir(store.layout.vms) == []


def test_data_is_kept_when_asked(store: Store) -> None:
    store.save(definition("web"))
    vm = store.layout.vm("web")
    pathlib.Path(vm.data, "disk").write_text("data")
    pathlib.Path(vm.console_log).write_text("console")
    assert remove_vm(store.layout, "web", keep_data=True)
    assert os.listdir(vm.dir) == ["data"]
    assert pathlib.Path(vm.data, "disk").read_text() == "data"
    assert store.names() == []


def test_kept_data_is_told_from_what_a_run_left_that_was_cut_off(store: Store) -> None:
    assert store.has_only_data("web") is False
    store.save(definition("web"))
    assert store.has_only_data("web") is False
    remove_vm(store.layout, "web", keep_data=True)
    assert store.has_only_data("web") is True
    os.makedirs(store.layout.vm("web").run)
    assert store.has_only_data("web") is False


def test_remains_of_a_run_that_was_cut_off_are_seen(store: Store) -> None:
    assert store.has_remains("web") is False
    os.makedirs(store.layout.vm("web").dir)
    assert store.has_remains("web") is True
    assert store.names() == []
    assert remove_vm(store.layout, "web") is True


def test_the_nearest_name_is_offered(store: Store) -> None:
    assert store.not_found("web", "start").msg.endswith("/vms. There is none yet.")
    for name in ("web-1", "database"):
        store.save(definition(name))
    error = store.not_found("web1", "start")
    assert re.search(r"Cannot start 'web1': no such VM in .*/vms\. Did you mean 'web-1'\?", error.msg)
    assert error.details["searched"] == [store.layout.vms]
    assert store.not_found("mail", "start").msg.endswith("/vms. There are database, web-1.")


def test_secrets_are_apart_and_compared_by_a_keyed_digest(store: Store) -> None:
    store.save(definition("web"))
    assert store.secrets("web") == {}
    assert store.secrets_digest("web", {"metadata": {"token": "s3cret"}}) is None
    digest = store.save_secrets("web", {"metadata": {"token": "s3cret"}})
    path = store.layout.vm("web").secrets
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert store.secrets("web") == {"metadata": {"token": "s3cret"}}
    assert store.secrets_digest("web", {"metadata": {"token": "s3cret"}}) == digest
    assert store.secrets_digest("web", {"metadata": {"token": "other"}}) != digest
    assert store.save_secrets("web", {"metadata": {"token": "s3cret"}}) == digest
    store.save(definition("api"))
    assert store.save_secrets("api", {"metadata": {"token": "s3cret"}}) != digest


def test_torn_secrets_are_told_without_their_content(store: Store) -> None:
    store.save(definition("web"))
    pathlib.Path(store.layout.vm("web").secrets).write_text('{"schema": 1, "values": {"token": "s3cret"')
    with pytest.raises(Internal) as error:
        store.secrets("web")
    assert "s3cret" not in error.value.msg


def test_the_cache_is_only_a_cache(store: Store) -> None:
    assert store.satisfied("web") is None
    store.save_satisfied("web", {"digest": "x"})
    assert store.satisfied("web") == {"digest": "x"}
    for torn in ("{", "[]", ""):
        pathlib.Path(store.layout.vm("web").satisfied).write_text(torn)
        assert store.satisfied("web") is None
    store.save_satisfied("web", None)
    store.save_satisfied("web", None)
    assert store.satisfied("web") is None


def test_what_the_process_was_started_with_is_read_apart(store: Store) -> None:
    store.save(definition("web"))
    assert store.booted("web") is None
    vm = store.layout.vm("web")
    os.makedirs(vm.run, exist_ok=True)
    pathlib.Path(vm.booted).write_text(dataclasses.replace(definition("web"), backend_version="7.1").to_json())
    assert store.booted("web").backend_version == "7.1"
    assert json.loads(pathlib.Path(vm.definition).read_text())["later"] == 1
