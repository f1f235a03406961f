# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""unkey.vmcp.replace_backend: step by step to another backend, and back."""

from __future__ import annotations

import pathlib
import shutil
import subprocess

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.store import Store
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.disk_users import users_of
from ansible_collections.unkey.vmcp.tests.integration.e2e import vmms
from ansible_collections.unkey.vmcp.tests.integration.e2e.namespaces import why_no_namespace
from ansible_collections.unkey.vmcp.tests.integration.fleet.hosts import Hosts, Played, Tree
from ansible_collections.unkey.vmcp.tests.netns import namespaces


def other_backend(hosts: Hosts, vm: Tree) -> tuple[str, Tree]:
    """Another one than the VM's, and what the VM needs for both. A fake, where there is no real VMM but QEMU; Firecracker's cannot be jailed, as its VMs
    are by default."""
    other = vmms.use("cloudhypervisor" if vm["backend"] == "qemu" else "qemu", hosts.ground("h1"))
    hosts.names, hosts.path = ("h1",), (*other.path, *hosts.path)
    return other.backend, {**vm, **other.options}


def step(hosts: Hosts, vm: Tree, backend: str, name: str, **more: object) -> Played:
    options: Tree = {"vmcp_replace_host": "h1", "vmcp_replace_vm": "web", "vmcp_replace_backend": backend, "vmcp_replace_step": name}
    options |= {"vmcp_replace_wait_for": vm["wait_for"], "vmcp_replace_shutdown_timeout": 0}
    return hosts.play("replace_backend", skip="", **{**options, **more})


def test_step_by_step_and_back(hosts: Hosts, vm: Tree) -> None:
    backend, vm = other_backend(hosts, vm)
    new = f"web-{backend}"
    disk = hosts.top / "data.img"
    disk.write_bytes(bytes(1 << 20))
    hosts.parts({"name": "A disk of its own", "unkey.vmcp.vmcp_disk": {"name": "kept", "size": "1M"}}).ok()
    kept = pathlib.Path(hosts.ground("h1").state, "disks", "kept", "disk.raw")
    with kept.open("r+b") as stream:
        stream.write(b"what the guest wrote")
    disks = [str(disk), {"disk": "kept"}]
    hosts.common |= {"vmcp_vm_defaults": vm, "vmcp_vms": [{"name": "web", "disks": disks, "protected": True, "labels": {"tier": "web"}}]}
    hosts.play("site").ok()
    assert users(hosts) == {"web": True}

    step(hosts, vm, backend, "switch").refused("The step switch does not come next for web: the step before it that was done is none, and it needs move.")
    step(hosts, vm, backend, "create").ok()
    assert hosts.vms()["h1"] == {"web": "running", new: "down"}
    step(hosts, vm, backend, "move", vmcp_replace_wait_for=[{"console": "it never says that"}], vmcp_replace_wait_timeout=2).refused(
        "The step move failed, and web is as it was:"
    )
    assert hosts.vms()["h1"] == {"web": "running", new: "down"}
    step(hosts, vm, backend, "move").ok()
    assert hosts.vms()["h1"] == {"web": "down", new: "running"}
    assert users(hosts)[new] and not users(hosts).get("web"), "whoever runs has it"
    step(hosts, vm, backend, "abort").ok()
    assert hosts.vms()["h1"] == {"web": "running"} and users(hosts) == {"web": True}
    hosts.play("site").unchanged()
    for name in ("create", "move", "switch", "commit"):
        done = step(hosts, vm, backend, name).ok()
    assert done.stats["vmcp_replacement"] == {"vm": "web", "new": new, "step": "commit"}
    assert hosts.vms()["h1"] == {new: "running"}
    made = hosts.definition("h1", new)
    assert (made["backend"], made["labels"], made["protected"]) == (backend, {"tier": "web"}, True)
    assert (
        users(hosts) == {new: True}
        and kept.read_bytes()[:20] == b"what the guest wrote"
        and not [path for path in kept.parent.iterdir() if "moved" in path.name]
    )
    step(hosts, vm, backend, "commit").unchanged()


