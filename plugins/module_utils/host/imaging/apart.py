# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does a part of the work in a process of its own that has no rights on the host: root of a user namespace alone, in one directory. Standard library only.

Owners of files are kept all the same: that namespace's uids are uids of the host that nobody has, and a file system is made of the files from inside it.
What the process may open beside that is what everybody may; archives are given to it as descriptors. What it says is JSON, and is trusted no further."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import resource
import select
import signal
import stat
import sys
import time
import traceback
import typing as t

from ... import errors
from ...errors import DeadlineExceeded, FailedPrecondition, Internal, VmcpError
from ..files import os_errors
from ..trees import remove_tree
from .work import Work

# Above all that distributions, containers and directories of users give out; 0 in the namespace is the first of them.
FIRST_UID, UIDS = 0x80000000, 0x7FFFFFFE
_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_SAID_MAX_BYTES = 16 << 20
# After the deadline, which the process itself minds.
_GRACE_S = 10.0
_ERRORS = {kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, VmcpError)}

# Is given the work in the process's own directory, which is its current one; returns JSON values.
Task = t.Callable[[Work], t.Mapping[str, t.Any]]


class CannotError(Exception):
    """There can be no such process on this host; the text says why. Nothing was done."""


def apart(task: Task, work: Work, product: str, sources: t.Iterable[int]) -> tuple[dict[str, t.Any], str]:
    """What C(task) returns, and where the file is that it made as C(product), which is root's now. C(sources): descriptors that it may read.

    Errors of the task are raised here. CannotError, and DeadlineExceeded when it does not end."""
    directory = work.path("apart")
    with os_errors(f"make {directory}"):
        remove_tree(directory, sync=False)
        os.mkdir(directory, 0o700)
    place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with _child(task, work, place, sources) as said:
            result = _heard(said, work)
        return result, _taken(place, product, work)
    finally:
        os.close(place)
        remove_tree(directory, sync=False)


@contextlib.contextmanager
def _child(task: Task, work: Work, place: int, sources: t.Iterable[int]) -> t.Iterator[int]:
    """What the process says, as a descriptor. It has ended after the block, and what it has started, too."""
    (hear, say), (listen, let_go), parent = os.pipe(), os.pipe(), os.getpid()
    pid = os.fork()
    if pid == 0:
        _be_child(task, work, parent, _Descriptors(place, listen, say, tuple(sources)))
    os.close(say)
    os.close(listen)
    try:
        if os.read(hear, 1) != b"+":
            raise CannotError("this kernel gives no user namespace")
        _give_uids(pid, place)
        os.write(let_go, b"+")
        yield hear
    finally:
        os.close(let_go)
        os.close(hear)
        # Not waited for yet, so the number is nobody else's.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _give_uids(pid: int, place: int) -> None:
    try:
        for name in ("uid_map", "gid_map"):
            fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, f"0 {FIRST_UID} {UIDS}".encode())
            finally:
                os.close(fd)
        os.fchown(place, FIRST_UID, FIRST_UID)
    except OSError as exc:
        # In a container that has but some uids itself, or on a file system that keeps no such owner.
        raise CannotError(f"this host has no uids for one ({exc.strerror})") from exc


class _Descriptors(t.NamedTuple):
    place: int
    listen: int
    say: int
    sources: tuple[int, ...]


def _be_child(task: Task, work: Work, parent: int, fds: _Descriptors) -> t.NoReturn:
    """Never returns, whatever happens: what is above on the stack is the parent's business."""
    try:
        os.setpgid(0, 0)
        _close_all_but(fds)
        os.fchdir(fds.place)
        libc = ctypes.CDLL(None, use_errno=True)
        os.write(fds.say, b"+" if libc.unshare(_CLONE_NEWUSER) == 0 else b"-")
        if os.read(fds.listen, 1) != b"+":
            os._exit(0)
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if os.getppid() == parent:
            _speak(fds.say, _outcome(task, work, fds.say))
    finally:
        # The parent raises what is on its way here.
        if sys.exc_info()[1] is not None:
            _speak(fds.say, {"broken": traceback.format_exc()[-4000:]})
        os._exit(0)


def _close_all_but(fds: _Descriptors) -> None:
    """Locks, the task's own answer: none of it is the process's."""
    nothing = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    kept = {0, 1, 2, fds.place, fds.listen, fds.say, *fds.sources}
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))


def _outcome(task: Task, work: Work, say: int) -> dict[str, t.Any]:
    def tell(doing: str, done: int, total: int) -> None:
        _speak(say, {"progress": [doing, done, total]})

    try:
        return {"done": dict(task(dataclasses.replace(work, dir=".", tell=tell)))}
    except VmcpError as exc:
        return {"error": exc.as_result()}


def _speak(say: int, what: t.Mapping[str, t.Any]) -> None:
    line = json.dumps(what).encode() + b"\n"
    while line:
        line = line[os.write(say, line) :]


def _heard(hear: int, work: Work) -> dict[str, t.Any]:
    rest = b""
    while True:
        left = work.deadline + _GRACE_S - time.monotonic()
        if left <= 0 or not select.select([hear], [], [], left)[0]:
            raise DeadlineExceeded(f"The image was not made after {work.deadline_s:.0f} s. Raise 'timeout'.")
        piece = os.read(hear, 1 << 16)
        if not piece or len(rest) > _SAID_MAX_BYTES:
            raise FailedPrecondition("What unpacks the image was ended. Look at the host's memory (journalctl -k), and run the task again.")
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if "progress" in said:
                doing, done, total = said["progress"]
                work.tell(str(doing), int(done), int(total))
            else:
                return _result(said)


def _result(said: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    if "done" in said:
        return dict(said["done"])
    if "error" in said:
        details = dict(said["error"])
        kind, msg = _ERRORS.get(details.pop("code", ""), Internal), str(details.pop("msg", ""))
        details.pop("violations", None)
        raise kind(msg, details=details)
    raise Internal(f"What unpacks the image broke: {said.get('broken', '')}")


def _taken(place: int, product: str, work: Work) -> str:
    """Nobody has it open any more; it leaves the directory that was another's, and becomes root's."""
    target = work.path(product)
    with os_errors(f"take over {target}"):
        fd = os.open(product, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                raise Internal(f"What was made as {target} is no file of its own.")
            os.fchown(fd, 0, 0)
            os.fchmod(fd, 0o600)
            os.rename(product, target, src_dir_fd=place)
        finally:
            os.close(fd)
    return target
