# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Metadata and networks on Firecracker: a secret reaches the VMM and nothing else, taps come and go with their VM.

Everything runs in a network namespace of the test."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground, Tree, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import use

SECRET = "correct-horse-battery-staple"
OTHER = "another-secret-altogether"


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=120).stdout


def why_no_namespace() -> str | None:
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    if shutil.which("ip") is None:
        return "there is no ip on PATH (package iproute2)"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "/dev/net/tun does not open"
    return None


@pytest.fixture
def namespace(ground: Playground) -> t.Iterator[str]:
    """Its name; Ansible runs in it, with a tap C(e2etap) and a bridge C(e2ebr)."""
    lack = why_no_namespace()
    if lack:
        pytest.skip(lack)
    name = f"vmcp-{ground.top.name}"
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "tuntap", "add", "e2etap", "mode", "tap")
        ip("-n", name, "link", "add", "e2ebr", "type", "bridge")
        before = interfaces(name)
        ground.prefix = ("ip", "netns", "exec", name)
        yield name
        # The playground is left before the namespace: what is still there belongs to no VM any more.
        left = ground.remove_all()
        assert not left and interfaces(name) == before
    finally:
        ground.kill_all()
        ground.prefix = ()
        ip("netns", "del", name)


def interfaces(namespace: str) -> set[str]:
    return {line.split(": ")[1].split("@")[0] for line in ip("-n", namespace, "-o", "link", "show").splitlines()}


def test_a_secret_reaches_the_vmm_only(ground: Playground, namespace: str, guest: t.Callable[..., str]) -> None:
    backend = use("firecracker", ground)
    # grep reads it from a file: a word of its own command line would be found, and shown.
    secret = ground.top / "secret"
    secret.write_text(SECRET, encoding="utf-8")
    given: Tree = {"name": "meta", "backend": "firecracker", "memory": "128M", "kernel": guest("halt"), "networks": ["e2etap"], **backend.options}
    results = ground.play(
        [
            task("boot, check", state="running", metadata={"token": SECRET}, check=True, **given),
            task("boot", state="running", metadata={"token": SECRET}, register="boot", **given),
            task("again", state="running", metadata={"token": SECRET}, **given),
            task("metadata left out", state="running", **given),
            {"name": "secrets", "ansible.builtin.command": {"argv": ["grep", "-rlF", "-f", str(secret), ground.state, ground.run_dir]}, "ignore_errors": True},
            {"name": "processes", "ansible.builtin.command": "ps axww -o args", "changed_when": False},
            task("other secret refused", metadata={"token": OTHER}, name="meta"),
            task("other secret, check", metadata={"token": OTHER}, name="meta", allow_disruption="restart", shutdown_timeout=0, check=True),
            task("other secret", metadata={"token": OTHER}, name="meta", allow_disruption="restart", shutdown_timeout=0),
            {
                "name": "old secret",
                "ansible.builtin.command": {"argv": ["grep", "-rlF", "-f", str(secret), ground.state, ground.run_dir]},
                "ignore_errors": True,
            },
            task("info", "vmcp_vm_info", names=["meta"], gather=["events", "drift", "counters"]),
        ],
        arguments=["-vvv"],
    )
    boot = results.ok("boot")
    assert boot["actions"] == ["define", "start"] == results.ok("boot, check")["actions"]
    assert boot["vm"]["nics"] == [{"id": "net0", "mac_address": boot["vm"]["nics"][0]["mac_address"], "tap": "e2etap"}]
    assert not results.ok("again")["changed"] and not results.ok("metadata left out")["changed"]
    holders = {os.path.relpath(path, ground.state) for path in results["secrets"]["stdout_lines"]}
    assert "vms/meta/secrets.json" in holders
    for name in holders:
        found = os.stat(f"{ground.state}/{name}")
        # What the VMM itself is to read its own uid may: by its group, and nobody else.
        theirs = 0o040 if found.st_gid == boot["vm"]["uid"] and not name.endswith("secrets.json") else 0
        assert found.st_mode & 0o077 & ~theirs == 0, f"{name} is for root and the VM alone"
        assert pathlib.Path(name).name not in ("vm.json", "launch", "events.jsonl", "vmm.log", "console.log", "booted.json", "satisfied.json"), name
    refused = results.refused("other secret refused", "failed_precondition")
    assert [v["field"] for v in refused["violations"]] == ["metadata"]
    predicted, changed = results.ok("other secret, check"), results.ok("other secret")
    assert predicted["actions"] == changed["actions"] == ["update", "kill", "start"]
    assert set(changed["diff"]["after"]) == {"metadata", "state"} and changed["diff"]["after"]["metadata"] == predicted["diff"]["after"]["metadata"]
    assert results["old secret"]["stdout_lines"] == []
    results.ok("info")
    assert "firecracker" in results["processes"]["stdout"]
    for result in results.all:
        assert not {word for word in (SECRET, OTHER) if word in json.dumps(result, default=str)}, result.name
    assert SECRET not in results.output and OTHER not in results.output, "nor does -vvv show it"


