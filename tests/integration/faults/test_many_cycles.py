# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMs made and removed over and over: afterwards files, processes, mounts (and the memory behind them), interfaces and uids are where they were."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground, Tree
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm
from ansible_collections.unkey.vmcp.tests.integration.faults.built_module import BuiltModule
from ansible_collections.unkey.vmcp.tests.integration.faults.host_trace import at_rest

# How many VMs are made and removed, so many at once; hundreds for those who have the time.
CYCLES = int(os.environ.get("VMCP_SOAK_CYCLES", "100"))
AT_ONCE = 5


@pytest.fixture
def bridge() -> t.Iterator[str | None]:
    """A bridge on which taps are made; None where there can be none."""
    name = f"vmsoak{os.getpid() % 100000}"
    if os.geteuid() != 0 or shutil.which("ip") is None or subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=False).returncode:
        print("soak: without taps, because no bridge can be made here")
        yield None
        return
    yield name
    subprocess.run(["ip", "link", "delete", name], check=True, timeout=60)


def _host(ground: Playground) -> Tree:
    """What is on the host beyond the VMs' own directories. Locks stay, one a name."""
    state = pathlib.Path(ground.state)
    return {
        **at_rest(ground),
        "bytes": sum(path.stat().st_size for path in state.rglob("*") if path.is_file() and path.name != "allocations.json"),
        "locks": sorted(path.name for path in pathlib.Path(f"{ground.run_dir}.locks").iterdir()),
        "interfaces": sorted(name for name in os.listdir("/sys/class/net") if name.startswith("vm")),
        # What goes away meanwhile, with the hosts of other tests, is no error to os.walk.
        "groups": [f"{top}/{name}" for top, names, _files in os.walk("/sys/fs/cgroup") for name in names if name.startswith("soak-")],
    }


def test_nothing_is_left_of_many_vms(ground: Playground, module: BuiltModule, firecracker: Vmm, guest: t.Callable[..., str], bridge: str | None) -> None:
    given = {"backend": "firecracker", "memory": "128M", "kernel": guest("halt"), "shutdown_timeout": 0, **firecracker.options}
    if bridge:
        given["networks"] = [bridge]
    names = [f"soak-{number}" for number in range(AT_ONCE)]

    def cycle() -> None:
        made = module.run_together([{"name": name, "state": "running", **given} for name in names], path=ground.path)
        uids = [one.ok()["vm"]["uid"] for one in made]
        assert len(set(uids)) == len(uids) or os.geteuid() != 0
        for one in module.run_together([{"name": name, "state": "absent"} for name in names], path=ground.path):
            assert one.ok()["changed"]

    cycle()
    before = _host(ground)
    for _round in range(max(1, CYCLES // AT_ONCE)):
        cycle()
    assert _host(ground) == before
    if bridge:
        assert not os.listdir(f"/sys/class/net/{bridge}/brif"), "taps on the bridge"
