# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the bench works: a directory of its own, plays on localhost with their times, and an end that leaves nothing behind."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import stat
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t

from guests import pvh_guest
from integration.e2e.harness import processes_about, run_in_group
from meter import read_s
from venvs import VenvUnavailable, closed_part, python_for_others

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
GREETING = "bench: the guest is up"
SETTLE_S = 6
PLAY_DEADLINE_S = 300
# What a VM takes of the host's memory, generously: its own pages, and in a jail a copy of the VMM's binary.
VM_TAKES_BYTES = 16 << 20
# Owns nothing on any host.
NOBODY = 65534

Task = dict[str, t.Any]
PING: Task = {"name": "ping", "ansible.builtin.ping": {}}


@dataclasses.dataclass
class Took:
    """Of one play: seconds of each task by name, in order, by the clock and of processors (0 where nobody counts); peak memory (bytes) of each module
    process by module, in order."""

    seconds: dict[str, list[float]]
    processor: dict[str, list[float]]
    peaks: dict[str, list[int]]

    @property
    def ping_s(self) -> float:
        """The first one pays for building the module on the controller."""
        return statistics.median(self.seconds["ping"][1:])

    def beyond_ping_s(self, name: str) -> float:
        return statistics.median(self.seconds[name]) - self.ping_s

    def processor_beyond_ping_s(self, name: str) -> float:
        return statistics.median(self.processor[name]) - statistics.median(self.processor["ping"][1:])


@dataclasses.dataclass(frozen=True)
class Ground:
    """C(place): the bench's directory. C(python): what the modules run on. C(backend): of the VMs. C(meter): see C(meter.counted); empty without.
    C(controller): the Python that Ansible runs on. C(prefix): words before commands (a namespace, a user). C(system): VMs in the system's directories, under
    systemd."""

    place: pathlib.Path
    backend: str
    python: str = sys.executable
    meter: str = ""
    controller: str = sys.executable
    prefix: tuple[str, ...] = ()
    system: bool = False

    def processor_s(self) -> float:
        """Of all that we have started so far; 0 where nobody counts."""
        return read_s(self.meter) if self.meter else 0.0

    @property
    def kernel(self) -> pathlib.Path:
        """A guest that prints its greeting and halts: it takes no processor time from those that start after it."""
        path = self.place / "kernel"
        if not path.exists():
            path.write_bytes(pvh_guest(GREETING, "halt"))
            path.chmod(0o644)
        return path

    @property
    def state_dir(self) -> str:
        return str(self.place / "s")

    @property
    def run_dir(self) -> str:
        """On a file system in memory, as /run is."""
        return str(self.place / "r" / "run")

    def vm(self, **options: t.Any) -> dict[str, t.Any]:
        """Options of a running VM with 128 MiB, without its name and directory."""
        return {"backend": self.backend, "state": "running", "kernel": str(self.kernel), "memory": "128M", **options}

    def play(
        self, tasks: t.Sequence[Task], *, roles: t.Sequence[str] = (), deadline_s: float = PLAY_DEADLINE_S, environment: t.Mapping[str, str] | None = None
    ) -> Took:
        """Runs the tasks in one play; ends the bench when one fails."""
        out, peaks, book = self.place / "out.jsonl", self.place / "peaks.jsonl", self.place / "play.json"
        for path in (out, peaks):
            path.unlink(missing_ok=True)
        body = {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": bool(roles),
            "vars": {"ansible_python_interpreter": self.python},
            "environment": {"PYTHONPATH": str(HERE / "at_exit"), "VMCP_BENCH_PEAKS": str(peaks)},
            "module_defaults": {} if self.system else {"group/unkey.vmcp.vmcp": {"state_dir": self.state_dir, "run_dir": self.run_dir}},
            "roles": list(roles),
            "tasks": list(tasks),
        }
        book.write_text(json.dumps([body]))
        command = [*self.prefix, self.controller, str(pathlib.Path(self.controller).with_name("ansible-playbook")), "-i", "localhost,", str(book)]
        done = run_in_group(command, {**self._environment(out), **(environment or {})}, deadline_s)
        if done.returncode != 0:
            raise SystemExit(f"ansible-playbook failed:\n{done.stdout[-3000:]}")
        seconds: dict[str, list[float]] = collections.defaultdict(list)
        processor: dict[str, list[float]] = collections.defaultdict(list)
        most: dict[str, list[int]] = collections.defaultdict(list)
        for record in _records(out):
            seconds[record["name"]].append(record["seconds"])
            processor[record["name"]].append(record["processor"])
        for record in _records(peaks):
            most[record["module"]].append(record["peak_bytes"])
        return Took(seconds, processor, most)

    def _environment(self, out: pathlib.Path) -> dict[str, str]:
        temporary = str(self.place / "ansible" / "tmp")
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "UNKEY_VMCP_"))},
            "HOME": str(self.place),
            "ANSIBLE_HOME": str(self.place / "ansible"),
            "ANSIBLE_LOCAL_TEMP": temporary,
            "ANSIBLE_REMOTE_TMP": temporary,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT),
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "durations",
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
            "VMCP_BENCH_OUT": str(out),
            "VMCP_BENCH_METER": self.meter,
        }

    # --- the end ----------------------------------------------------------------------------------------
    def resident(self) -> dict[int, str]:
        """Processes that have to do with our directory, the VMMs too: pid to name."""
        found = {}
        for pid in processes_about(str(self.place)):
            with contextlib.suppress(OSError):
                found[pid] = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
        return found

    def left_behind(self) -> list[str]:
        """Processes, mounts, and files of VMs and of their runs, in words. Waits a moment for what is just about to end."""
        deadline = time.monotonic() + 5
        while (processes := self.resident()) and time.monotonic() < deadline:
            time.sleep(0.05)
        left = [f"process {pid} ({name})" for pid, name in processes.items()]
        left += [f"mount {line.split()[4]}" for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines() if f"{self.run_dir}/" in line]
        for directory in (f"{self.state_dir}/vms", self.run_dir):
            left += [f"file {path}" for path in pathlib.Path(directory).glob("*") if path.name != ".progress.jsonl"]
        return left


