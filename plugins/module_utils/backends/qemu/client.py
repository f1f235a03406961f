# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""QMP, QEMU's JSON protocol on a unix socket, through the library qemu.qmp: C(Connection), and one function for each command.

That library needs asyncio, which takes longer to import than all of a task that changes nothing: how a QEMU is can be asked without it (C(status), which
says more of QMP, too).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import typing as t

from ... import thirdparty
from ...errors import FailedPrecondition, Unavailable
from ..vmm_socket import connect, foreign_errors
from .status import no_answer, nonsense, refused

# What the library lets fall over when it hears no QMP: bytes that are no text, values that are no messages, an end in the midst of its own states.
_STUMBLES = (ValueError, LookupError, TypeError, AttributeError, AssertionError, RecursionError)


class Connection:
    """QMP as plain calls under one deadline: C(with Connection(…) as qmp: qmp.execute("stop")). Errors as C(port.Driver) has them.

    The library is asyncio; the loop is ours alone, so that several threads can each have a connection."""

    def __init__(self, socket_path: str, deadline: float, peer_uid: t.Optional[int] = None) -> None:
        self.socket_path = socket_path
        self._deadline = deadline
        self._peer_uid = peer_uid
        self._library = thirdparty.qemu_qmp()
        # Without a handler the library's complaints, which come back as exceptions anyway, would go to the module's stderr.
        logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())

    def __enter__(self) -> Connection:
        with foreign_errors(self.socket_path):
            connected = connect(self.socket_path, self._deadline, self._peer_uid)
        connected.setblocking(False)
        self._loop = asyncio.new_event_loop()
        self._client = self._library.QMPClient("vmcp")
        try:
            self._run("qmp_capabilities", self._client.connect(connected))
        except BaseException:
            connected.close()
            self._end_loop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            # What had to be said was said by the calls themselves; a server that went away since then is not our caller's matter.
            with contextlib.suppress(OSError, EOFError, asyncio.TimeoutError, self._library.QMPError, *_STUMBLES):
                self._loop.run_until_complete(asyncio.wait_for(self._client.disconnect(), 1))
        finally:
            self._end_loop()

    def _end_loop(self) -> None:
        """What the library leaves under way when it is cut short would complain on the module's stderr, after the fact."""
        self._loop.set_exception_handler(lambda loop, context: None)
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        if left:
            self._loop.run_until_complete(asyncio.wait(left, timeout=1))
        self._loop.close()

    def execute(self, command: str, arguments: t.Optional[t.Mapping[str, t.Any]] = None) -> t.Any:
        """One command and its answer."""
        return self._run(command, self._client.execute(command, dict(arguments) if arguments else None))

    def _run(self, command: str, call: t.Coroutine[t.Any, t.Any, t.Any]) -> t.Any:
        with self._foreign_errors(command):
            left = max(self._deadline - time.monotonic(), 0)
            return self._loop.run_until_complete(asyncio.wait_for(call, left))

    @contextlib.contextmanager
    def _foreign_errors(self, command: str) -> t.Iterator[None]:
        """The one place where the library's errors become ours."""
        library = self._library
        try:
            yield
        except asyncio.TimeoutError as exc:
            raise no_answer(self.socket_path) from exc
        except library.ExecuteError as exc:
            raise refused(command, str(exc), exc.error_class) from exc
        except library.ConnectError as exc:
            raise self._broken(exc.exc) from exc
        except library.ExecInterruptedError as exc:
            raise self._broken(self._reason_of_end()) from exc
        except (library.QMPError, EOFError, OSError, *_STUMBLES) as exc:
            raise self._broken(exc) from exc

    def _reason_of_end(self) -> Exception:
        """Why the library ended the session: it keeps that for whoever disconnects."""
        try:
            self._loop.run_until_complete(asyncio.wait_for(self._client.disconnect(), 1))
        except (OSError, EOFError, asyncio.TimeoutError, self._library.QMPError, *_STUMBLES) as exc:
            return exc
        return EOFError()

    def _broken(self, exc: Exception) -> Exception:
        if isinstance(exc, EOFError):
            return Unavailable(f"QEMU behind {self.socket_path} closed the connection before it had answered.")
        if isinstance(exc, OSError):
            return Unavailable(f"The connection to QEMU behind {self.socket_path} broke: {os.strerror(exc.errno) if exc.errno else exc}.")
        return nonsense(self.socket_path, exc)


# --- one function per call ------------------------------------------------------------------------------------


def stop(qmp: Connection) -> None:
    """Pauses the vCPUs; idempotent."""
    qmp.execute("stop")


def cont(qmp: Connection) -> None:
    """Lets the vCPUs run; idempotent."""
    qmp.execute("cont")


def system_powerdown(qmp: Connection) -> None:
    """Presses the power button."""
    qmp.execute("system_powerdown")


def system_reset(qmp: Connection) -> None:
    qmp.execute("system_reset")


def block_resize(qmp: Connection, drive: str, size_bytes: int) -> None:
    """Grows the image behind a drive, and tells the guest."""
    qmp.execute("block_resize", {"device": drive, "size": size_bytes})


def run_state(qmp: Connection) -> str:
    status = qmp.execute("query-status")
    if not isinstance(status, dict) or not isinstance(status.get("status"), str):
        raise nonsense(qmp.socket_path, status)
    return str(status["status"])


def qom_get(qmp: Connection, path: str, name: str) -> t.Any:
    """A property of an object; None when this QEMU or this object has no such property."""
    try:
        return qmp.execute("qom-get", {"path": path, "property": name})
    except FailedPrecondition:
        return None


def peripherals(qmp: Connection) -> dict[str, str]:
    """Devices that were given an id, id to type (C(virtio-blk-pci))."""
    children = qmp.execute("qom-list", {"path": "/machine/peripheral"})
    return {child["name"]: child["type"][len("child<") : -1] for child in children if child["type"].startswith("child<")}


def human(qmp: Connection, line: str) -> str:
    """A command of the monitor for humans, for the few things that QMP does not tell."""
    return str(qmp.execute("human-monitor-command", {"command-line": line}))
