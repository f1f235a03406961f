# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""unkey.vmcp.teardown leaves nothing, and asks first; unkey.vmcp.preflight says what is missing."""

from __future__ import annotations

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import processes_about
from ansible_collections.unkey.vmcp.tests.integration.fleet.hosts import Hosts, Tree
from ansible_collections.unkey.vmcp.tests.waiting import until


def test_everything_goes_when_that_is_confirmed(hosts: Hosts, vm: Tree) -> None:
    hosts.common |= {"vmcp_vm_defaults": vm, "vmcp_fleet_defaults": vm, "vmcp_vms": [{"name": "own", "protected": True}], "vmcp_fleet": ["web"]}
    hosts.play("site").ok()
    there = hosts.vms()
    hosts.play("teardown").refused("Nothing was removed. Answer yes, or say so beforehand: -e vmcp_teardown_confirmed=yes.")
    hosts.play("teardown", check=True).ok()
    assert hosts.vms() == there
    gone = hosts.play("teardown", vmcp_teardown_confirmed="yes").ok()
    assert "own" in gone.stats["vmcp_teardown"]["vms"]["h1"]
    assert not any(hosts.files(name) for name in hosts.names)
    until(lambda: not processes_about(f"{hosts.top}/h"), "nothing of theirs runs")
    hosts.play("teardown", vmcp_teardown_confirmed=True).ok()


def test_preflight_says_what_each_host_lacks(hosts: Hosts, vm: Tree) -> None:
    hosts.lost = {"h3"}
    seen = hosts.play("preflight", vmcp_backends=[vm["backend"]])
    assert seen.code == 4 and "h3 cannot be reached" in seen.said and seen.stats["vmcp_preflight"]["lost"] == ["h3"]
    assert f"{vm['backend']} " in seen.said and set(seen.stats["vmcp_preflight"]["lacks"]) == {"h1", "h2"}
    hosts.lost = set()
    hosts.path = ()
    bare = {"ansible_python_interpreter": str(bare_python(hosts))}
    hosts.variables = {"h1": bare}
    hosts.play("preflight", vmcp_backends=["firecracker"]).refused("h1 lacks", "firecracker")
    assert not any(hosts.files(name) for name in hosts.names)


def bare_python(hosts: Hosts) -> str:
    """A Python that finds no VMM: as on a host where nothing is installed."""
    import sys

    path = hosts.top / "bare-python"
    path.write_text(f'#!/bin/sh\nPATH=/nowhere exec {sys.executable} "$@"\n')
    path.chmod(0o755)
    return str(path)
