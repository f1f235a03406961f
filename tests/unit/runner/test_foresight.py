# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run would be refused for is seen before it: on check mode's word, too, and before anything is written."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import InvalidArgument
from ansible_collections.unkey.vmcp.plugins.module_utils.host.host_json import HostDefaults
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.store import Store
from ansible_collections.unkey.vmcp.plugins.module_utils.model.config import VmConfig
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.plugins.module_utils.model.merge import fill_defaults
from ansible_collections.unkey.vmcp.plugins.module_utils.runner import nic_lacks
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.lacks import binary_lacks, host_lacks
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.launching import foresee


@pytest.fixture
def store(tmp_path: pathlib.Path) -> Store:
    return Store(Layout(str(tmp_path / "state"), str(tmp_path / "run")))


def definition(backend: str, config: dict[str, t.Any]) -> Definition:
    tree = fill_defaults({"boot": {"kernel_path": "/boot/vmlinux"}, **config})
    helpers = {"jailer": "/opt/jailer"} if backend == "firecracker" else {}
    return Definition(name="web", backend=backend, backend_version="7.2.22", binary="/opt/vmm", config=tree, helpers=helpers, security={"jail": True})


@pytest.mark.parametrize(
    ("backend", "config", "field"),
    [
        ("firecracker", {"vsock": {"path": "/run/x.sock"}}, "config.vsock.path"),
        ("qemu", {"backend_options": {"qemu": {"machine": {"a,b": 1}}}}, "config.backend_options.qemu.machine.a,b"),
    ],
)
def test_what_a_vmm_cannot_be_told_is_refused_before_anything_is_written(store: Store, backend: str, config: dict[str, t.Any], field: str) -> None:
    wrong = foresee(store, [(definition(backend, config), None)], HostDefaults(), True)["web"]
    assert isinstance(wrong, InvalidArgument)
    assert [v.field for v in wrong.violations] == [field]
    assert not os.path.exists(store.layout.state_dir)


def test_a_helper_that_is_missing_is_a_lack_of_the_host(store: Store) -> None:
    lacks = foresee(store, [(definition("cloudhypervisor", {}), None)], HostDefaults(), True)["web"]
    assert isinstance(lacks, list)
    [lack] = lacks
    assert "ch-remote" in lack.message


def test_what_can_be_launched_lacks_nothing(store: Store) -> None:
    vsock = {"vsock": {}, "network": [{"id": "net0", "tap_device": "tap0"}]}
    for backend in ("firecracker", "qemu"):
        seen = foresee(store, [(definition(backend, vsock), {"a": 1})], HostDefaults(), True)["web"]
        assert isinstance(seen, tuple) and seen[1].text.startswith("#!/bin/sh")


def test_a_pinned_binary_that_is_gone_is_a_lack(tmp_path: pathlib.Path) -> None:
    assert binary_lacks("") == []
    assert binary_lacks("/bin/sh") == []
    assert "missing or not executable" in binary_lacks(str(tmp_path / "gone"))[0].message


def test_places_of_the_users_choice_for_console_and_sockets_are_looked_at(tmp_path: pathlib.Path) -> None:
    def fields(console: dict[str, str], uid: int | None = 70000, isolated: bool = True, vsock: str | None = None) -> list[str]:
        config = VmConfig.model_validate({"console": console, **({"vsock": {"path": vsock}} if vsock else {})})
        return [lack.field for lack in host_lacks(config, "cloudhypervisor", uid, isolated)]

    log, sock = str(tmp_path / "c.log"), str(tmp_path / "c.sock")
    tmp_path.chmod(0o755)
    assert fields({"path": log}) == []
    assert fields({"path": f"{log}/no/c.log"}) == ["config.console.path"]
    assert fields({"output": "socket", "path": sock}) == ["config.console.path"]
    assert fields({"output": "socket", "path": sock}, isolated=False) == []
    assert fields({"output": "socket", "path": sock}, uid=os.stat(tmp_path).st_uid) == []
    assert fields({}, vsock=sock) == ["config.vsock.path"]
    tmp_path.chmod(0o777)
    assert fields({"output": "socket", "path": sock}) == []


def test_taps_that_this_user_cannot_have_are_told_before(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taps on bridges are made by root; a tap with an owner is its owner's."""
    monkeypatch.setattr(nic_lacks, "NET", str(tmp_path))
    (tmp_path / "br0" / "bridge").mkdir(parents=True)
    for name, owner in (("mine", 4242), ("anybodys", -1), ("theirs", 4243)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tun_flags").write_text("0x1002\n")
        (tmp_path / name / "owner").write_text(f"{owner}\n")

    def messages(tap: str, isolated: bool) -> str:
        config = VmConfig.model_validate({"network": [{"tap_device": tap}]})
        return " ".join(lack.message for lack in host_lacks(config, "cloudhypervisor", 70000 if isolated else None, isolated))

    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    assert "only root can make a tap on it. Run the task with become" in messages("br0", False)
    assert "mode tap user 4242" in messages("br0", False)
    assert "belongs to uid 4243, not to this user (4242)" in messages("theirs", False)
    assert messages("mine", False) == messages("anybodys", False) == ""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert messages("br0", True) == messages("anybodys", True) == ""
    assert "runs under a uid of its own" in messages("mine", True)
