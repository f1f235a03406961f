# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMMs that somebody else runs: driven through their API socket, with nothing of theirs stored and nothing done that is their owner's."""

from __future__ import annotations

import os
import pathlib
import shutil
import socket as sockets
import subprocess
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm, use

VARIABLE = {"firecracker": "UNKEY_VMCP_FC_ENDPOINT", "cloudhypervisor": "UNKEY_VMCP_CH_ENDPOINT"}


def start(backend: Vmm, top: pathlib.Path) -> tuple[subprocess.Popen[bytes], str]:
    """A VMM without a VM, and its socket."""
    socket = str(top / "theirs.sock")
    path = os.pathsep.join((*backend.path, os.environ.get("PATH", os.defpath)))
    binary = shutil.which({"firecracker": "firecracker", "cloudhypervisor": "cloud-hypervisor"}[backend.backend], path=path)
    words = [str(binary), "--api-sock", socket, "--id", "theirs"] if backend.backend == "firecracker" else [str(binary), "--api-socket", f"path={socket}"]
    with (top / "theirs.log").open("wb") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=top)
    deadline = time.monotonic() + 90
    while not _is_served(socket):
        assert time.monotonic() < deadline and process.poll() is None, (top / "theirs.log").read_text()
        time.sleep(0.02)
    return process, socket


