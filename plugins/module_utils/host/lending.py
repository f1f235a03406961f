# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tools that read what a guest, or a VMM that was taken over, may have written run without root's rights, on that one file. Standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import typing as t

from . import tools
from .cloning import clone
from .files import os_errors


@contextlib.contextmanager
def lent(target: str) -> t.Iterator[tuple[str, int]]:
    """A path and the descriptor behind it, by which nobody can open C(target), a file or device of root's, and nothing else of ours, as long as the block
    lasts.

    Who is killed meanwhile leaves it so: it lies where only root lists, and the next run that lends it takes it back."""
    # Names of LVM volumes are links, in a directory of root's.
    follow = 0 if target.startswith("/dev/") else os.O_NOFOLLOW
    with os_errors(f"open {target}"):
        fd = os.open(target, os.O_RDWR | os.O_CLOEXEC | follow)
    try:
        _give(fd, tools.NOBODY, target)
        yield f"/proc/self/fd/{fd}", fd
    finally:
        try:
            _give(fd, 0, target)
        finally:
            os.close(fd)


def _give(fd: int, uid: int, target: str) -> None:
    if os.geteuid() == 0:
        with os_errors(f"lend {target}"):
            os.fchown(fd, uid, -1)


def convert(
    source: int,
    source_format: str,
    target: str,
    target_format: str,
    *,
    doing: str,
    ours: t.Optional[str] = None,
    scratch: t.Optional[str] = None,
    run: t.Callable[..., object] = tools.run,
) -> None:
    """What C(source) is open on, in C(target), an empty file or volume of root's. C(ours): the path behind C(source), where that is ours to lend.
    C(scratch): a directory that is root's alone, with room for a copy of the source.

    By nobody. A file of somebody's that not all may read is not given to anyone: what is read is a copy of it, unless it is raw, of which qemu-img reads
    nothing but the bytes."""
    with contextlib.ExitStack() as stack:
        path, fds, user = f"/proc/self/fd/{source}", [source], t.cast(t.Optional[int], tools.NOBODY)
        if ours is None and os.geteuid() == 0 and not os.fstat(source).st_mode & stat.S_IROTH:
            if scratch is not None and source_format != "raw":
                ours = stack.enter_context(_copied(source, f"{scratch}/source.{source_format}", doing))
            else:
                user = None
        if ours is not None:
            path, fd = stack.enter_context(lent(ours))
            fds.append(fd)
        written, fd = stack.enter_context(lent(target))
        # A volume is there already, and is written as it is.
        there = ["-n"] if target.startswith("/dev/") else []
        words = ["convert", *there, "-f", source_format, "-O", target_format, path, written]
        run("qemu-img", *words, doing=doing, pass_fds=(*fds, fd), user=user)


@contextlib.contextmanager
def _copied(source: int, path: str, doing: str) -> t.Iterator[str]:
    """Copied byte by byte, or with shared extents: what is in it is not looked at. Gone after the block."""
    with os_errors(doing):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                clone(source, fd, doing=doing)
            finally:
                os.close(fd)
            yield path
        finally:
            os.unlink(path)


def resize_qcow2(fd: int, path: str, size: int, doing: str, user: t.Optional[int]) -> None:
    """By C(user), who can open C(path), the file behind C(fd). What it stands on is not opened, so nobody else needs a right to that."""
    opened = {"driver": "qcow2", "backing": None, "file": {"driver": "file", "filename": path}}
    words = ["resize", "-q", f"json:{json.dumps(opened)}", str(size)]
    tools.run("qemu-img", *words, doing=doing, timeout_s=tools.SHORT_S, pass_fds=(fd,), user=user)