def test_taps_of_ours_on_a_bridge(ground: Playground, namespace: str, guest: t.Callable[..., str]) -> None:
    backend = use("firecracker", ground)
    given: Tree = {"name": "net", "backend": "firecracker", "memory": "128M", "kernel": guest("halt"), **backend.options}
    results = ground.play(
        [
            task("boot", state="running", networks=["e2ebr", {"tap_device": "e2etap", "mac_address": "52-54-00-AA-BB-CC"}], **given),
            {"name": "links", "ansible.builtin.command": "ip -o link show master e2ebr"},
            task("again", state="running", networks=["e2ebr", {"tap_device": "e2etap", "mac_address": "52:54:00:aa:bb:cc"}], **given),
            task("restart", name="net", state="restarted", shutdown_timeout=0),
            task("no such interface", name="lost", backend="firecracker", kernel=guest("halt"), networks=["nowhere0"], **backend.options),
            task("no such interface, check", name="lost", backend="firecracker", kernel=guest("halt"), networks=["nowhere0"], check=True, **backend.options),
            task("stop", name="net", state="shutdown", shutdown_timeout=0),
            {"name": "links after", "ansible.builtin.command": "ip -o link show master e2ebr"},
        ]
    )
    bridged, tapped = results.ok("boot")["vm"]["nics"]
    assert bridged["tap"].startswith("vm") and len(bridged["tap"]) <= 15 and f": {bridged['tap']}: " in results["links"]["stdout"]
    assert (tapped["tap"], tapped["mac_address"]) == ("e2etap", "52:54:00:aa:bb:cc")
    assert not results.ok("again")["changed"]
    assert results.ok("restart")["vm"]["nics"] == [bridged, tapped], "address and tap are chosen once"
    lost = results.refused("no such interface", "failed_precondition")
    assert [v["field"] for v in lost["violations"]] == ["networks[0]"] or [v["field"] for v in lost["violations"]] == ["config.network[0].tap_device"]
    assert "nowhere0" in lost["msg"] and "ip tuntap add nowhere0" in lost["msg"]
    assert [need["message"] for need in results.ok("no such interface, check")["would_need"]] == [v["message"] for v in lost["violations"]]
    results.ok("stop")
    assert results["links after"]["stdout"] == "", "a tap of ours goes with its VM"


def test_secrets_of_many_are_in_no_result_and_no_file_that_others_read(ground: Playground, namespace: str, guest: t.Callable[..., str]) -> None:
    backend = use("firecracker", ground)
    common: Tree = {"backend": "firecracker", "state": "running", "memory": "128M", "kernel": guest("halt"), "networks": ["e2ebr"], **backend.options}
    secrets = {"a": {"metadata": {"token": SECRET}}, "g-{index}": {"metadata": {"token": OTHER}}}
    given: Tree = {"defaults": common, "vms": ["a", {"name": "g-{index}", "count": 2}], "return": "full"}
    changed = {**secrets, "a": {"metadata": {"token": f"changed-{OTHER}"}}}
    results = ground.play(
        [
            task("check", "vmcp_vms", check=True, secrets=secrets, **given),
            task("make", "vmcp_vms", secrets=secrets, **given),
            task("again", "vmcp_vms", secrets=secrets, **given),
            task("another", "vmcp_vms", secrets=changed, **{**given, "defaults": {**common, "allow_disruption": "restart"}}),
            task("nobody's", "vmcp_vms", secrets={**secrets, "z": {"metadata": {}}, "a": {"token": SECRET}}, **given),
            task("in the entry", "vmcp_vms", vms=[{"name": "a", "metadata": {"token": 1}}]),
            task("one tap", "vmcp_vms", defaults={**common, "networks": ["e2etap"]}, vms=["b", "c"]),
            task("remove", "vmcp_vms", vms=[], prune={"allow_empty": True}),
        ],
        arguments=["-vvv"],
    )
    assert results.ok("check")["changed"] and results.ok("make")["changed"] and not results.ok("again")["changed"]
    another = results.ok("another")["vms"]
    assert {name: verdict.get("changed_fields") for name, verdict in another.items()} == {"a": ["metadata"], "g-0": None, "g-1": None}
    taps = {nic["tap"] for verdict in results.ok("make")["vms"].values() for nic in verdict["vm"]["nics"]}
    assert len(taps) == 3, "each has a tap of its own on the bridge"
    assert sorted(v["field"] for v in results.refused("nobody's", "invalid_argument")["violations"]) == ["secrets.a", "secrets.z"]
    (refused,) = results.refused("in the entry", "invalid_argument")["violations"]
    assert refused["field"] == "vms[0].metadata" and "secrets.NAME.metadata" in refused["message"]
    (refused,) = results.refused("one tap", "invalid_argument")["violations"]
    assert "e2etap is used by VM b of this task already" in refused["message"]
    assert results.ok("remove")["removed"] == ["a", "g-0", "g-1"]
    # The play's own file has them; what Ansible says of it, and what the modules do, has not.
    for text in (results.output, json.dumps(results.all)):
        assert SECRET not in text and OTHER not in text
