# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many VMs under systemd, against prepared units of the same jailed VMM, on a host with systemd that is made for it and thrown away."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shutil
import statistics
import time
import typing as t

from floor import FIRST_UID, ready_made, wait_for_first_lines
from ground import GREETING, PING, Ground, ground, settle, tmpfs
from hosts.nspawn import Host, HostUnavailable, base_tree, check_possible, made_host, shared
from table import Table

LABELS = {"fleet": "bench"}
DEADLINE_S = 240
WHAT = "under systemd, jailed"
# Without anything that we add: what systemd itself takes to start the jailer.
_UNIT = """[Service]
Type=exec
EnvironmentFile={base}/env-%i
ExecStart={jailer} --id vm-%i --exec-file {vmm} --uid ${{FLOOR_UID}} --gid ${{FLOOR_UID}} --chroot-base-dir {base} -- \
--api-sock /api.sock --log-path /log --level Error --config-file /vm.json
StandardOutput=file:{base}/console-%i
KillSignal=SIGKILL
SuccessExitStatus=SIGKILL
"""


def rows(table: Table, backend: str, count: int, rounds: int) -> None:
    """In each round the prepared units, then ours."""
    if not shutil.which("jailer"):
        table.leave_out(f"{count} VMs {WHAT}", "no 'jailer' on PATH")
        return
    try:
        check_possible()
        with contextlib.ExitStack() as stack:
            made = stack.enter_context(ground(backend))
            base = stack.enter_context(tmpfs(made.place / "t")) / "floor"
            host = made_host(stack, base_tree(), ["--private-network", f"--bind={made.place}", *(f"--bind-ro={path}" for path in shared())])
            host.boot()
            there = dataclasses.replace(made, system=True, prefix=tuple(host.enter()))
            floors, ours = [], []
            for dummy in range(rounds):
                settle()
                floors.append(_prepared_units(host, there, base, count))
                settle()
                ours.append(_ours(there, count))
    except HostUnavailable as exc:
        table.leave_out(f"{count} VMs {WHAT}", str(exc))
        return
    for at, what, against in ((0, "from nothing to the first console line", "`systemctl start`"), (1, "removed", "`systemctl stop` and rm")):
        ratio = statistics.median(mine[at] / floor[at] for mine, floor in zip(ours, floors, strict=True))
        middle, floor_middle = (statistics.median(figures[at] for figures in of) for of in (ours, floors))
        table.add(f"{count} VMs {what}, {WHAT}", f"{ratio:.2f} x {against} of prepared units ({middle:.2f} s; {floor_middle:.2f} s)", "<= 2 x", ratio <= 2)


def _prepared_units(host: Host, where: Ground, base: pathlib.Path, count: int) -> tuple[float, float]:
    """Seconds until all guests have spoken, and to be rid of them again."""
    vmm = os.path.realpath(str(shutil.which("firecracker")))
    for index in range(count):
        ready_made(where, base, index, pathlib.Path(vmm).name)
        (base / f"env-{index}").write_text(f"FLOOR_UID={FIRST_UID + index}\n")
    (host.root / "etc/systemd/system/floor@.service").write_text(_UNIT.format(base=base, jailer=shutil.which("jailer"), vmm=vmm))
    host.run(["systemctl", "daemon-reload"])
    units = [f"floor@{index}.service" for index in range(count)]
    began = time.perf_counter()
    host.run(["systemctl", "start", *units], timeout_s=DEADLINE_S)
    wait_for_first_lines([base / f"console-{index}" for index in range(count)], time.monotonic() + DEADLINE_S)
    up = time.perf_counter()
    host.run(["systemctl", "stop", *units], timeout_s=DEADLINE_S)
    host.run(["rm", "-rf", "--", str(base)], timeout_s=DEADLINE_S)
    return up - began, time.perf_counter() - up


def _ours(where: Ground, count: int) -> tuple[float, float]:
    """The same by one task each, beyond a ping."""
    common = where.vm(labels=LABELS, wait_for=[{"console": GREETING}])
    fleet: dict[str, t.Any] = {"defaults": common, "vms": [{"name": "fn-{index:04d}", "count": count}], "overcommit": True, "wait_timeout": 120}
    gone = {"vms": [], "prune": {"labels": LABELS, "allow_empty": True}}
    tasks = [PING, {"name": "first", "unkey.vmcp.vmcp_vms": gone}, PING, {"name": "start", "unkey.vmcp.vmcp_vms": fleet}, PING]
    took = where.play([*tasks, {"name": "remove", "unkey.vmcp.vmcp_vms": gone}, PING], deadline_s=DEADLINE_S)
    return took.beyond_ping_s("start"), took.beyond_ping_s("remove")
