# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tasks are measured against: the same VMMs started by hand, without us and without Ansible."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import time
import typing as t

from ground import GREETING, Ground, tmpfs

ONE_DEADLINE_S = 20
LOOP_DEADLINE_S = 120
# Looking takes processor time that the VMMs then lack: at most a fifth, as in the modules.
LOOK_LEAST_S, LOOK_MOST_S, LOOKS_TAKE_AT_MOST = 0.001, 0.02, 1 / 5
# The range of users that the floor's jails have; nobody is asked whether they exist.
FIRST_UID = 200_000

# One shell starts all, and stays their parent. It ends them when it is told to, or when we are gone (its input ends).
_LOOP = r"""
base=$1 count=$2 pids='' i=0
while [ "$i" -lt "$count" ]; do
    %s < /dev/null > "$base/console-$i" 2>&1 &
    pids="$pids $!"
    i=$((i + 1))
done
read -r word
kill -KILL $pids
wait
rm -rf -- "$base"
"""
_VMM = '"$3" --id "vm-$i" --api-sock "$base/$i/api.sock" --log-path "$base/$i/log" --level Error --config-file "$base/$i/vm.json"'
_JAILED = (
    '"$4" --id "vm-$i" --exec-file "$3" --uid "$((%d + i))" --gid "$((%d + i))" --chroot-base-dir "$base"'
    " -- --api-sock /api.sock --log-path /log --level Error --config-file /vm.json"
)


def document(kernel: str) -> str:
    """Firecracker's configuration for our guest."""
    return json.dumps(
        {
            "boot-source": {"kernel_image_path": kernel, "boot_args": "console=ttyS0"},
            "machine-config": {"vcpu_count": 1, "mem_size_mib": 128},
            "drives": [],
        }
    )


@dataclasses.dataclass(frozen=True)
class Floor:
    """Seconds, by the clock and of processors (0 where nobody counts)."""

    start_s: float
    remove_s: float
    start_processor_s: float
    remove_processor_s: float


def shell_loop(ground: Ground, count: int, jailed: bool) -> Floor:
    """Start: from the shell's start to the last guest's first line. Removal: from the word to end them until all are dead and their directories deleted.

    The configuration files are there before. Those of jails are on a tmpfs, like ours: the jailer copies the VMM's binary into each."""
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(tmpfs(ground.place / "t")) / "floor" if jailed else ground.place / "floor"
        stack.callback(shutil.rmtree, base, ignore_errors=True)
        vmm = os.path.realpath(str(shutil.which("firecracker")))
        for index in range(count):
            ready_made(ground, base, index, pathlib.Path(vmm).name if jailed else None)
        one = _JAILED % (FIRST_UID, FIRST_UID) if jailed else _VMM
        command = [*ground.prefix, "/bin/sh", "-c", _LOOP % one, "floor", str(base), str(count), vmm, str(shutil.which("jailer"))]
        consoles = [base / f"console-{index}" for index in range(count)]
        began, began_processor = time.perf_counter(), ground.processor_s()
        shell = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(_end, shell)
        wait_for_first_lines(consoles, time.monotonic() + LOOP_DEADLINE_S)
        up, up_processor = time.perf_counter(), ground.processor_s()
        assert shell.stdin is not None
        shell.stdin.write(b"end\n")
        shell.stdin.close()
        shell.wait(timeout=LOOP_DEADLINE_S)
        gone = time.perf_counter()
        if base.exists():
            raise SystemExit(f"The shell loop did not delete {base}.")
        return Floor(up - began, gone - up, up_processor - began_processor, ground.processor_s() - up_processor)


def wait_for_first_lines(consoles: t.Sequence[pathlib.Path], deadline: float) -> None:
    """One poller for all."""
    waiting = list(consoles)
    while True:
        began = time.monotonic()
        waiting = [console for console in waiting if not _greeted(console)]
        now = time.monotonic()
        if not waiting:
            return
        if now >= deadline:
            said = waiting[0].read_text(errors="replace")[-500:] if waiting[0].exists() else "nothing"
            raise SystemExit(f"{len(waiting)} of {len(consoles)} guests never printed their first line. {waiting[0].name} has: {said}")
        time.sleep(min(LOOK_MOST_S, max(LOOK_LEAST_S, (now - began) / LOOKS_TAKE_AT_MOST)))


def one_by_hand(ground: Ground, jailed: bool) -> float:
    """One process, started as a person would, until its first console line."""
    base = pathlib.Path(tempfile.mkdtemp(prefix="h-", dir=ground.place))
    firecracker = os.path.realpath(str(shutil.which("firecracker")))
    root = ready_made(ground, base, 0, pathlib.Path(firecracker).name if jailed else None)
    inside = pathlib.Path("/") if jailed else root
    # With a log of its own: on stdout its lines would fall into the middle of the guest's.
    words = ["--api-sock", str(inside / "api.sock"), "--config-file", str(inside / "vm.json"), "--log-path", str(inside / "log"), "--level", "Error"]
    if jailed:
        user = ["--uid", str(FIRST_UID), "--gid", str(FIRST_UID), "--chroot-base-dir", str(base)]
        command = [str(shutil.which("jailer")), "--id", "vm-0", "--exec-file", firecracker, *user, "--", *words]
    else:
        command = [*ground.prefix, firecracker, "--id", "vm-0", *words]
    began = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as vmm:
        assert vmm.stdout is not None
        said = b""
        watchdog = threading.Timer(ONE_DEADLINE_S, vmm.kill)
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


def ready_made(ground: Ground, base: pathlib.Path, index: int, jailed_as: str | None) -> pathlib.Path:
    """The files of one VM, in what it sees as its root (C(jailed_as): the binary's name, after which the jailer names its directory) or its directory."""
    root = base / jailed_as / f"vm-{index}" / "root" if jailed_as else base / str(index)
    root.mkdir(parents=True)
    if jailed_as is None:
        (root / "vm.json").write_text(document(str(ground.kernel)))
        owner = ground.place.stat().st_uid
        for path in (base, root):
            os.chown(path, owner, owner)
        return root
    kernel = base / "kernel"
    if not kernel.exists():
        shutil.copy(ground.kernel, kernel)
    os.link(kernel, root / "kernel")
    (root / "vm.json").write_text(document("/kernel"))
    os.chown(root, FIRST_UID + index, FIRST_UID + index)
    return root


def _greeted(console: pathlib.Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return GREETING.encode() in console.read_bytes()
    return False


def _end(shell: subprocess.Popen[bytes]) -> None:
    """Its input ends, so it ends its VMMs; waited for, so that none is left."""
    if shell.poll() is None:
        assert shell.stdin is not None
        shell.stdin.close()
        shell.wait(timeout=LOOP_DEADLINE_S)