def test_clones_and_addresses_are_taken_over_and_given_back(hosts: Hosts, vm: Tree) -> None:
    lack = why_no_namespace("nft") or (None if shutil.which("qemu-io") else "there is no qemu-io on PATH")
    if lack:
        pytest.skip(lack)
    backend, vm = other_backend(hosts, vm)
    image = hosts.top / "image.raw"
    image.write_bytes(b"what every clone begins with".ljust(1 << 20, b"\0"))
    hosts.common |= {"vmcp_images": [{"name": "data", "path": str(image)}], "vmcp_networks": [{"name": "apps", "ipv4": "10.80.0.1/24"}]}
    hosts.common |= {"vmcp_vm_defaults": {**vm, "state": "present"}, "vmcp_vms": [{"name": "web", "disks": [{"image": "data"}], "networks": ["apps"]}]}
    with namespaces("host") as (host,):
        hosts.prefix = host.prefix
        assert "is unsafe in some situations" not in hosts.play("site").ok().said
        # As the guest may have.
        clone_io(hosts, "web", "write -P 77 4096 512")
        hosts.common["vmcp_vm_defaults"] = vm
        hosts.play("site").ok()
        own = identity(hosts, "web")
        assert own[0] and own[1]
        for name in ("create", "move"):
            step(hosts, vm, backend, name).ok()
        clone_io(hosts, f"web-{backend}", "read -P 77 4096 512")
        clone_io(hosts, f"web-{backend}", "read -P 119 0 1")
        assert identity(hosts, "web") == own and not set(identity(hosts, f"web-{backend}")[0]) & set(own[0])
        step(hosts, vm, backend, "switch", check=True).ok()
        failing = {"vmcp_replace_wait_for": [{"console": "it never says that"}], "vmcp_replace_wait_timeout": 2}
        step(hosts, vm, backend, "switch", **failing).refused("The step switch failed, and web is as it was:")
        assert hosts.vms()["h1"] == {"web": "running", f"web-{backend}": "down"} and identity(hosts, "web") == own
        for name in ("move", "switch"):
            step(hosts, vm, backend, name).ok()
        assert identity(hosts, f"web-{backend}") == own and identity(hosts, "web") == ([], [])
        step(hosts, vm, backend, "abort").ok()
        assert hosts.vms()["h1"] == {"web": "running"} and identity(hosts, "web") == own
        hosts.play("site").unchanged()
        hosts.play("teardown", vmcp_teardown_confirmed="yes").ok()


def users(hosts: Hosts) -> dict[str, bool]:
    """VMs that have the disk of vmcp_disk, and whether they run with it."""
    ground = hosts.ground("h1")
    store = Store(Layout(ground.state, ground.run_dir))
    return {user.vm: user.runs for user in users_of(store, "kept")}


def identity(hosts: Hosts, name: str) -> tuple[list[str], list[str]]:
    """Addresses and MAC addresses."""
    made = hosts.definition("h1", name)
    macs = {nic["id"]: nic.get("mac_address") or made["generated"]["macs"][nic["id"]] for nic in made["config"].get("network") or []}
    return [address for nic in made["generated"].get("nics", {}).values() for address in nic["addresses"]], list(macs.values())


def clone_io(hosts: Hosts, name: str, what: str) -> None:
    (clone,) = (path for path in pathlib.Path(hosts.ground("h1").state, "vms", name, "data").iterdir() if path.suffix in (".raw", ".qcow2"))
    words = ["qemu-io", *(["--force-share", "--read-only"] if what.startswith("read") else []), "-f", clone.suffix[1:], "-c", what, str(clone)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0 and "verification failed" not in done.stdout, done.stdout + done.stderr
