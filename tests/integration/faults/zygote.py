# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that has loaded the built module and forks for each run of it, so that a run costs milliseconds, and dies where it is told to.

Arguments: the directory of the exploded module, the module's full name, where the core is. Standard
input: one JSON list of runs a line; standard output: one JSON list of
ends a line. See C(built_module.py). It is a program of its own and imports nothing of this repository but what is in the built module."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import pkgutil
import runpy
import signal
import subprocess
import sys
import time
import typing as t

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# Seen by the interpreter's audit; writes are not. fsync changes nothing that a process could see, so that a kill before it is a kill before what follows.
_AUDITED = {
    "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.chown", "os.truncate", "os.link", "os.symlink", "os.kill", "fcntl.flock",
    "socket.connect",
}  # fmt: skip


class Sentry:
    """Counts what changes the world outside the process, and ends it with SIGKILL just before the C(kill_at)-th of these. A write that is due is half done."""

    def __init__(self, kill_at: int | None) -> None:
        self.kill_at = kill_at
        self.seen: list[str] = []
        self._write = os.write

    def install(self) -> None:
        os.write = self._half_written(os.write)  # type: ignore[assignment]
        os.pwrite = self._half_written(os.pwrite)  # type: ignore[assignment]
        signal.pidfd_send_signal = self._watched(signal.pidfd_send_signal, "signal")
        subprocess.run = self._then(subprocess.run)
        os.posix_spawnp = self._spawned(os.posix_spawnp)  # type: ignore[assignment]
        sys.addaudithook(self._audit)

    def _audit(self, event: str, details: tuple[t.Any, ...]) -> None:
        if event == "open":
            path, _mode, flags = details
            if isinstance(path, str) and not path.startswith("/dev/") and isinstance(flags, int) and flags & _WRITES:
                self.due(f"open {path}")
        elif event in ("subprocess.Popen", "os.posix_spawn"):
            if _is_ours(details[1]):
                self.due(f"run {details[1]}")
        elif event in _AUDITED and "/dev/log" not in str(details) and not _is_idle(event, details):
            self.due(f"{event} {details[:2]}")

    def due(self, what: str) -> None:
        self.seen.append(what)
        if len(self.seen) == self.kill_at:
            self.die()

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _half_written(self, function: t.Callable[..., int]) -> t.Callable[..., int]:
        def write(fd: int, data: t.Any, *rest: t.Any) -> int:
            if len(self.seen) + 1 == self.kill_at:
                function(fd, bytes(data)[: len(data) // 2], *rest)
            self.due("write")
            return function(fd, data, *rest)

        return write

    def _watched(self, function: t.Callable[..., t.Any], what: str) -> t.Callable[..., t.Any]:
        def watched(*words: t.Any) -> t.Any:
            self.due(what)
            return function(*words)

        return watched

    def _spawned(self, function: t.Callable[..., int]) -> t.Callable[..., int]:
        def spawn(program: t.Any, command: t.Any, *rest: t.Any, **options: t.Any) -> int:
            pid = function(program, command, *rest, **options)
            self.due(f"after {command}")
            return pid

        return spawn

    def _then(self, function: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        def run(command: t.Any, **options: t.Any) -> t.Any:
            done = function(command, **options)
            if _is_ours(command):
                self.due(f"after {command}")
            return done

        return run


def _is_idle(event: str, details: tuple[t.Any, ...]) -> bool:
    """To make a directory that is there, or to remove a file that is not, changes nothing."""
    path = details[0]
    if not isinstance(path, str) or not path.startswith("/"):
        return False
    return (event == "os.mkdir" and os.path.lexists(path)) or (event == "os.remove" and not os.path.lexists(path))


# What makes disks.
_TOOLS = ("mke2fs", "e2fsck", "resize2fs", "qemu-img")


def _is_ours(command: t.Any) -> bool:
    """Supervisors, launch files, what writes disks, and rules of networks; asking a VMM for its version changes nothing."""
    return bool(command) and (command[0] in ("unshare", "/bin/sh", "systemctl", "nft") or os.path.basename(command[0]) in _TOOLS)


def child(run: dict[str, t.Any], module: str, output: int) -> t.NoReturn:
    """In the forked process: becomes the module's process, as Ansible would start it."""
    signal.alarm(int(run["deadline_s"]))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.update(run["environment"])
    time.sleep(run["delay_s"])
    from ansible.module_utils import basic

    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": run["arguments"]}).encode()
    basic._ANSIBLE_PROFILE = "legacy"
    code = 70
    sentry = Sentry(run["kill_at"])
    if run["kill_at"] is not None:
        sentry.install()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 1
    finally:
        sentry.kill_at = None
        sys.stdout.flush()
        os.write(3, json.dumps(sentry.seen).encode())
        os._exit(code)


def start(run: dict[str, t.Any], module: str, directory: pathlib.Path, number: int) -> tuple[int, pathlib.Path, pathlib.Path]:
    output, events = directory / f"output{number}", directory / f"events{number}"
    descriptors = [os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC) for path in (output, events)]
    pid = os.fork()
    if pid == 0:
        # Above what dup2 is about to use; 3 is where the events go, closed to what the module starts.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in descriptors]
        os.dup2(high[1], 3, inheritable=False)
        child(run, module, high[0])
    for descriptor in descriptors:
        os.close(descriptor)
    return pid, output, events


def main() -> None:
    exploded, module, core = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    sys.path.insert(0, str(exploded))
    package = module.rpartition(".plugins.")[0] + ".plugins.module_utils"
    # As on a host that has the code: see runtime.py.
    __import__(package)
    sys.modules[package].__path__.insert(0, core)
    for found in pkgutil.walk_packages([core], package + "."):
        __import__(found.name)
    __import__("httpx")
    replies = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        began = time.monotonic()
        started = [start(run, module, exploded.parent, number) for number, run in enumerate(json.loads(line))]
        ends = []
        for pid, output, events in started:
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            seen = events.read_text()
            ends.append(
                {"status": status, "output": output.read_text(errors="replace"), "seen": json.loads(seen) if seen else [], "seconds": time.monotonic() - began}
            )
        replies.write(json.dumps(ends) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
