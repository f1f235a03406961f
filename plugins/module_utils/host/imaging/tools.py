# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of the distribution, run under a deadline and within bounds. Standard library only."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import typing as t

from ...errors import DeadlineExceeded, FailedPrecondition, Internal
from .. import tools
from .work import CHUNK_BYTES, Work

_DIRECTORIES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OUTPUT_MAX_BYTES = 16 << 20
NOBODY = tools.NOBODY
Limits = tools.Limits


def find(name: str) -> str:
    """The program's path. FailedPrecondition, naming its package, where it is missing."""
    path = tools.find(name)
    if path is None:
        raise FailedPrecondition(
            f"The program {name} is missing on this host. Install the package {tools.PACKAGES.get(name, name)}.", details={"missing": name}
        )
    return path


def is_there(name: str) -> bool:
    return tools.find(name) is not None


UNLIMITED = Limits()


@contextlib.contextmanager
def started(
    argv: t.Sequence[str], *, limits: Limits = UNLIMITED, environ: t.Optional[t.Mapping[str, str]] = None, **popen: t.Any
) -> t.Iterator[subprocess.Popen[bytes]]:
    """The program, while the with-block lasts; ended after it, with all that it has started. It ends with us, too."""
    env = {"PATH": _DIRECTORIES, "LC_ALL": "C.UTF-8", **(environ or {})}
    options: dict[str, t.Any] = {"stdin": subprocess.DEVNULL, "env": env, "start_new_session": True, **tools.bounds(limits), **popen}
    process = subprocess.Popen([find(argv[0]), *argv[1:]], **options)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdout, process.stderr, process.stdin):
            if stream is not None:
                stream.close()


def run(
    argv: t.Sequence[str],
    work: Work,
    doing: str,
    *,
    limits: Limits = UNLIMITED,
    environ: t.Optional[t.Mapping[str, str]] = None,
    ok: t.Container[int] = (0,),
    **popen: t.Any,
) -> str:
    """Its output. FailedPrecondition with the last of what it said when it fails, DeadlineExceeded when the task's time is up. C(doing): as for C(Work)."""
    with started(argv, limits=limits, environ=environ, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen}) as process:
        try:
            out, err = process.communicate(timeout=work.left_s(doing))
        except subprocess.TimeoutExpired:
            raise DeadlineExceeded(f"{doing}: {argv[0]} was not done after {work.deadline_s:.0f} s. Raise 'timeout'.") from None
    if process.returncode not in ok:
        raise failed(argv[0], doing, process.returncode, err or out or b"")
    return (out or b"")[:_OUTPUT_MAX_BYTES].decode("utf-8", "replace")


def stream(argv: t.Sequence[str], work: Work, doing: str, source: t.BinaryIO) -> t.Iterator[bytes]:
    """What a filter makes of a file, piece by piece."""
    with open(work.path("stderr"), "w+b") as err, started(argv, stdin=source, stdout=subprocess.PIPE, stderr=err) as process:
        if process.stdout is None:
            raise Internal(f"The output of {argv[0]} is not ours to read.")
        while True:
            ready, _writable, _broken = select.select([process.stdout], [], [], work.left_s(doing))
            chunk = os.read(process.stdout.fileno(), CHUNK_BYTES) if ready else b""
            if ready and not chunk:
                break
            yield chunk
        if process.wait(timeout=work.left_s(doing)) != 0:
            err.seek(0)
            raise failed(argv[0], doing, process.returncode, err.read(1 << 16))


def failed(name: str, doing: str, code: int, said: bytes) -> FailedPrecondition:
    text = "".join(c if c.isprintable() else " " for c in said[-1000:].decode("utf-8", "replace")).strip()
    how = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
    return FailedPrecondition(f"{doing}: {name} {how}{': ' + text if text else ''}.", details={"tool": name})
