# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vmcp_firecracker and vmcp_cloudhypervisor on a host with systemd, over ssh, against a server that stands in for upstream's."""

from __future__ import annotations

import json
import shutil
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.hosts.fleet import URL, Fleet
from ansible_collections.unkey.vmcp.tests.hosts.plays import Played, play, roles
from ansible_collections.unkey.vmcp.tests.hosts.releases import Releases

pytestmark = [pytest.mark.systemd, pytest.mark.root]
HOST = "vmcp1"
OLD, NEW = "1.16.1", "1.16.2"
CH = "53.0"


@pytest.fixture(scope="module")
def offered(releases: Releases) -> Releases:
    releases.firecracker(OLD)
    releases.firecracker(NEW)
    releases.cloudhypervisor(CH)
    releases.firmware()
    return releases


def both(one: Fleet, offered: Releases, **options: t.Any) -> Played:
    check = options.pop("check", False)
    return play(one, roles("vmcp_firecracker", "vmcp_cloudhypervisor"), check=check, **{**offered.variables(URL), **options})


def firecracker(one: Fleet, offered: Releases, **options: t.Any) -> Played:
    check = options.pop("check", False)
    return play(one, roles("vmcp_firecracker"), check=check, **{**offered.variables(URL), "vmcp_firecracker_retries": 0, **options})


def said(one: Fleet, *words: str) -> str:
    return one.hosts[HOST].run(words).stdout.strip()


def tree(one: Fleet) -> list[str]:
    """Everything below /opt/vmcp with inode and mode: what is replaced shows."""
    listed = one.hosts[HOST].run(["find", "/opt/vmcp", "-printf", "%p %i %m %l\n"], check=False).stdout
    return sorted(line for line in listed.splitlines() if ".lock" not in line)


def test_a_bare_host_gets_both_and_the_second_run_changes_nothing(one: Fleet, offered: Releases) -> None:
    predicted = both(one, offered, check=True).ok()
    assert predicted.changed[HOST] > 0
    assert tree(one) == [], "check mode made something"
    both(one, offered).ok()
    assert "Firecracker v1.16.1" in said(one, "/opt/vmcp/firecracker/current/firecracker", "--version")
    assert "v1.16.1" in said(one, "/opt/vmcp/firecracker/1.16.1/jailer", "--version")
    assert "v53.0" in said(one, "/opt/vmcp/cloudhypervisor/current/cloud-hypervisor", "--version")
    assert "v53.0" in said(one, "/opt/vmcp/cloudhypervisor/53.0/ch-remote", "--version")
    host_json = json.loads(said(one, "cat", "/etc/vmcp/host.json"))
    assert host_json["boot"]["cloudhypervisor"]["firmware"] == "/opt/vmcp/firmware/hypervisor-fw/0.5.0/hypervisor-fw"
    before = tree(one)
    both(one, offered).unchanged()
    both(one, offered, check=True).unchanged()
    assert tree(one) == before
    assert not said(one, "find", "/tmp", "/opt/vmcp", "-name", "vmcp-release-*", "-o", "-name", ".installing-*", "-o", "-name", ".removing-*")


def test_versions_stand_side_by_side_and_current_is_chosen(one: Fleet, offered: Releases) -> None:
    firecracker(one, offered, vmcp_firecracker_versions=[OLD, NEW]).ok()
    assert said(one, "readlink", "/opt/vmcp/firecracker/current") == OLD
    moved = firecracker(one, offered, vmcp_firecracker_versions=[OLD, f"v{NEW}"], vmcp_firecracker_current=NEW).ok()
    assert moved.changed[HOST] == 1
    assert "Firecracker v1.16.2" in said(one, "/opt/vmcp/firecracker/current/firecracker", "--version")
    firecracker(one, offered, vmcp_firecracker_versions=[OLD], vmcp_firecracker_current="1.15.0").refused("nor installed. Add it there.")
    # One that is there already may be it without being named.
    firecracker(one, offered, vmcp_firecracker_versions=[OLD], vmcp_firecracker_current=NEW).unchanged()
    # One name, as -e gives it.
    firecracker(one, offered, vmcp_firecracker_versions=OLD).ok()
    assert said(one, "readlink", "/opt/vmcp/firecracker/current") == OLD


