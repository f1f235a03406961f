# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints what a fleet costs the controller:  python tests/bench/fleet.py [--hosts 3 100] [--placement 1000 20000]

A no-change run of unkey.vmcp.site at several numbers of hosts, each simulated by a local connection with directories of its own, and the placement of
many VMs on many hosts; and, beside it, a play of pings, to tell what grows in Ansible itself. Work for a host must not grow with the number of hosts:
what is compared is the processor time of everything that was started, less that of a run with one host, by host. A machine that has other work makes all
of it dearer: compare on a quiet one. Nothing is asserted; it is for reading. Nothing runs afterwards: the VMs are defined, and not started.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import typing as t

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
Tree = dict[str, t.Any]
# Tasks that every host has in a site of hosts and fleet.
PINGS = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, nargs="*", default=[3, 100])
    parser.add_argument("--placement", type=int, nargs=2, default=[1000, 20000])
    options = parser.parse_args()
    placement(*options.placement)
    if options.hosts:
        site(sorted({1, *options.hosts}))
    return 0


def placement(hosts: int, vms: int) -> None:
    """From nothing, the same again, and with a tenth of the hosts drained."""
    from ansible_collections.unkey.vmcp.plugins.filter.placement import vmcp_placement

    dice = random.Random(1)
    facts = {
        "cpus": 64,
        "memory_bytes": 256 << 30,
        "hugepages": [],
        "kvm": {"usable": True},
        "backends": [{"backend": name, "version": "1"} for name in ("qemu", "firecracker")],
    }
    there: Tree = {f"h{n:04d}": {"labels": {"zone": "abc"[n % 3]}, "host": facts, "vms": []} for n in range(hosts)}
    fleet = [
        {
            "name": f"v{n:05d}",
            "memory": dice.choice(["512M", "2G", "8G", "16G"]),
            "vcpus": dice.choice([1, 2, 4]),
            "backend": dice.choice(["qemu", "firecracker", "auto"]),
            "placement": {"labels": {"zone": dice.choice("abc")} if n % 4 == 0 else {}, "apart": f"g{n // 3}" if n % 5 else f"large{n // 2500}"},
        }
        for n in range(vms)
    ]

    def measured(what: str, **more: t.Any) -> Tree:
        began = time.process_time()
        found = vmcp_placement(fleet, there, **more)
        print(f"placement of {vms} VMs on {hosts} hosts, {what}: {time.process_time() - began:.1f} s of processor time; {found['summary']}", flush=True)
        return found

    found = measured("from nothing")
    by_name = {entry["name"]: entry for entry in fleet}
    for decision in found["decisions"]:
        if decision["host"]:
            asked = by_name[decision["name"]]
            config = {"cpu": {"vcpu_count": asked["vcpus"]}, "memory": {"size_bytes": asked["memory"]}}
            there[decision["host"]]["vms"].append({"name": decision["name"], "config": config})
    measured("the same again", claims=found["claims"])
    for name in list(there)[::10]:
        there[name]["drained"] = True
    measured("a tenth of the hosts drained", claims=found["claims"], moves=True)


def site(numbers: list[int]) -> None:
    top = pathlib.Path(tempfile.mkdtemp(prefix="vmcp-fleet-bench-"))
    try:
        kernel = top / "kernel"
        kernel.write_bytes(b"\x7fELF")
        costs = {number: (_no_change(top, kernel, number), _pings(top, number)) for number in numbers}
    finally:
        shutil.rmtree(top)
    each = {number: [(cost - base) / (number - 1) for cost, base in zip(costs[number], costs[1], strict=True)] for number in numbers if number > 1}
    for number, (ours, pings) in each.items():
        print(f"no-change site, {number} hosts: {ours:.2f} s of processor time for each host after the first; {PINGS} pings take {pings:.2f} s")
    if len(each) > 1:
        first, last = min(each), max(each)
        grown = [b / a for a, b in zip(each[first], each[last], strict=True)]
        print(f"for each host at {last} against {first} hosts: {grown[0]:.2f} x; of the pings, which is Ansible's own: {grown[1]:.2f} x")


def _pings(top: pathlib.Path, number: int) -> float:
    """As C(_no_change), of a play that does nothing, in as many tasks."""
    place = top / f"pings{number}"
    place.mkdir()
    hosts: Tree = {f"h{n:03d}": {} for n in range(number)}
    variables = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (place / "inventory.json").write_text(json.dumps({"all": {"hosts": hosts, "vars": variables}}))
    (place / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.ping": {}}] * PINGS}]))
    return _measured(place, "play.yml")[0]


def _no_change(top: pathlib.Path, kernel: pathlib.Path, number: int) -> float:
    """Seconds of processor time of the second of two runs, everything counted that it started."""
    place = top / str(number)
    hosts = {f"h{n:03d}": {"vmcp_state_dir": f"{place}/{n}/s", "vmcp_run_dir": f"{place}/{n}/r"} for n in range(number)}
    variables = {
        "ansible_connection": "local",
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
        "vmcp_host_capacity": {"memory": "64G", "vcpus": 64},
        "vmcp_vm_defaults": {"backend": "qemu", "kernel": str(kernel), "memory": "64M"},
        "vmcp_fleet_defaults": {"backend": "qemu", "kernel": str(kernel), "memory": "64M"},
        "vmcp_vms": ["own-1", "own-2"],
        "vmcp_fleet": [{"name": "web-{index}", "count": 2 * number}],
        "vmcp_fleet_keepers": list(hosts)[:3],
    }
    place.mkdir()
    inventory = place / "inventory.json"
    inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": variables}}))
    _measured(place, "--skip-tags", "hosts", "unkey.vmcp.site")
    took, said = _measured(place, "--skip-tags", "hosts", "unkey.vmcp.site")
    if "changed=0" not in said or any(f"changed={n}" in said for n in range(1, 9)):
        raise SystemExit(f"the second run changed something:\n{said[-4000:]}")
    return took


def _measured(place: pathlib.Path, *words: str) -> tuple[float, str]:
    """Seconds of processor time of ansible-playbook and all that it starts, and what it said."""
    command = [str(pathlib.Path(sys.executable).with_name("ansible-playbook")), "-i", str(place / "inventory.json"), *words]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "UNKEY_VMCP_"))}
    environment |= {"ANSIBLE_COLLECTIONS_PATH": str(ROOT), "ANSIBLE_HOME": str(place / "ansible"), "ANSIBLE_PIPELINING": "true", "ANSIBLE_FORKS": "5"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, cwd=place)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stdout[-4000:] + done.stderr)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


if __name__ == "__main__":
    sys.exit(main())
