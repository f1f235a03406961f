# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a QEMU is, by one raw question over QMP: on the standard library alone, for the no-change path (C(client) has all else that QMP can do).

A QMP server talks to one client at a time. Another one is not refused: its connection waits in the queue, without a greeting, until the
first one leaves. So waiting for the greeting under the deadline is all the retrying there is to do.
Sockets are opened by C(vmm_socket), with its checks against what a VM's user might have planted.
"""

from __future__ import annotations

import dataclasses
import socket
import struct
import time
import typing as t

from ...errors import DeadlineExceeded, FailedPrecondition, Internal, Unavailable
from ..quoting import quoted
from ..vmm_socket import connect, foreign_errors, parse_json

# The longest line is the description of a few hundred block devices; more is no QEMU that we may believe.
LINE_BYTES_MAX = 4 << 20
_PEERCRED = struct.Struct("3i")  # pid, uid, gid


def no_answer(socket_path: str) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"QEMU behind {socket_path} did not answer in time. It may hang (its log says more), or another program holds the connection: QMP serves one at a time."
    )


def nonsense(socket_path: str, what: object) -> Internal:
    return Internal(f"What answers on {socket_path} does not speak QMP: {quoted(str(what)[:120])}.")


def refused(command: str, words: str, error_class: str) -> FailedPrecondition:
    return FailedPrecondition(f"QEMU refused {command}: {quoted(words).rstrip('.')}.", details={"vmm_command": command, "vmm_error_class": quoted(error_class)})


@dataclasses.dataclass(frozen=True)
class Status:
    """C(run_state): QEMU's word (C(words.RUN_STATES)); C(pid): the process behind the socket, None where it is in another pid namespace."""

    run_state: str
    version: str
    pid: t.Optional[int]


def ask_status(socket_path: str, deadline: float, peer_uid: t.Optional[int] = None) -> t.Callable[[], Status]:
    """Connects; what is returned goes through greeting, negotiation and one question. C(deadline) is a C(time.monotonic()) value; errors as C(port.Driver)
    has them."""
    with foreign_errors(socket_path):
        connected = connect(socket_path, deadline, peer_uid)

    def status() -> Status:
        with foreign_errors(socket_path), connected:
            return _status(connected, socket_path, deadline)

    return status


def _status(connected: socket.socket, socket_path: str, deadline: float) -> Status:
    lines = _Lines(connected, socket_path, deadline)
    version = _version(lines.next(), socket_path)
    connected.sendall(b'{"execute":"qmp_capabilities","id":1}\r\n{"execute":"query-status","id":2}\r\n')
    lines.reply("qmp_capabilities", 1)
    answer = lines.reply("query-status", 2)
    pid = _PEERCRED.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))[0]
    run_state = answer.get("status") if isinstance(answer, dict) else None
    if not isinstance(run_state, str):
        raise nonsense(socket_path, answer)
    return Status(run_state, version, pid or None)


def _version(greeting: t.Any, socket_path: str) -> str:
    try:
        number = greeting["QMP"]["version"]["qemu"]
        return f"{int(number['major'])}.{int(number['minor'])}.{int(number['micro'])}"
    except (TypeError, KeyError, ValueError) as exc:
        raise nonsense(socket_path, greeting) from exc


class _Lines:
    """The JSON lines of a QMP server, bounded in length and in time as a whole: a server that drips bytes gets no more time than one that hangs."""

    def __init__(self, connected: socket.socket, socket_path: str, deadline: float) -> None:
        self._socket = connected
        self._path = socket_path
        self._deadline = deadline
        self._buffer = b""

    def next(self) -> t.Any:
        while b"\n" not in self._buffer:
            if len(self._buffer) > LINE_BYTES_MAX:
                raise nonsense(self._path, f"a line of more than {LINE_BYTES_MAX} bytes")
            self._more()
        line, self._buffer = self._buffer.split(b"\n", 1)
        try:
            return parse_json(line)
        except ValueError as exc:
            raise nonsense(self._path, line) from exc

    def reply(self, command: str, call_id: int) -> t.Any:
        """The answer to one command. Events may come before it."""
        while True:
            message = self.next()
            if not isinstance(message, dict):
                raise nonsense(self._path, message)
            if message.get("id") != call_id:
                continue
            if "return" in message:
                return message["return"]
            error = message.get("error")
            if not isinstance(error, dict):
                raise nonsense(self._path, message)
            raise refused(command, str(error.get("desc")), str(error.get("class")))

    def _more(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise no_answer(self._path)
        self._socket.settimeout(left)
        try:
            received = self._socket.recv(65536)
        except TimeoutError as exc:
            raise no_answer(self._path) from exc
        if not received:
            raise Unavailable(f"QEMU behind {self._path} closed the connection before it had answered.")
        self._buffer += received
