# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks between runs: one per VM, one for the host's allocators. Standard library only; on the no-change path.

flock on files that are never unlinked: a lock inside a directory that is removed and remade can be held twice. The holder writes who it is
into the file, so that a waiting run can say whom it waits for. The kernel drops the lock with the process, however that ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import fcntl
import json
import os
import resource
import time
import typing as t

from ..errors import DeadlineExceeded, FailedPrecondition
from .files import os_errors, read_text
from .trees import ensure_dir

if t.TYPE_CHECKING:
    from .layout import Layout

_POLL_S = 0.02
# What a task has open beside its locks: sockets of VMMs that it asks, files that it reads.
_OTHER_FILES = 256


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who holds a lock, as it says of itself. C(since) is ISO 8601, UTC."""

    pid: int
    what: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.what}, since {self.since})"


@dataclasses.dataclass(frozen=True)
class Held:
    """A lock that was taken. C(waited_for) is None when it was free."""

    path: str
    waited_s: float
    waited_for: t.Optional[Holder]


@contextlib.contextmanager
def held(path: str, what: str, timeout_s: float, on_wait: t.Callable[[Holder | None], None] | None = None) -> t.Iterator[Held]:
    """Holds the lock at C(path). C(what) says what for, to others. C(on_wait) is called once, when it has to wait, with the holder (None: not known yet).

    DeadlineExceeded after C(timeout_s), naming the holder; 0 tries once."""
    ensure_lock_dir(os.path.dirname(path))
    with os_errors(f"open the lock {path}"):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        taken = _take(fd, path, timeout_s, on_wait)
        _write_holder(fd, what)
        try:
            yield taken
        finally:
            # Voided before it is released: what stands in the file speaks of the holder only.
            _overwrite(fd, b"")
    finally:
        os.close(fd)


@contextlib.contextmanager
def vm_locks(
    layout: Layout, names: t.Iterable[str], what: str, timeout_s: float, on_wait: t.Callable[[Holder | None], None] | None = None
) -> t.Iterator[dict[str, Held]]:
    """The locks of several VMs under one deadline, taken in name order so that two bulk runs cannot wait for each other."""
    deadline = time.monotonic() + timeout_s
    ordered = sorted(set(names))
    with contextlib.ExitStack() as stack:
        stack.enter_context(_open_files_allowed(len(ordered)))
        yield {name: stack.enter_context(held(layout.vm(name).lock, what, max(0.0, deadline - time.monotonic()), on_wait)) for name in ordered}


@contextlib.contextmanager
def _open_files_allowed(locks: int) -> t.Iterator[None]:
    """A lock is an open file. A process is given 1024 by default, and may allow itself more. FailedPrecondition when it may not. Taken back afterwards:
    other tasks may follow in this process (Mitogen)."""
    wanted = locks + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        yield
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise FailedPrecondition(
            f"A task on {locks} VMs holds as many files open, and this user may open {hard}. Raise that limit (nofile), or split the task."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def holder(path: str) -> Holder | None:
    """Who holds the lock now, by what the file says; None when nobody does or nothing is known. Takes nothing, makes nothing."""
    try:
        return _parse_holder(read_text(path, max_bytes=4096))
    except FileNotFoundError:
        return None


def ensure_lock_dir(path: str) -> None:
    """Root-only: whoever could open a lock file could hold it for ever."""
    if not os.path.isdir(path):
        ensure_dir(path, 0o700)


def _take(fd: int, path: str, timeout_s: float, on_wait: t.Callable[[Holder | None], None] | None) -> Held:
    began = time.monotonic()
    waited_for: Holder | None = None
    told = False
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return Held(path, time.monotonic() - began if told else 0.0, waited_for)
        except OSError as exc:
            if exc.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        waited_for = _parse_holder(os.pread(fd, 4096, 0).decode("utf-8", "replace")) or waited_for
        if not told and on_wait is not None:
            on_wait(waited_for)
        told = True
        waited = time.monotonic() - began
        if waited >= timeout_s:
            raise DeadlineExceeded(
                f"Waited {waited:.1f} s for the lock {path}, which {waited_for or 'another process'} holds. "
                "Try again when it has finished, or raise lock_timeout.",
                details={"waited_for": dataclasses.asdict(waited_for) if waited_for else None},
            )
        time.sleep(min(_POLL_S, timeout_s - waited))


def _write_holder(fd: int, what: str) -> None:
    since = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    _overwrite(fd, json.dumps({"pid": os.getpid(), "what": what, "since": since}).encode() + b"\n")


def _overwrite(fd: int, body: bytes) -> None:
    """Blanks over what was longer, in one write: cutting a file off goes through the file system's journal, which takes longer than all else here."""
    os.pwrite(fd, body.ljust(os.fstat(fd).st_size), 0)


def _parse_holder(text: str) -> Holder | None:
    # Read while the holder may be writing: an empty or half-written record is no record.
    try:
        body = json.loads(text)
        return Holder(pid=int(body["pid"]), what=str(body["what"]), since=str(body["since"]))
    except (ValueError, KeyError, TypeError):
        return None
