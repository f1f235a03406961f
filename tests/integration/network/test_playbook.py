# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vmcp_network and vmcp_network_info through ansible-playbook on a bare namespace: the documentation's own example from nothing to nothing."""

from __future__ import annotations

import ast
import os
import typing as t

import pytest
import yaml

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import ROOT, Playground, Tree, task
from ansible_collections.unkey.vmcp.tests.integration.network.ground import HOST_OUTSIDE, NOTHING, OUTSIDE, Ground, reaches, serve

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for namespaces of its own")


@pytest.fixture
def playground(ground: Ground) -> Playground:
    """On the same directories as the ground."""
    return Playground(ground.top, prefix=ground.host.prefix)


def examples(module: str) -> list[Tree]:
    tree = ast.parse((ROOT / "plugins" / "modules" / f"{module}.py").read_text(encoding="utf-8"))
    (text,) = (ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "EXAMPLES")
    return t.cast("list[Tree]", yaml.safe_load(text))


def test_the_example_from_nothing_to_nothing(ground: Ground, playground: Playground) -> None:
    (example,) = (step["unkey.vmcp.vmcp_network"] for step in examples("vmcp_network") if step["unkey.vmcp.vmcp_network"]["name"] == "apps")
    network = {**example, "egress": {"default": "deny", "allow": [{"cidr": f"{OUTSIDE}/32", "ports": [9000], "protocol": "tcp"}]}}
    made = playground.play(
        [
            task("predicted", "vmcp_network", check=True, **network),
            task("made", "vmcp_network", **network),
            task("again", "vmcp_network", **network),
            task("told", "vmcp_network_info"),
        ]
    )
    predicted = made.ok("predicted")
    assert predicted.touched == []
    assert predicted["actions"] == made.ok("made")["actions"] == ["define", "forwarding", "links", "rules", "dns"]
    assert predicted["diff"] == made["made"]["diff"]
    assert not made.ok("again")["changed"]
    assert [path for path in made["again"].touched if not path.endswith(".locks/.host")] == []
    assert [(n["name"], n["up"], n["dns"]) for n in made.ok("told")["networks"]] == [("apps", True, "running")]
    web = ground.vm("web")
    serve(ground.outside, 9000)
    serve(ground.outside, 9001)
    serve(web.inside, 80)
    assert web.reaches(OUTSIDE, 9000)
    assert web.is_kept_from(OUTSIDE, 9001)
    assert reaches(ground.outside, HOST_OUTSIDE, 8080)
    ended = playground.play(
        [
            task("used", "vmcp_network", name="apps", state="absent"),
            task("who", "vmcp_network_info", name=["apps", "nowhere"]),
            task("forced", "vmcp_network", name="apps", state="absent", force=True),
            task("gone", "vmcp_network", name="apps", state="absent", force=True),
        ]
    )
    used = ended.refused("used", "failed_precondition")
    assert "Network apps is used by 1 VMs: web." in used["msg"] and used["vms"] == ["web"]
    assert ended.ok("who")["missing"] == ["nowhere"]
    assert ended["who"]["networks"][0]["members"][0]["addresses"] == [web.address]
    assert ended.ok("forced")["actions"] == ["remove"]
    assert not ended.ok("gone")["changed"]
    left = ground.left_behind()
    left["links"] = [link for link in left["links"] if link != web.member.tap]
    assert left == NOTHING


def test_all_that_is_wrong_is_told_at_once(ground: Ground, playground: Playground) -> None:
    wrong = {
        "ipv4": "203.0.113.9/24",
        "nat": "nowhere0",
        "forward": [{"host_port": 80, "vm": "web"}, {"host_port": 80, "vm": "db"}, {"host_port": 99999, "vm": "db"}],
        "interface": "an-interface-name-that-is-too-long",
    }
    results = playground.play(
        [
            task("wrong", "vmcp_network", name="apps", **wrong),
            task("collides", "vmcp_network", name="apps", ipv4="203.0.113.130/25"),
            task("long", "vmcp_network", name="a-name-of-more-than-fifteen-characters", ipv4="10.81.0.1/24"),
            task("long gone", "vmcp_network", name="a-name-of-more-than-fifteen-characters", state="absent"),
        ]
    )
    fields = [violation["field"] for violation in results.refused("wrong", "invalid_argument")["violations"]]
    assert fields == ["forward[2].host_port", "interface"]
    assert "overlaps 203.0.113.0/24, to which the host has a route through wan0." in results.refused("collides", "invalid_argument")["msg"]
    bridge = results.ok("long")["network"]["bridge"]
    assert len(bridge) == 15 and bridge.startswith("vn-")
    assert ground.left_behind() == NOTHING
