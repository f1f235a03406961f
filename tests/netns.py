# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network namespaces that stand for hosts, VMs and the world outside. Tests of networks touch no interface of the machine's own."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import subprocess
import threading
import time
import typing as t

CLONE_NEWNET = 0x40000000
_numbers = itertools.count(1)
T = t.TypeVar("T")


class Namespace:
    """One network namespace, with its loopback up. Not more than that, not even traffic to the machine that it is on."""

    def __init__(self, what: str) -> None:
        self.name = f"vmcpt{os.getpid()}-{next(_numbers)}-{what}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run("ip", "link", "set", "lo", "up")

    @property
    def prefix(self) -> tuple[str, ...]:
        """Words before a command."""
        return ("ip", "netns", "exec", self.name)

    def try_(self, *words: str, given: str = "", timeout_s: float = 90) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self.prefix, *words], input=given, capture_output=True, text=True, timeout=timeout_s, check=False)

    def run(self, *words: str, given: str = "", timeout_s: float = 90) -> str:
        done = self.try_(*words, given=given, timeout_s=timeout_s)
        assert done.returncode == 0, f"{self.name}: {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A process that goes on; ended with the namespace."""
        return subprocess.Popen(
            [*self.prefix, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def call(self, function: t.Callable[..., T], *arguments: t.Any, **options: t.Any) -> T:
        """Runs a function in the namespace: in a thread, which alone moves there, as do the processes that it starts."""
        answer: list[T] = []
        failure: list[BaseException] = []

        def inside() -> None:
            fd = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(fd, CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
                answer.append(function(*arguments, **options))
            except BaseException as exc:
                failure.append(exc)
            finally:
                os.close(fd)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return answer[0]

    def pids(self) -> list[int]:
        return [int(pid) for pid in subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True).stdout.split()]

    def remove(self) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        deadline = time.monotonic() + 60
        while self.pids() and time.monotonic() < deadline:
            time.sleep(0.02)
        subprocess.run(["ip", "netns", "del", self.name], check=True)


def wire(one: Namespace, its_end: str, other: Namespace, other_end: str) -> None:
    """A cable between two namespaces, both ends up."""
    one.run("ip", "link", "add", its_end, "type", "veth", "peer", "name", other_end, "netns", other.name)
    one.run("ip", "link", "set", its_end, "up")
    other.run("ip", "link", "set", other_end, "up")


def lead_out(host: Namespace, its_end: str, other: Namespace, other_end: str) -> None:
    """A cable by which C(host) (192.0.2.1) reaches all that it does not know itself: through C(other), 192.0.2.2."""
    wire(host, its_end, other, other_end)
    host.run("ip", "addr", "add", "192.0.2.1/24", "dev", its_end)
    host.run("ip", "route", "add", "default", "via", "192.0.2.2")


@contextlib.contextmanager
def namespaces(*whats: str) -> t.Iterator[tuple[Namespace, ...]]:
    made: list[Namespace] = []
    try:
        for what in whats:
            made.append(Namespace(what))
        yield tuple(made)
    finally:
        for namespace in made:
            namespace.remove()
