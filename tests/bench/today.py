# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people do today: calls of ansible.builtin.uri on each VMM's socket, and a loop of a module for one VM. A few VMs, and the cost of each."""

from __future__ import annotations

import contextlib
import shutil

from ground import GREETING, PING, Ground, Task
from table import Table

FEW = 5


def today(ground: Ground, table: Table, vms_s_each: float | None, count: int) -> None:
    """C(vms_s_each): what a VM cost in one task in this run, without the jailer, for C(count) of them."""
    uri_s = _uri(ground)
    loop_s = _loop(ground)
    beside = f"; `vmcp_vms` here {vms_s_each * 1000:.0f} ms a VM at {count}" if vms_s_each is not None else ""
    for what, each_s in (("a playbook of `uri` calls (directory, process, 3 PUTs, console; a loop each)", uri_s), ("a loop of `vmcp_vm`", loop_s)):
        measured = f"{each_s * 1000:.0f} ms a VM, measured with {FEW}; {count} would take {each_s * count:.0f} s{beside}"
        table.add(f"what people do today: {what}, bare", measured)


def _uri(ground: Ground) -> float:
    """Seconds a VM, over all tasks. As quick as such a playbook gets: each step is a loop, and no step waits longer than it must."""
    base = f"{ground.place}/today"
    one = f"{base}/{{{{ item }}}}"
    start = f"setsid {shutil.which('firecracker')} --api-sock {one}/api.sock --log-path log --level Error < /dev/null > console 2>&1"
    begin = f"cd {one} && {{ {start} & echo $! > pid; until [ -S api.sock ]; do sleep 0.01; done; }}"
    steps: list[Task] = [
        {"ansible.builtin.file": {"path": one, "state": "directory", "mode": "0700"}},
        {"ansible.builtin.shell": begin},
        _put(one, "machine-config", {"vcpu_count": 1, "mem_size_mib": 128}),
        _put(one, "boot-source", {"kernel_image_path": str(ground.kernel), "boot_args": "console=ttyS0"}),
        _put(one, "actions", {"action_type": "InstanceStart"}),
        {"ansible.builtin.wait_for": {"path": f"{one}/console", "search_regex": GREETING, "timeout": 20}},
    ]
    measured = [{**step, "name": "uri", "loop": list(range(FEW))} for step in steps]
    with contextlib.ExitStack() as stack:
        end = {"ansible.builtin.shell": f"for vm in {base}/*; do kill -KILL $(cat $vm/pid); done; rm -rf {base}", "name": "end"}
        stack.callback(ground.play, [end])
        return sum(ground.play(measured).seconds["uri"]) / FEW


def _put(directory: str, what: str, body: dict[str, object]) -> Task:
    call = {"url": f"http://localhost/{what}", "unix_socket": f"{directory}/api.sock", "method": "PUT", "body_format": "json", "body": body}
    return {"ansible.builtin.uri": {**call, "status_code": 204}}


def _loop(ground: Ground) -> float:
    vm = ground.vm(name="one-{{ item }}", wait_for=[{"console": GREETING}], security={"jail": False})
    gone = {"name": "one-{{ item }}", "state": "absent"}
    with contextlib.ExitStack() as stack:
        stack.callback(ground.play, [{"name": "end", "unkey.vmcp.vmcp_vm": gone, "loop": list(range(FEW))}])
        # Built before: what the first use of a module costs is no cost of each VM.
        first = {"name": "first", "unkey.vmcp.vmcp_vm": {"name": "none", "state": "absent"}}
        return ground.play([PING, first, {"name": "loop", "unkey.vmcp.vmcp_vm": vm, "loop": list(range(FEW))}]).seconds["loop"][0] / FEW
