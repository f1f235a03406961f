# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What playbooks ask of a fleet, without a fleet."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.unkey.vmcp.plugins.filter.playbooks import vmcp_fleet_hosts, vmcp_published, vmcp_site_summary, vmcp_unwell, vmcp_vm_entry

Tree = dict[str, t.Any]


def seen(*backends: str, **more: t.Any) -> Tree:
    facts = {"backends": [{"backend": backend, "version": "1"} for backend in backends], "cpus": 2}
    record = {"generation": 0, "run_id": "", "complete": True, "claims": {}}
    return {"vmcp_fleet__host": {"host": facts}, "vmcp_fleet__vms": {"vms": []}, "vmcp_fleet__files": {"drained": False, "record": record}, **more}


def test_only_who_answered_everything_was_reached() -> None:
    hostvars = {"a": seen("qemu"), "b": seen("qemu"), "c": {}, "d": seen("qemu", vmcp_fleet__vms={"failed": True}), "e": seen(vmcp_fleet_member="no")}
    found = vmcp_fleet_hosts(["a", "b", "c", "d", "e"], hostvars, ["a", "c", "d", "e"])
    assert {name: body["reachable"] for name, body in found.items()} == {"a": True, "b": False, "c": False, "d": False}
    assert found["b"]["record"] is None and found["a"]["record"]["generation"] == 0


def test_check_mode_counts_what_is_about_to_be_installed() -> None:
    hostvars = {"bare": seen(), "asked": seen("qemu", vmcp_backends=["firecracker", "qemu"])}
    found = vmcp_fleet_hosts(["bare", "asked"], hostvars, ["bare", "asked"], True)
    assert [installed["backend"] for installed in found["bare"]["host"]["backends"]] == ["qemu"]
    assert [installed["backend"] for installed in found["asked"]["host"]["backends"]] == ["qemu", "firecracker"]
    now = vmcp_fleet_hosts(["bare"], hostvars, ["bare"])
    assert now["bare"]["host"]["backends"] == []


def test_what_a_site_did_is_gathered_from_both_kinds_of_vms() -> None:
    known = {
        "vmcp_site__made": {"vms": {"own": {"changed": True, "actions": ["define", "start"]}, "old": {"changed": False}}, "removed": ["gone"]},
        "vmcp_fleet__made": {"vms": {"web": {"changed": True, "actions": ["update"]}}, "removed": []},
    }
    assert vmcp_site_summary(known) == {"changed": {"own": ["define", "start"], "web": ["update"]}, "vms": ["old", "own", "web"], "removed": ["gone"]}
    assert vmcp_site_summary({"vmcp_site__made": {"skipped": True}}) == {"changed": {}, "vms": [], "removed": []}


def test_unwell_is_what_nobody_asked_for() -> None:
    vms = [
        {"name": "up", "state": "running"},
        {"name": "asked", "state": "shutdown", "stop_reason": "request"},
        {"name": "left", "state": "shutdown", "stop_reason": "guest"},
        {"name": "dead", "state": "crashed"},
        {"name": "mute", "state": "running", "unresponsive": "no answer within 5 s"},
    ]
    assert vmcp_unwell(vms) == ["left has ended by itself (guest)", "dead has crashed", "mute: no answer within 5 s"]
    assert vmcp_unwell(vms, ["up", "lost"]) == ["lost is not there"]


def test_published_says_where_each_is() -> None:
    vm = {
        "name": "web",
        "backend": "qemu",
        "backend_version": "7.2",
        "labels": {"a": "b"},
        "nics": [{"mac_address": "02:00:00:00:00:01", "addresses": ["10.0.0.5"]}],
    }
    told = vmcp_published(["h1"], {"h1": {"vmcp_publish__found": {"vms": [vm]}}})
    assert told["web"] == {
        "host": "h1",
        "backend": "qemu",
        "backend_version": "7.2",
        "labels": {"a": "b"},
        "mac_addresses": ["02:00:00:00:00:01"],
        "addresses": ["10.0.0.5"],
    }


def test_what_is_no_vm_is_said() -> None:
    with pytest.raises(AnsibleFilterError, match="give a VM as vmcp_vm_info returns it"):
        vmcp_vm_entry({"name": "web"})
