# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP server that Firecracker and Cloud Hypervisor share, with its own framing, and the ways in which a VMM can go wrong on its socket.

What differs from an ordinary server, observed on the real ones: reply lines without a reason phrase; the connection stays open whatever the client asks; no
Content-Length when there is no body; a chunked body is read as the next request; ten connections at once; errors of its own that are not JSON.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import socket
import threading
import time
import typing as t

LINE_MAX = 1024
CONNECTIONS_MAX = 10
FAULTS = ("hang", "garbage", "half", "huge", "slow", "nonsense")
_REQUEST_LINE = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.[01]")

# (method, path, body or None) -> (status, body or None)
Handler = t.Callable[[str, str, t.Optional[bytes]], tuple[int, t.Optional[bytes]]]


class _ParseError(Exception):
    pass


@dataclasses.dataclass
class Server:
    """Serves C(listener) with C(handler), one request at a time, as the VMMs do.

    C(fault): one of C(FAULTS), empty for none. C(hang) accepts and never answers; C(garbage) is another protocol; C(half) ends in the middle of a reply;
    C(huge) announces a gigabyte; C(slow) sends a byte every 50 ms; C(nonsense) is HTTP, but not the VMM's."""

    listener: socket.socket
    handler: Handler
    server_name: str
    fault: str = ""
    payload_max: int = 51200
    methods: tuple[bytes, ...] = (b"GET", b"PUT", b"PATCH", b"DELETE")

    def __post_init__(self) -> None:
        self._turn = threading.Lock()
        self._open = threading.BoundedSemaphore(CONNECTIONS_MAX)

    def serve_forever(self) -> None:
        while True:
            client, _address = self.listener.accept()
            if self._open.acquire(blocking=False):
                threading.Thread(target=self._converse, args=(client,), daemon=True).start()
                continue
            with client, contextlib.suppress(OSError):
                client.sendall(self._reply(503, b'{ "error": "Too many open connections" }'))

    def _converse(self, client: socket.socket) -> None:
        try:
            with client, contextlib.suppress(OSError):
                stream = client.makefile("rb")
                while self._one_request(client, stream):
                    pass
        finally:
            self._open.release()

    def _one_request(self, client: socket.socket, stream: t.BinaryIO) -> bool:
        try:
            request = self._read_request(client, stream)
            if request is None:
                return False
        except _ParseError as exc:
            # The line break inside the text makes it invalid JSON.
            self._send(client, self._reply(400, f'{{ "error": "{exc}\nAll previous unanswered requests will be dropped." }}'.encode()))
            return True
        with self._turn:
            status, body = self.handler(*request)
            self._send(client, self._reply(status, body))
        return True

    def drain(self) -> None:
        """Waits until no reply is under way: a process that is about to end owes the answer to the request that ended it. One that hangs owes none."""
        self._turn.acquire(timeout=0.1 if self.fault in ("hang", "slow") else 60)

    def _read_request(self, client: socket.socket, stream: t.BinaryIO) -> tuple[str, str, bytes | None] | None:
        line = self._line(stream)
        if line is None:
            return None
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            raise _ParseError("Invalid request.")
        if match[1] not in self.methods:
            raise _ParseError(f"Invalid HTTP Method: {match[1].decode()}")
        length = 0
        while header := self._line(stream):
            length = self._header(client, header, length)
        if header is None:
            return None
        body = stream.read(length) if length else None
        return match[1].decode(), re.sub(r"^http://[^/]*", "", match[2].decode()), body

    def _line(self, stream: t.BinaryIO) -> bytes | None:
        """Without its line end; None at the end of the stream. A bare line feed ends no line."""
        line = b""
        while not line.endswith(b"\r\n"):
            more = stream.readline(LINE_MAX)
            if not more:
                return None
            line += more
            if len(line) > LINE_MAX:
                raise _ParseError("Invalid request.")
        return line[:-2]

    def _header(self, client: socket.socket, header: bytes, length: int) -> int:
        name, colon, value = header.partition(b":")
        text = value.strip().decode("utf-8", "replace")
        if not colon:
            raise _ParseError(f"Invalid header. Reason: Header is incorrectly formatted. Key: {header.decode('utf-8', 'replace')}")
        key = name.strip().lower()
        if key == b"content-length":
            if not text.isdigit():
                raise _ParseError(f"Invalid header. Reason: Invalid value. Key:Content-Length; Value:{text}")
            if int(text) > self.payload_max:
                raise _ParseError(f"Request payload with size {text} is larger than the limit of {self.payload_max} allowed by server.")
            return int(text)
        if key == b"accept-encoding" and (not text or "identity;q=0" in text.replace(" ", "") or text.replace(" ", "") == "*;q=0"):
            raise _ParseError(f"Invalid header. Reason: Invalid value. Key:Accept-Encoding; Value:{text}")
        if key == b"expect" and text == "100-continue":
            client.sendall(b"HTTP/1.1 100 \r\n\r\n")
        return length

    def _reply(self, status: int, body: bytes | None) -> bytes:
        head = f"HTTP/1.1 {status} \r\nServer: {self.server_name}\r\nConnection: keep-alive\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return head.encode() + b"\r\n" + (body or b"")

    def _send(self, client: socket.socket, reply: bytes) -> None:
        if self.fault == "hang":
            threading.Event().wait()
        if self.fault == "garbage":
            client.sendall(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
        elif self.fault == "half":
            client.sendall(reply[: len(reply) // 2])
            client.shutdown(socket.SHUT_RDWR)
        elif self.fault == "huge":
            client.sendall(b"HTTP/1.1 200 \r\nContent-Type: application/json\r\nContent-Length: 1073741824\r\n\r\n")
        elif self.fault == "nonsense":
            client.sendall(self._reply(200, b"[]"))
        elif self.fault == "slow":
            for byte in reply:
                client.sendall(bytes([byte]))
                time.sleep(0.05)
        else:
            client.sendall(reply)
