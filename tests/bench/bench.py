# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints what our tasks cost as ratios measured in one run:  python tests/bench/bench.py [--rounds N] [--runtime]

Every figure is taken against a floor that is measured beside it, task by task in turn, so that a machine that is slow today is slow for both.
Nothing is asserted: this is for reading, and for comparing two checkouts on one machine. Firecracker is the real one when 'firecracker' is on PATH and
/dev/kvm opens; else the rows that need it are left out, and the reason is printed.

--runtime  also measure with the system's Python and the runtime that the role vmcp_host installs in /opt/vmcp (needs root; the role is applied first).
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import typing as t

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))

from guests import pvh_guest  # noqa: E402

GREETING = "bench: the guest is up"
DEADLINE_S = 300
BY_HAND_DEADLINE_S = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--runtime", action="store_true")
    options = parser.parse_args()
    rows: list[tuple[str, str, str]] = []
    with tempfile.TemporaryDirectory(prefix="vb-") as directory:
        place = pathlib.Path(directory)
        backend = _backend()
        rows += no_change(place, backend, sys.executable, "this environment's Python", options.rounds)
        if options.runtime:
            rows += with_runtime(place, backend, options.rounds)
        else:
            print("left out: the system's Python with the installed runtime (give --runtime, as root)")
        if backend == "firecracker":
            for jailed in (False, True):
                if jailed and (os.geteuid() != 0 or not shutil.which("jailer")):
                    print("left out: the jailed start (needs root and 'jailer' on PATH)")
                    continue
                rows += start(place, jailed, options.rounds)
        else:
            print("left out: the start of a Firecracker VM (no 'firecracker' on PATH, or /dev/kvm does not open)")
    width = max(len(row[0]) for row in rows)
    print(f"\n{'what':{width}}  {'measured':>34}  goal")
    for what, measured, goal in rows:
        print(f"{what:{width}}  {measured:>34}  {goal}")
    return 0


def _backend() -> str:
    real = shutil.which("firecracker") and os.access("/dev/kvm", os.R_OK | os.W_OK)
    if not real and not shutil.which("qemu-system-x86_64"):
        raise SystemExit("Neither Firecracker nor QEMU is here: install qemu-system-x86, or put firecracker on PATH.")
    return "firecracker" if real else "qemu"


def no_change(place: pathlib.Path, backend: str, python: str, which: str, rounds: int) -> list[tuple[str, str, str]]:
    """A task that finds nothing to do, in turn with a ping, in one play."""
    vm = {**_vm(place, backend), "name": f"same-{len(which)}"}
    with _removed(place, python, vm):
        first = {"name": "first", "unkey.vmcp.vmcp_vm": vm}
        pair = [{"name": "ping", "ansible.builtin.ping": {}}, {"name": "vm", "unkey.vmcp.vmcp_vm": vm}]
        # The first of each pays for building the module on the controller, once a play.
        took = _play(place, python, [first, *pair, *(task for dummy in range(rounds) for task in pair)])
    pings, vms = took["ping"][1:], took["vm"][1:]
    ratio = statistics.median(vm_s / ping_s for vm_s, ping_s in zip(vms, pings, strict=True))
    return [(f"vmcp_vm, nothing to do ({backend}), {which}", f"{ratio:.2f} x ping ({statistics.median(pings) * 1000:.0f} ms)", "<= 1.5 x")]


def with_runtime(place: pathlib.Path, backend: str, rounds: int) -> list[tuple[str, str, str]]:
    if os.geteuid() != 0:
        print("left out: the system's Python with the installed runtime (needs root)")
        return []
    _play(place, "/usr/bin/python3", [], roles=["unkey.vmcp.vmcp_host"])
    return no_change(place, backend, "/usr/bin/python3", "the system's Python with the runtime", rounds)


