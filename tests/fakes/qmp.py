# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""QMP servers that QEMU never is: silent, talking nonsense, leaving early, busy with events. Each serves one connection at a time, as QEMU does."""

from __future__ import annotations

import json
import pathlib
import socket
import threading
import time
import typing as t

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": ""}, "capabilities": ["oob"]}}
EVENT = {"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RTC_CHANGE", "data": {"offset": 0}}

Answer = t.Callable[[dict[str, t.Any]], "list[dict[str, t.Any]] | bytes | None"]


def line(message: t.Any) -> bytes:
    return json.dumps(message).encode() + b"\r\n"


def running(command: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    """Answers as a running VM does, with an event before each answer; none comes before the negotiation is through."""
    answers = {"qmp_capabilities": {}, "query-status": {"status": "running", "running": True, "singlestep": False}, "stop": {}, "cont": {}}
    answer = to(command, {"return": answers[command["execute"]]})
    return [answer] if command["execute"] == "qmp_capabilities" else [EVENT, answer]


def to(command: dict[str, t.Any], answer: dict[str, t.Any]) -> dict[str, t.Any]:
    """With the id of the command, where it has one."""
    return {**answer, "id": command["id"]} if "id" in command else answer


class QmpServer:
    """C(greeting): bytes sent on connection. C(answer): what a command is answered with: messages, raw bytes, or None to hang up."""

    def __init__(self, path: pathlib.Path, greeting: bytes = line(GREETING), answer: Answer = running, byte_delay_s: float = 0) -> None:
        self.path = path
        self._greeting = greeting
        self._answer = answer
        self._byte_delay_s = byte_delay_s
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(4)
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> QmpServer:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the client has gone already
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            with connection:
                try:
                    self._talk(connection)
                except OSError:
                    continue  # the client left

    def _talk(self, connection: socket.socket) -> None:
        self._send(connection, self._greeting)
        for command in self._commands(connection):
            answer = self._answer(command)
            if answer is None:
                return
            self._send(connection, answer if isinstance(answer, bytes) else b"".join(line(message) for message in answer))

    def _commands(self, connection: socket.socket) -> t.Iterator[dict[str, t.Any]]:
        """JSON values one after the other: QEMU needs no line ends, and the library sends none."""
        text = ""
        while received := connection.recv(65536):
            text += received.decode()
            while text := text.lstrip():
                command, end = json.JSONDecoder().raw_decode(text)
                text = text[end:]
                yield command

    def _send(self, connection: socket.socket, data: bytes) -> None:
        if not self._byte_delay_s:
            connection.sendall(data)
            return
        for index in range(len(data)):
            connection.sendall(data[index : index + 1])
            time.sleep(self._byte_delay_s)
