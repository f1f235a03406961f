# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets something run in a process of its own, in a namespace, and kills that before the n-th thing that it does to the outside world."""

from __future__ import annotations

import contextlib
import os
import subprocess
import traceback
import typing as t

from ansible_collections.unkey.vmcp.plugins.module_utils.host.network import netlink
from ansible_collections.unkey.vmcp.tests.netns import Namespace

KILLED = 77
_CALLS: tuple[tuple[t.Any, str], ...] = (
    (os, "rename"),
    (os, "unlink"),
    (os, "mkdir"),
    (os, "rmdir"),
    (os, "write"),
    (os, "kill"),
    (os, "fsync"),
    (subprocess, "Popen"),
)


def killed_at(namespace: Namespace, at: int, function: t.Callable[[], object]) -> bool:
    """False when it came to its end before that point."""

    def forked() -> bool:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                _arm(at)
                function()
                status = 0
            except BaseException:
                traceback.print_exc()
                raise
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (0, KILLED), f"it failed at point {at}"
        return status == KILLED

    return namespace.call(forked)


def _arm(at: int) -> None:
    count = 0

    def watched(original: t.Any) -> t.Any:
        def counted(*arguments: t.Any, **options: t.Any) -> t.Any:
            nonlocal count
            count += 1
            if count >= at:
                os._exit(KILLED)
            return original(*arguments, **options)

        return counted

    for owner, name in _CALLS:
        if owner is subprocess:
            # A class: its making is what counts.
            subprocess.Popen.__init__ = watched(subprocess.Popen.__init__)
        else:
            setattr(owner, name, watched(getattr(owner, name)))

    class Counted:
        """A socket of netlink of which what changes something counts."""

        def __init__(self, ipr: t.Any) -> None:
            self._ipr = ipr

        def __getattr__(self, name: str) -> t.Any:
            found = getattr(self._ipr, name)
            return (lambda verb, *a, **o: (found if verb == "dump" else watched(found))(verb, *a, **o)) if name in ("link", "addr", "fdb") else found

    original = netlink._socket

    @contextlib.contextmanager
    def counted_socket() -> t.Iterator[t.Any]:
        with original() as ipr:
            yield Counted(ipr)

    netlink._socket = counted_socket