def start(place: pathlib.Path, jailed: bool, rounds: int) -> list[tuple[str, str, str]]:
    """From the task's start to the guest's first line, less a ping, against the same VMM with the same file started by hand."""
    vm = {**_vm(place, "firecracker"), "name": "start", "wait_for": [{"console": GREETING}], "security": {"jail": jailed}}
    gone = {"name": "start", "state": "absent", "state_dir": vm["state_dir"]}
    turn = [{"name": "ping", "ansible.builtin.ping": {}}, {"name": "vm", "unkey.vmcp.vmcp_vm": vm}, {"name": "gone", "unkey.vmcp.vmcp_vm": gone}]
    with _removed(place, sys.executable, vm):
        took = _play(place, sys.executable, [task for dummy in range(rounds + 1) for task in turn])
    by_hand = statistics.median(_by_hand(place, jailed) for dummy in range(rounds))
    more = statistics.median(took["vm"][1:]) - statistics.median(took["ping"][1:]) - by_hand
    mode = "jailed" if jailed else "bare"
    return [(f"first console line of a new Firecracker VM, {mode}", f"{more * 1000:+.0f} ms over by hand ({by_hand * 1000:.0f} ms) and ping", "<= +150 ms")]


def _by_hand(place: pathlib.Path, jailed: bool) -> float:
    """One process, started as a person would, until its first console line."""
    base = pathlib.Path(tempfile.mkdtemp(prefix="h-", dir=place))
    firecracker = os.path.realpath(str(shutil.which("firecracker")))
    root = base / pathlib.Path(firecracker).name / "hand" / "root" if jailed else base
    root.mkdir(parents=True, exist_ok=True)
    shutil.copy(place / "kernel", root / "kernel")
    inside = pathlib.Path("/") if jailed else root
    document = {
        "boot-source": {"kernel_image_path": str(inside / "kernel"), "boot_args": "console=ttyS0"},
        "machine-config": {"vcpu_count": 1, "mem_size_mib": 128},
        "drives": [],
    }
    (root / "vm.json").write_text(json.dumps(document))
    # With a log of its own: on stdout its lines would fall into the middle of the guest's.
    words = ["--api-sock", str(inside / "api.sock"), "--config-file", str(inside / "vm.json"), "--log-path", str(inside / "log"), "--level", "Error"]
    if jailed:
        command = [
            str(shutil.which("jailer")),
            "--id",
            "hand",
            "--exec-file",
            firecracker,
            "--uid",
            "65533",
            "--gid",
            "65533",
            "--chroot-base-dir",
            str(base),
            "--",
            *words,
        ]
        os.chown(root, 65533, 65533)
    else:
        command = [firecracker, "--id", "hand", *words]
    began = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as vmm:
        assert vmm.stdout is not None
        said = b""
        watchdog = threading.Timer(BY_HAND_DEADLINE_S, vmm.kill)
        watchdog.start()
        try:
            for line in vmm.stdout:
                said += line
                if GREETING.encode() in line:
                    return time.perf_counter() - began
        finally:
            watchdog.cancel()
            vmm.kill()
    raise SystemExit(f"Firecracker by hand never reached its guest's first line. It said: {said.decode('utf-8', 'replace')}")


def _vm(place: pathlib.Path, backend: str) -> dict[str, t.Any]:
    kernel = place / "kernel"
    if not kernel.exists():
        kernel.write_bytes(pvh_guest(GREETING))
    return {"backend": backend, "state": "running", "kernel": str(kernel), "memory": "128M", "state_dir": str(place / "s")}


@contextlib.contextmanager
def _removed(place: pathlib.Path, python: str, vm: dict[str, t.Any]) -> t.Iterator[None]:
    try:
        yield
    finally:
        _play(place, python, [{"name": "gone", "unkey.vmcp.vmcp_vm": {"name": vm["name"], "state": "absent", "state_dir": vm["state_dir"]}}])


def _play(place: pathlib.Path, python: str, tasks: list[dict[str, t.Any]], roles: t.Sequence[str] = ()) -> dict[str, list[float]]:
    """Runs the tasks in one play. Seconds by task name; ends the bench when one fails."""
    out, book = place / "out.jsonl", place / "play.json"
    out.unlink(missing_ok=True)
    body = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": bool(roles),
        "vars": {"ansible_python_interpreter": python},
        "roles": list(roles),
        "tasks": tasks,
    }
    book.write_text(json.dumps([body]))
    environment = {
        **os.environ,
        "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "durations",
        "VMCP_BENCH_OUT": str(out),
    }
    done = subprocess.run(
        [str(pathlib.Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", str(book)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(f"ansible-playbook failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    took: dict[str, list[float]] = collections.defaultdict(list)
    for line in out.read_text().splitlines() if out.exists() else []:
        record = json.loads(line)
        took[record["name"]].append(record["seconds"])
    return took


if __name__ == "__main__":
    raise SystemExit(main())