def _is_served(path: str) -> bool:
    with sockets.socket(sockets.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


@pytest.mark.parametrize("name", ["firecracker", "cloudhypervisor"])
def test_a_vmm_of_somebody_else(ground: Playground, name: str, guest: t.Callable[..., str], top: pathlib.Path) -> None:
    backend = use(name, ground, start=False)
    process, socket = start(backend, top)
    try:
        _go_through(ground, name, guest("halt"), socket)
        assert process.poll() is None, "the VMM's process is its owner's"
    finally:
        process.kill()
        process.wait(60)
    assert not pathlib.Path(ground.state).exists() and not pathlib.Path(ground.run_dir).exists(), "nothing of it is stored"


def _twice(title: str, **options: t.Any) -> list[t.Any]:
    """As a check, and in earnest."""
    return [task(f"{title}, check", **options, check=True), task(title, **options)]


def _go_through(ground: Playground, name: str, kernel: str, socket: str) -> None:
    endpoint = {"name": "theirs", "endpoint": f"unix://{socket}"}
    config = {"memory": {"size_bytes": "128M"}, "boot": {"kernel_path": kernel, "kernel_args": "quiet"}}
    environment = {VARIABLE[name]: f"unix://{socket}"}
    steps = [
        task("nothing there", **endpoint, state="running"),
        *_twice("vsock without a cid", **endpoint, backend=name, config={**config, "vsock": {"path": "/tmp/v.sock"}}),
        *_twice("vsock without a path", **endpoint, backend=name, config={**config, "vsock": {"cid": 5}}),
        task("define, check", **endpoint, backend=name, config=config, check=True),
        task("define", **endpoint, backend=name, config=config),
        task("define again", **endpoint, config=config),
        task("boot", state="running", name="theirs", backend=name, config=config, environment=environment),
        task("boot again", **endpoint, state="running"),
        task("pause, check", **endpoint, state="paused", check=True),
        task("pause", **endpoint, state="paused"),
        task("pause again", **endpoint, state="paused"),
        task("resume", name="theirs", state="running", environment=environment),
        task("info", "vmcp_vm_info", endpoint=f"unix://{socket}"),
        task("another memory", **endpoint, config={"memory": {"size_bytes": "256M"}}),
        task(
            "an owner's matters", **endpoint, labels={"a": "b"}, restart_policy={"on_crash": "restart"}, metadata={"a": "b-secret"}, wait_for=[{"console": "x"}]
        ),
        task("no socket", name="theirs", endpoint="unix:///nonexistent/api.sock", state="paused"),
        task("no path", name="theirs", endpoint="tcp://127.0.0.1:80", state="paused"),
        *_twice("shut down", **endpoint, state="shutdown"),
        *_twice("remove", **endpoint, state="absent"),
        task("remove again", **endpoint, state="absent"),
    ]
    results = ground.play(steps)
    assert "no configuration" in results.refused("nothing there", "not_found")["msg"]
    for title, field in (("vsock without a cid", "cid"), ("vsock without a path", "path")):
        for one in (f"{title}, check", title):
            refused = results.refused(one, "invalid_argument")
            assert [v["field"] for v in refused["violations"]] == [f"config.vsock.{field}"], refused
    predicted, defined = results.ok("define, check"), results.ok("define")
    assert predicted["actions"] == defined["actions"] == ["define"] and predicted["diff"] == defined["diff"]
    assert (defined["vm"]["state"], defined["vm"]["backend"], defined["vm"]["endpoint"]) == ("created", name, f"unix://{socket}")
    assert not results.ok("define again")["changed"], "its backend is found out, and its configuration compared"
    assert results.ok("boot")["actions"] == ["start"] and results["boot"]["vm"]["state"] == "running"
    assert not results.ok("boot again")["changed"]
    predicted, paused = results.ok("pause, check"), results.ok("pause")
    assert predicted["actions"] == paused["actions"] == ["pause"] and predicted["diff"] == paused["diff"] and paused["vm"]["state"] == "paused"
    assert not results.ok("pause again")["changed"]
    assert results.ok("resume")["actions"] == ["resume"]
    (seen,) = results.ok("info")["vms"]
    assert (seen["state"], seen["config"]["memory"]["size_bytes"], seen["config"]["boot"]["kernel_args"].split()[0]) == ("running", 128 << 20, "quiet")
    refused = results.refused("another memory", "failed_precondition")
    assert [v["field"] for v in refused["violations"]] == ["config.memory.size_bytes"] and "owner" in refused["msg"]
    owners = results.refused("an owner's matters", "invalid_argument")
    assert sorted(v["field"] for v in owners["violations"]) == ["labels", "metadata", "restart_policy", "wait_for[0]"]
    results.refused("no socket", "unavailable")
    assert [v["field"] for v in results.refused("no path", "invalid_argument")["violations"]] == ["endpoint"]
    if name == "firecracker":
        for one in ("shut down, check", "shut down", "remove, check", "remove"):
            assert "whoever runs the process" in results.refused(one, "failed_precondition")["msg"]
        return
    assert results.ok("shut down, check")["actions"] == ["shutdown"] and results.ok("remove, check")["actions"] == ["remove"]
    assert results.ok("shut down")["vm"]["state"] == "created"
    assert results.ok("remove")["actions"] == ["remove"] and not results.ok("remove again")["changed"]


def test_the_environment_names_no_vm_of_ours(ground: Playground, qemu: Vmm, guest: t.Callable[..., str]) -> None:
    """C(UNKEY_VMCP_*_ENDPOINT) is for names that are not ours, and for the backend that it speaks of."""
    nowhere = {"UNKEY_VMCP_CH_ENDPOINT": "unix:///nonexistent/ch.sock", "UNKEY_VMCP_FC_ENDPOINT": "unix:///nonexistent/fc.sock"}
    results = ground.play(
        [
            task("other backend", name="ours", backend="qemu", kernel=guest("halt"), environment=nowhere),
            task("ours", name="ours", labels={"a": "b"}, environment=nowhere),
            task("which", name="theirs", state="paused", environment=nowhere),
            task("theirs", name="theirs", state="paused", backend="firecracker", environment=nowhere),
        ]
    )
    assert results.ok("other backend")["actions"] == ["define"] and results.ok("ours")["actions"] == ["update"]
    assert [v["field"] for v in results.refused("which", "invalid_argument")["violations"]] == ["backend"]
    results.refused("theirs", "unavailable")