class NoOtherUser(Exception):
    """Why nothing can be measured here as an ordinary user."""


@contextlib.contextmanager
def ground_of_ordinary_user(backend: str, meter: str = "") -> t.Iterator[Ground]:
    """For root: a ground on which all is run by a user without rights, but for /dev/kvm. NoOtherUser where that cannot be."""
    try:
        python = python_for_others()
    except VenvUnavailable as exc:
        raise NoOtherUser(str(exc)) from exc
    for program in filter(None, map(shutil.which, ("firecracker", "setpriv", "unshare"))):
        if closed := closed_part(pathlib.Path(program).resolve()):
            raise NoOtherUser(f"{closed} is closed to other users")
    with ground(backend, meter) as made:
        kvm = made.place / "kvm"
        os.mknod(kvm, 0o600 | stat.S_IFCHR, os.stat("/dev/kvm").st_rdev)
        for path in (kvm, made.place, *made.place.iterdir()):
            os.chown(path, NOBODY, NOBODY)
        # In a mount namespace in which the device is this user's; on the host nothing changes.
        enter = f'mount --bind "$0" /dev/kvm && exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --inh-caps=-all --no-new-privs -- "$@"'
        prefix = ("unshare", "--mount", "--propagation", "slave", "--", "/bin/sh", "-c", enter, str(kvm))
        yield dataclasses.replace(made, python=python, controller=python, prefix=prefix)


@contextlib.contextmanager
def ground(backend: str, meter: str = "") -> t.Iterator[Ground]:
    """A directory, and nothing of it after the end, however that comes."""
    place = pathlib.Path(tempfile.mkdtemp(prefix="vb-"))
    made = Ground(place, backend, meter=meter)
    try:
        with tmpfs(place / "r"):
            try:
                yield made
            finally:
                _end_all(made)
    finally:
        shutil.rmtree(place)


def _end_all(made: Ground) -> None:
    """What a play that was cut off still does; the VMs as their user would; then, where that did not do, what still has to do with our directory: the
    supervisors first, which restart VMs."""
    _kill(made, lambda name: name.startswith(("python", "ansible")))
    names = made.place / "s" / "vms"
    if names.is_dir() and any(names.iterdir()):
        gone = {"vms": [], "prune": {"labels": {}, "allow_empty": True}}
        try:
            made.play([{"name": "clear up", "unkey.vmcp.vmcp_vms": gone}])
        except (SystemExit, AssertionError) as exc:
            print(f"clearing up by vmcp_vms failed: {exc}", file=sys.stderr)
    _kill(made, lambda name: name == "sh")
    _kill(made, lambda name: True)


def _kill(made: Ground, which: t.Callable[[str], bool]) -> None:
    for pid, name in made.resident().items():
        if which(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def settle() -> None:
    """Neither side is to pay for what the other has deleted: an ext4 without a journal does not use an inode again within five seconds of its deletion, and
    looks at each of those whenever it makes a file."""
    time.sleep(SETTLE_S)


def memory_lacks(vms: int) -> str | None:
    """Why this machine should not run so many VMs now."""
    words = next(line for line in pathlib.Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable:")).split()
    available = int(words[1]) * 1024
    if available >= vms * VM_TAKES_BYTES:
        return None
    return f"{vms} VMs may take {vms * VM_TAKES_BYTES >> 20} MiB, and {available >> 20} MiB are available"


@contextlib.contextmanager
def tmpfs(at: pathlib.Path) -> t.Iterator[pathlib.Path]:
    """A file system in memory, as the one in which our jails are; devices work in it, unlike in /dev/shm."""
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "vmcp-bench", str(at)], check=True, timeout=30)
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True, timeout=30)
        at.rmdir()


def _records(path: pathlib.Path) -> list[dict[str, t.Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
