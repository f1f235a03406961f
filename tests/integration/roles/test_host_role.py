# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vmcp_host on a host with systemd, over ssh: what it leaves there, that it leaves it alone the second time, and what it refuses."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.host.supervisors import systemd
from ansible_collections.unkey.vmcp.tests.hosts.fleet import Fleet
from ansible_collections.unkey.vmcp.tests.hosts.plays import Played, play, roles

pytestmark = [pytest.mark.systemd, pytest.mark.root]
HOST = "vmcp1"
# Of the host's own network namespace, so that the machine under the test does not notice.
SYSCTL = "net.ipv4.conf.all.forwarding"
GIVEN: dict[str, t.Any] = {
    "vmcp_host_runtime": False,
    "vmcp_host_tools": "none",
    "vmcp_host_limits": {"console_max_bytes": "1M"},
    "vmcp_host_sysctls": {SYSCTL: 1},
    "vmcp_host_swap": False,
}


def host_role(one: Fleet, check: bool = False, **options: t.Any) -> Played:
    return play(one, roles("vmcp_host"), check=check, **{**GIVEN, **options})


def said(one: Fleet, *words: str) -> str:
    return one.hosts[HOST].run(words, check=False).stdout


@pytest.fixture(scope="module")
def prepared(one: Fleet) -> Fleet:
    host_role(one, check=True).ok()
    assert not (one.hosts[HOST].root / "etc/systemd/system/vmcp-vm@.service").exists(), "check mode wrote something"
    host_role(one).ok()
    return one


def test_a_second_run_changes_nothing_also_in_check_mode(prepared: Fleet) -> None:
    host_role(prepared).unchanged()
    host_role(prepared, check=True).unchanged()


def test_units_are_those_that_the_modules_would_write(prepared: Fleet) -> None:
    root = prepared.hosts[HOST].root
    for path, (text, mode) in systemd.files(1 << 20).items():
        written = root / path.lstrip("/")
        assert written.read_text() == text
        assert written.stat().st_mode & 0o777 == mode
    for path, target in systemd.links().items():
        assert (root / path.lstrip("/")).readlink().as_posix() == target
    assert said(prepared, "systemctl", "show", "--property=LoadState,NeedDaemonReload", "vmcp-vm@web.service").split() == [
        "LoadState=loaded",
        "NeedDaemonReload=no",
    ]


def test_settings_hold_now_and_after_a_boot(prepared: Fleet) -> None:
    assert said(prepared, "sysctl", "-n", SYSCTL).strip() == "1"
    assert said(prepared, "systemctl", "is-enabled", "swap.target").strip() == "masked"
    said(prepared, "sysctl", "-w", f"{SYSCTL}=0")
    assert host_role(prepared).ok().tasks, "a setting that somebody changed is put right"
    assert said(prepared, "sysctl", "-n", SYSCTL).strip() == "1"
    assert f"{SYSCTL} = 1" in said(prepared, "cat", "/etc/sysctl.d/90-vmcp.conf")
    assert said(prepared, "cat", "/etc/modules-load.d/vmcp.conf").splitlines()[1:] == ["kvm", "tun", "vhost_vsock", "vhost_net"]


def test_what_is_not_asked_for_any_more_goes(prepared: Fleet) -> None:
    host_role(prepared, vmcp_host_sysctls={}, vmcp_host_swap=True).ok()
    assert "No such file" in prepared.hosts[HOST].run(["cat", "/etc/sysctl.d/90-vmcp.conf"], check=False).stderr
    assert said(prepared, "systemctl", "is-enabled", "swap.target").strip() == "static"
    host_role(prepared).ok()


def test_what_the_kernel_does_not_take_is_said(prepared: Fleet) -> None:
    # Below /sys everything belongs to the machine around the container, and is read-only.
    host_role(prepared, vmcp_host_hugepages={"2M": 1}).refused("nr_hugepages cannot be set to 1 (Read-only file system)", "make them there")
    host_role(prepared, vmcp_host_hugepages={"2X": 1}).refused("'2X'")
    host_role(prepared).ok()


def test_uids_of_somebody_are_refused(prepared: Fleet) -> None:
    host_role(prepared, vmcp_host_uid_range=[1000, 2000]).refused("with nobody in it", "and in it are deploy")
    host_role(prepared, vmcp_host_uid_range=[5, 4]).refused("must be [first, last]")
