# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two runs place at once: whatever one does while the other one stalls, a VM is started on one host."""

from __future__ import annotations

import typing as t

from ansible_collections.unkey.vmcp.tests.integration.fleet.hosts import OF_A_HOST, PLAYBOOKS, Hosts, Tree

OTHERS = {"unkey.vmcp.vmcp_fleet": {**OF_A_HOST, "claims": {"web": "h3"}, "generation": 1, "run_id": "other", "expected_generation": 0}}


def part(name: str, **variables: t.Any) -> Tree:
    return {"import_tasks": f"{PLAYBOOKS}/tasks/fleet_{name}.yml", "vars": variables}


def where(hosts: Hosts) -> list[str]:
    return [host for host, vms in hosts.vms().items() if "web" in vms]


def test_between_its_reading_and_its_claiming(hosts: Hosts, vm: Tree) -> None:
    hosts.common |= {"vmcp_fleet_defaults": vm, "vmcp_fleet": ["web"]}
    overtaken = hosts.parts(part("look"), {**OTHERS, "when": "inventory_hostname != 'h1'"}, part("place"), part("start"))
    overtaken.refused("Another run claims for this fleet at the same time: h2, h3 believes that one. Nothing was started. Run it again.")
    assert not where(hosts)
    # The next run finds both records, and follows the one that more hosts have.
    hosts.play("placement").ok()
    assert where(hosts) == ["h3"]


def test_between_its_claiming_and_its_start(hosts: Hosts, vm: Tree) -> None:
    hosts.common |= {"vmcp_fleet_defaults": vm, "vmcp_fleet": ["web"]}
    later = {**OTHERS["unkey.vmcp.vmcp_fleet"], "generation": 2, "expected_generation": 1, "expected_run_id": "{{ vmcp_fleet__run_id }}"}
    overtaken = hosts.parts(part("look"), part("place"), {"unkey.vmcp.vmcp_fleet": later}, part("start"))
    overtaken.refused("The claims of the fleet default were written by another run meanwhile (generation 2, other,", "Nothing was started here.")
    assert not where(hosts)


def test_a_start_that_came_before_the_claim_is_seen(hosts: Hosts, vm: Tree) -> None:
    hosts.common |= {"vmcp_fleet_defaults": vm, "vmcp_fleet": ["web"]}
    start = {**OF_A_HOST, "vms": {"web": vm}, "claim": {"run_id": "other"}}
    started = {"unkey.vmcp.vmcp_vms": start, "when": "inventory_hostname == 'h3'"}
    overtaking = hosts.parts(OTHERS, part("look"), started, part("place", vmcp_fleet__leaving=["h3"]), part("start"))
    overtaking.refused("Another run has started web since this one has looked, on a host that it is to leave. Nothing was started. Run it again.")
    assert where(hosts) == ["h3"] and hosts.vms()["h3"] == {"web": "running"}
