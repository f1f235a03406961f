# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many VMs in one task on a host with systemd: what is asked of systemd does not grow with their number, and nothing is left of them.

Real Firecracker where it is on PATH and /dev/kvm opens, else QEMU.
"""

from __future__ import annotations

import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.hosts.nspawn import Host
from ansible_collections.unkey.vmcp.tests.integration.systemd.on_host import GREETING, backends, task
from ansible_collections.unkey.vmcp.tests.waiting import until

pytestmark = [pytest.mark.systemd, pytest.mark.root]

COUNT = 20
UNITS = [f"vmcp-vm@fn-{index:02d}.service" for index in range(COUNT)]
BACKEND = backends()[-1]
FLEET: dict[str, t.Any] = {
    "name": "fn-{index:02d}",
    "count": COUNT,
    "backend": BACKEND,
    "kernel": "/opt/kernels/halt",
    "memory": "128M",
    "autostart": True,
    "restart_policy": {"on_crash": "restart"},
    "wait_timeout": 600,
}
# First on the PATH that our modules and units use; it notes what is asked and asks it.
SYSTEMCTL = """#!/bin/sh
printf '%s\\n' "$*" >> /run/asked-of-systemd
exec /usr/bin/systemctl "$@"
"""


@pytest.fixture(scope="module", autouse=True)
def _noting_systemctl(host: Host) -> t.Iterator[None]:
    path = host.root / "usr" / "local" / "sbin" / "systemctl"
    path.write_text(SYSTEMCTL)
    path.chmod(0o755)
    yield
    path.unlink()


def fleet(host: Host, state: str, **options: t.Any) -> tuple[dict[str, t.Any], list[list[str]]]:
    """One task on all of them: its result, and what it asked of systemd."""
    host.run(["rm", "-f", "/run/asked-of-systemd"])
    result = task(host, "vmcp_vms", vms=[{**FLEET, "state": state, **options}], overcommit=True)
    asked = host.run(["sh", "-c", "cat /run/asked-of-systemd 2>/dev/null || :"]).stdout.splitlines()
    # Without that option, it was a unit that asked.
    return result, [words[1:] for line in asked if (words := line.split())[0] == "--no-ask-password"]


def units(host: Host, *words: str) -> dict[str, str]:
    """Units of VMs by name, with their state, as systemctl lists them."""
    listed = host.run(["/usr/bin/systemctl", "list-units", "--plain", "--no-legend", "--full", *words, "vmcp-vm@*"]).stdout.splitlines()
    return {line.split()[0]: line.split()[2] for line in listed}


def pids(host: Host) -> dict[str, int]:
    found = task(host, "vmcp_vm_info")["vms"]
    return {vm["name"]: vm["pid"] for vm in found}


def test_twenty_at_once_from_nothing_to_nothing(host: Host) -> None:
    print(f"{COUNT} VMs of {BACKEND}")
    made, asked = fleet(host, "running", wait_for=[{"console": GREETING}])
    assert (made["summary"]["created"], made["summary"]["started"]) == (COUNT, COUNT)
    starts = [words for words in asked if words[0] == "start"]
    assert len(starts) == 1 and set(UNITS) < set(starts[0]), "all in one request"
    assert len([words for words in asked if words[0] == "daemon-reload"]) <= 1
    assert units(host, "--state=active") == dict.fromkeys(UNITS, "active")

    same, asked = fleet(host, "running", wait_for=[{"console": GREETING}])
    assert (same["changed"], same["summary"]["unchanged"]) == (False, COUNT)
    assert asked == [], "a task that finds nothing to do asks systemd nothing"

    before = pids(host)
    host.run(["kill", "-KILL", str(before["fn-07"])])
    until(lambda: pids(host)["fn-07"] not in (None, before["fn-07"]), "policy restarts it")
    after = pids(host)
    assert {name for name in before if before[name] != after[name]} == {"fn-07"}, "the others run on"
    assert fleet(host, "running")[0]["changed"] is False

    began = time.monotonic()
    down, asked = fleet(host, "shutdown", shutdown_timeout=1)
    assert down["summary"]["stopped"] == COUNT
    # It is asked about ends that take long to be cleared up after, at intervals: not about each.
    assert len(asked) < COUNT / 2 + (time.monotonic() - began) / 2, asked
    until(lambda: units(host) == {}, "none is active or has failed")
    again, asked = fleet(host, "shutdown", shutdown_timeout=1)
    assert (again["changed"], asked) == (False, [])

    assert fleet(host, "running")[0]["summary"]["started"] == COUNT
    fail(host, "fn-03")
    gone, asked = fleet(host, "absent")
    assert gone["summary"]["removed"] == COUNT
    assert [words[0] for words in asked] == ["stop", "list-units", "reset-failed"], "each once, for all of them"
    assert asked[2][1:] == ["vmcp-vm@fn-03.service"], "only what has failed"
    assert left(host) == []


def fail(host: Host, name: str) -> None:
    """Its VMM crashes and is not restarted, so that its unit has failed."""
    policy = task(host, "vmcp_vm", name=name, restart_policy={"on_crash": "no"})
    host.run(["kill", "-SEGV", str(policy["vm"]["pid"])])
    until(lambda: units(host, "--failed") == {f"vmcp-vm@{name}.service": "failed"}, "the unit has failed")


def left(host: Host) -> list[str]:
    """What there still is of any VM, in words."""
    found = [f"unit {name} {state}" for name, state in units(host, "--all").items()]
    # The run-time directory itself and how far the last task was stay.
    found += host.run(["find", "/var/lib/vmcp/vms", "/run/vmcp", "-mindepth", "1", "!", "-name", ".progress.jsonl"]).stdout.splitlines()
    found += host.run(["find", "/etc/systemd/system", "-name", "*fn-*"]).stdout.splitlines()
    found += host.run(["sh", "-c", "find /sys/fs/cgroup -name '*fn-*' -type d 2>/dev/null"]).stdout.splitlines()
    found += [line for line in host.run(["ps", "-eo", "pid,args"]).stdout.splitlines() if "vmcp" in line or "/fn-" in line]
    found += [line for line in host.run(["cat", "/proc/self/mountinfo"]).stdout.splitlines() if "/vmcp" in line.split()[4]]
    found += [line for line in host.run(["cat", "/var/lib/vmcp/allocations.json"]).stdout.splitlines() if "fn-" in line]
    return found
