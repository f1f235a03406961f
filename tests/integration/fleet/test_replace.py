# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""unkey.vmcp.replace_backend: step by step to another backend, and back."""

from __future__ import annotations

from ansible_collections.unkey.vmcp.tests.integration.e2e import vmms
from ansible_collections.unkey.vmcp.tests.integration.fleet.hosts import Hosts, Played, Tree


def test_step_by_step_and_back(hosts: Hosts, vm: Tree) -> None:
    # To a fake, where there is no real VMM but QEMU. Firecracker's cannot be jailed, as its VMs are by default.
    other = vmms.use("cloudhypervisor" if vm["backend"] == "qemu" else "qemu", hosts.ground("h1"))
    hosts.names, hosts.path, vm = ("h1",), (*other.path, *hosts.path), {**vm, **other.options}
    new = f"web-{other.backend}"
    disk = hosts.top / "data.img"
    disk.write_bytes(bytes(1 << 20))
    hosts.common |= {"vmcp_vm_defaults": vm, "vmcp_vms": [{"name": "web", "disks": [str(disk)], "protected": True, "labels": {"tier": "web"}}]}
    hosts.play("site").ok()

    def step(name: str, **more: object) -> Played:
        options: Tree = {"vmcp_replace_host": "h1", "vmcp_replace_vm": "web", "vmcp_replace_backend": other.backend, "vmcp_replace_step": name}
        return hosts.play("replace_backend", skip="", **{**options, "vmcp_replace_wait_for": vm["wait_for"], "vmcp_replace_shutdown_timeout": 0, **more})

    step("switch").refused("The step switch does not come next for web: the step before it that was done is none, and it needs move.")
    step("create").ok()
    assert hosts.vms()["h1"] == {"web": "running", new: "down"}
    step("move", vmcp_replace_wait_for=[{"console": "it never says that"}], vmcp_replace_wait_timeout=2).refused("The step move failed, and web is as it was:")
    assert hosts.vms()["h1"] == {"web": "running", new: "down"}
    step("move").ok()
    assert hosts.vms()["h1"] == {"web": "down", new: "running"}
    step("abort").ok()
    assert hosts.vms()["h1"] == {"web": "running"}
    hosts.play("site").unchanged()
    for name in ("create", "move", "switch", "commit"):
        done = step(name).ok()
    assert done.stats["vmcp_replacement"] == {"vm": "web", "new": new, "step": "commit"}
    assert hosts.vms()["h1"] == {new: "running"}
    made = hosts.definition("h1", new)
    assert (made["backend"], made["labels"], made["protected"]) == (other.backend, {"tier": "web"}, True)
    step("commit").unchanged()