def test_an_unknown_version_needs_a_digest(one: Fleet, offered: Releases) -> None:
    before = tree(one)
    firecracker(one, offered, vmcp_firecracker_versions=["1.99.0"]).refused(
        "Firecracker 1.99.0: the role knows no sha256 digest of firecracker-v1.99.0-x86_64.tgz, and installs nothing unverified.",
        "vmcp_firecracker_checksum=",
    )
    assert tree(one) == before


@pytest.mark.parametrize("how", ["truncated", "changed"])
def test_what_was_damaged_on_its_way_leaves_what_was_there(one: Fleet, offered: Releases, how: str) -> None:
    before = tree(one)
    version = "1.16.9"
    asset = offered.firecracker(version, stub=True)
    body = asset.read_bytes()
    asset.write_bytes(body[: len(body) // 2] if how == "truncated" else body[:-9] + bytes([body[-9] ^ 1]) + body[-8:])
    firecracker(one, offered, vmcp_firecracker_versions=[OLD, version], vmcp_firecracker_current=version).refused(
        "Firecracker 1.16.9 was not installed.", "it was truncated or changed on its way"
    )
    assert tree(one) == before


def test_a_damaged_or_foreign_version_is_put_right(one: Fleet, offered: Releases) -> None:
    program = "/opt/vmcp/firecracker/1.16.1/firecracker"
    said(one, "sh", "-c", f"echo damage >> {program}")
    assert "Install" in firecracker(one, offered, check=True).ok().output
    firecracker(one, offered).ok()
    assert "Firecracker v1.16.1" in said(one, program, "--version")
    firecracker(one, offered).unchanged()


def test_without_a_network_files_of_the_controller_are_taken(one: Fleet, offered: Releases, tmp_path: t.Any) -> None:
    directory = tmp_path / "offline"
    shutil.copytree(offered.top / "firecracker" / f"v{NEW}", directory / f"v{NEW}")
    said(one, "rm", "-rf", "/opt/vmcp/firecracker/1.16.2")
    nowhere = {"vmcp_firecracker_mirror": "http://127.0.0.1:9/", "vmcp_firecracker_directory": str(directory)}
    options = {"vmcp_firecracker_versions": [OLD, NEW], **nowhere}
    firecracker(one, offered, **options).ok()
    assert "Firecracker v1.16.2" in said(one, "/opt/vmcp/firecracker/1.16.2/firecracker", "--version")
    firecracker(one, offered, **options).unchanged()
    said(one, "rm", "-rf", "/opt/vmcp/firecracker/1.16.2")
    (directory / f"v{NEW}" / f"firecracker-v{NEW}-x86_64.tgz").write_bytes(b"truncated")
    firecracker(one, offered, **options).refused("Firecracker 1.16.2 was not installed.", "it was truncated or changed on its way")


def test_a_proxy_is_asked(one: Fleet, offered: Releases) -> None:
    said(one, "rm", "-rf", "/opt/vmcp/firecracker/1.16.2")
    # The fleet's server takes a proxy's requests too: their whole address comes as the path.
    upstream = {"vmcp_firecracker_mirror": "http://releases.invalid/firecracker", "vmcp_firecracker_proxy": URL}
    firecracker(one, offered, vmcp_firecracker_versions=[OLD, NEW], **upstream).ok()
    assert "http://releases.invalid/firecracker/v1.16.2/" in (one.served / ".requests").read_text()


def test_a_version_in_use_is_never_removed(one: Fleet, offered: Releases) -> None:
    host = one.hosts[HOST]
    firecracker(one, offered, vmcp_firecracker_versions=[OLD, NEW]).ok()
    vm = host.root / "var/lib/vmcp/vms/web"
    vm.mkdir(parents=True)
    (vm / "vm.json").write_text(json.dumps({"binary": "/opt/vmcp/firecracker/1.16.2/firecracker"}))
    kept = firecracker(one, offered, vmcp_firecracker_prune=True).ok()
    assert "/opt/vmcp/firecracker/1.16.2 stays: the VM web uses it" in kept.output
    shutil.rmtree(vm)
    before = tree(one)
    assert firecracker(one, offered, vmcp_firecracker_prune=True, check=True).ok().changed[HOST] == 1
    assert tree(one) == before
    firecracker(one, offered, vmcp_firecracker_prune=True).ok()
    assert said(one, "ls", "/opt/vmcp/firecracker").split() == ["1.16.1", "current"]
    firecracker(one, offered, vmcp_firecracker_prune=True).unchanged()
