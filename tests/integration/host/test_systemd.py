# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The systemd supervisor on a host booted for it (tests/hosts): inside_systemd.py there, and what only a reboot shows."""

from __future__ import annotations

import json
import pathlib
import sys
import typing as t

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from hosts.nspawn import REPOSITORY, Host, HostUnavailable, systemd_host

pytestmark = [pytest.mark.systemd, pytest.mark.root]

# Defines two VMs of stubs, one with autostart, and starts both.
DEFINE = """
import sys
sys.path[:0] = ["{here}"]
from vms import STUB, Maker
from inside_systemd import LAYOUT, ISOLATED, SystemdSupervisor
from ansible_collections.unkey.vmcp.tests.waiting import soon
import pathlib
stub = pathlib.Path("/usr/local/bin/stub")
stub.write_text(STUB)
stub.chmod(0o755)
maker, supervisor = Maker(LAYOUT, stub), SystemdSupervisor(LAYOUT)
vms = [maker.define(name, maker.stub_spec("stay", stop=("/bin/sh", "-c", "kill $(cut -d' ' -f1 pid)")), ISOLATED) for name in ("auto", "manual")]
assert supervisor.start(vms, soon()) == {{}}
supervisor.set_autostart(vms[0], True)
"""


@pytest.fixture(scope="module")
def host() -> t.Iterator[Host]:
    try:
        with systemd_host() as made:
            yield made
    except HostUnavailable as exc:
        pytest.skip(str(exc))


def test_inside(host: Host) -> None:
    here = pathlib.Path(__file__).parent
    done = host.python(
        ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(REPOSITORY), str(here / "inside_systemd.py")], timeout_s=900, check=False
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_host_reboot_ends_vms_in_order_and_starts_those_that_are_to(host: Host) -> None:
    host.python(["-c", DEFINE.format(here=pathlib.Path(__file__).parent)])
    host.reboot()
    for name in ("auto", "manual"):
        events = [json.loads(line) for line in host.run(["cat", f"/var/lib/vmcp/vms/{name}/events.jsonl"]).stdout.splitlines()]
        ending = next(e for e in events if e["event"] == "exit")
        assert (ending["reason"], ending["signal"]) == ("host", "SIGTERM"), name
    assert host.run(["systemctl", "is-active", "vmcp-vm@auto.service"]).stdout.strip() == "active"
    assert host.run(["systemctl", "is-active", "vmcp-vm@manual.service"], check=False).stdout.strip() == "inactive"
    assert host.run(["systemctl", "is-active", "vmcp-console.timer"]).stdout.strip() == "active"


def test_a_host_that_crashes_leaves_a_lost_end_and_its_vms_come_back(host: Host) -> None:
    host.crash()
    host.boot()
    assert host.run(["systemctl", "is-active", "vmcp-vm@auto.service"]).stdout.strip() == "active"
    lines = [json.loads(line)["event"] for line in host.run(["cat", "/var/lib/vmcp/vms/auto/events.jsonl"]).stdout.splitlines()]
    assert lines[-4:] == ["start", "boot", "start", "boot"]
