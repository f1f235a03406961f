# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody is told who has just begun: a wrong path, a wrong name, more memory than the host has."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.call import Call
from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition, InvalidArgument
from ansible_collections.unkey.vmcp.plugins.module_utils.host.capacity import memory_total
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.vm import run_vm
from ansible_collections.unkey.vmcp.tests.hosts.small import Host, small_host

ROLE = "Install a kernel with the role unkey.vmcp.vmcp_kernel, or correct the path."


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Host]:
    with small_host(tmp_path, monkeypatch) as made:
        yield made


def refused(host: Host, **options: t.Any) -> list[dict[str, str]]:
    with pytest.raises(FailedPrecondition) as error:
        host.task(**{**host.given, **options})
    return [violation.as_dict() for violation in error.value.violations]


def test_a_path_that_is_nearly_right(host: Host) -> None:
    top = host.kernel.parent
    (top / "vmlinuz").touch()
    assert refused(host, kernel=f"{top}/vmlinus") == [
        {"field": "config.boot.kernel_path", "message": f"{top}/vmlinus does not exist on this host. Did you mean {top}/vmlinuz? {ROLE}"}
    ]
    assert refused(host, kernel="/nowhere/vmlinux") == [
        {"field": "config.boot.kernel_path", "message": f"/nowhere/vmlinux does not exist on this host. {ROLE}"}
    ]
    assert refused(host, disks=[f"{top}/quite-another"]) == [
        {"field": "config.storage[0].path", "message": f"{top}/quite-another does not exist on this host. Put it there first, or correct the path."}
    ]


def test_a_file_that_is_no_kernel(host: Host) -> None:
    path = host.kernel.parent / "hostname"
    path.write_text("web\n")
    assert refused(host, kernel=str(path)) == [
        {"field": "config.boot.kernel_path", "message": f"{path} is not a kernel: it is neither a vmlinux (ELF), a bzImage nor an arm64 Image. {ROLE}"}
    ]


def test_a_network_that_is_not_there(host: Host) -> None:
    (lack,) = refused(host, networks=["apps"])
    assert lack["field"] == "config.network[0].tap_device" and "Make the network with unkey.vmcp.vmcp_network, the tap ('ip tuntap add apps" in lack["message"]


@pytest.mark.parametrize(("name", "like"), [("WebServer_1", ", such as 'webserver-1'"), ("../../etc", ", such as 'etc'"), ("é", ""), ("-" * 70, "")])
def test_a_name_with_what_names_do_not_have(host: Host, name: str, like: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        host.task(name, **host.given)
    assert error.value.msg == f"name: must be 1 to 63 characters of a-z, 0-9 and '-', starting with a letter or digit{like}."


def test_more_memory_than_there_is(host: Host) -> None:
    def told(state: str, memory: str) -> list[str]:
        said: list[str] = []
        asked = {"name": "web", "state": state, "lock_timeout": 5, "state_dir": str(host.state), "run_dir": str(host.run_dir), **host.given, "memory": memory}
        run_vm(Call(asked, False, {}, os.geteuid(), said.append, lambda: None))
        return [text for text in said if "memory of this host" in text]

    more = (memory_total() >> 30) + 2
    (text,) = told("running", f"{more}G")
    assert text.startswith(f"config.memory.size_bytes: {more}.0 GiB is more than the ") and "started all the same" in text
    assert told("running", "128M") == [] and told("present", f"{more}G") == [], "only what is to be started"
