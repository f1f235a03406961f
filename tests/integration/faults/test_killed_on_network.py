# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module killed before each single thing that it does, as in C(test_killed_module), for a VM on a network of ours: run again, it is on the network once,
with the address that it is told; removed, it has left nothing there."""

from __future__ import annotations

import itertools
import json
import pathlib
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground, Tree, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.namespaces import why_no_namespace
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm
from ansible_collections.unkey.vmcp.tests.integration.faults.built_module import BuiltModule, build
from ansible_collections.unkey.vmcp.tests.integration.faults.host_trace import at_rest, definition, vmms
from ansible_collections.unkey.vmcp.tests.netns import Namespace, namespaces

NAME = "web"


@pytest.fixture
def host(ground: Playground) -> t.Iterator[Namespace]:
    lack = why_no_namespace("nft", "dnsmasq")
    if lack:
        pytest.skip(lack)
    with namespaces("host") as (made,):
        ground.prefix = made.prefix
        try:
            ground.play([task("network", "vmcp_network", name="apps", ipv4="10.80.0.1/24", dhcp=True)]).ok("network")
            yield made
            assert not ground.remove_vms()
            ground.play([task("no network", "vmcp_network", name="apps", state="absent")]).ok("no network")
        finally:
            ground.kill_all()
            ground.prefix = ()


@pytest.fixture
def module(ground: Playground, host: Namespace, tmp_path: pathlib.Path) -> t.Iterator[BuiltModule]:
    made = build(tmp_path, "vmcp_vm", host.prefix)
    made.options = dict(ground.dirs)
    yield made
    made.stop()


class Network:
    """What the host knows of those on the network: the record, the rules, the leases, the taps."""

    def __init__(self, ground: Playground, host: Namespace) -> None:
        self.dir = pathlib.Path(ground.state, "networks", "apps")
        self.host = host

    def members(self) -> list[Tree]:
        file = self.dir / "members.json"
        return t.cast("list[Tree]", json.loads(file.read_text())["members"]) if file.exists() else []

    def seen(self) -> Tree:
        elements = [line for line in self.host.run("nft", "list", "ruleset").splitlines() if "elements" in line]
        taps = sorted(line.split()[0] for line in self.host.run("ip", "-br", "link").splitlines() if line.startswith("vm"))
        return {"members": self.members(), "elements": elements, "leases": (self.dir / "dns" / "dhcp-hosts").read_text(), "taps": taps}


def test_creation_and_removal_killed_at_every_point(
    ground: Playground, host: Namespace, module: BuiltModule, firecracker: Vmm, guest: t.Callable[..., str]
) -> None:
    network = Network(ground, host)
    create = {"name": NAME, "state": "running", "backend": "firecracker", "memory": "128M", "kernel": guest("halt"), "shutdown_timeout": 0}
    create |= {"networks": ["apps"], **firecracker.options}
    remove = {"name": NAME, "state": "absent", "shutdown_timeout": 0}
    module.run(path=ground.path, **create).ok()
    there = network.seen()
    assert len(there["members"]) == len(there["taps"]) == 1
    module.run(path=ground.path, **remove).ok()
    nobody, before = network.seen(), at_rest(ground)
    assert nobody["members"] == nobody["taps"] == []
    for at in itertools.count(1):
        created = module.run(path=ground.path, kill_at=at, **create)
        assert created.killed or created.ok()
        definition(ground, NAME)
        result = module.run(path=ground.path, **create).ok()
        assert vmms(ground, NAME) == [result["vm"]["pid"]]
        assert network.seen() == there, f"after a kill at point {at}"
        assert result["vm"]["nics"][0]["addresses"] == there["members"][0]["addresses"]
        removed = module.run(path=ground.path, kill_at=at, **remove)
        assert removed.killed or removed.ok()
        module.run(path=ground.path, **remove).ok()
        assert network.seen() == nobody, f"after a kill at point {at}"
        assert at_rest(ground) == before, f"after kills at point {at}"
        if not (created.killed or removed.killed):
            break
    assert at > 40, "the points were seen"


def test_a_tap_that_was_left_over_is_cleaned(ground: Playground, host: Namespace, module: BuiltModule, firecracker: Vmm, guest: t.Callable[..., str]) -> None:
    """Its VM's process was killed with its supervisor, and what they had recorded of it is gone."""
    create = {"name": NAME, "state": "running", "backend": "firecracker", "memory": "128M", "kernel": guest("halt"), "networks": ["apps"]}
    (nic,) = module.run(path=ground.path, **create, **firecracker.options).ok()["vm"]["nics"]
    ground.kill_all()
    for file in pathlib.Path(ground.run_dir, NAME).glob("taps"):
        file.unlink()
    theirs = "vm0123456789ab"
    host.run("ip", "tuntap", "add", "dev", theirs, "mode", "tap")
    host.run("ip", "link", "set", theirs, "up")
    assert module.run(path=ground.path, name=NAME, state="absent").ok()["changed"]
    links = host.run("ip", "-br", "link")
    assert nic["tap"] not in links and theirs in links, "what is on no bridge of ours is nobody's business"
