# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP over the unix socket of a VMM: Firecracker's and Cloud Hypervisor's API servers, which share one HTTP library with its own ideas.

What that server does, and what follows from it here:

* It never closes after a reply, and one parse error leaves its stream out of step: one request per connection, framed by Content-Length alone.
* A reply without a body has no Content-Length whatever its status, where RFC 9112 would have us read to the end of the connection, which never comes.
  So the framing is ours, below httpx, as a transport of it.
* It drops requests with an Accept-Encoding it does not like, and reads chunked bodies as the next request: neither is sent.
* Reason phrases are empty; bodies of its own errors are not always JSON.

C(raw_request) needs the standard library alone (the no-change path uses it); C(Connection) is the same exchange through httpx.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import re
import socket
import typing as t

from .. import thirdparty
from ..errors import Internal, Unavailable
from .quoting import quoted
from .vmm_socket import connect, foreign_errors, parse_json, seconds_left

# The largest reply of either VMM (the description of a VM with hundreds of devices) is far below; a VMM that sends more is broken or hostile.
REPLY_BYTES_MAX = 4 << 20
HEADER_BYTES_MAX = 32 << 10
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?")


@dataclasses.dataclass(frozen=True)
class Reply:
    """A VMM's answer. C(value): the body as JSON; None when there is none or it is not JSON, which C(text) still has."""

    status: int
    value: t.Any
    text: str

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


def raw_request(socket_path: str, method: str, path: str, body: bytes | None, deadline: float, peer_uid: int | None = None) -> tuple[int, bytes]:
    """One request on the standard library alone: status and body as they came.

    C(deadline) is a C(time.monotonic()) value; C(peer_uid) the uid that must be behind the socket (None: any). Errors as for C(Connection)."""
    return send_request(socket_path, method, path, body, deadline, peer_uid)()


def send_request(
    socket_path: str, method: str, path: str, body: bytes | None, deadline: float, peer_uid: int | None = None
) -> t.Callable[[], tuple[int, bytes]]:
    """As C(raw_request), in two steps: what is returned waits for the reply. Between them others can be asked, who work on their answers meanwhile."""
    headers = [("Host", "localhost"), ("Accept", "application/json")]
    if body is not None:
        headers += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    connection = Connection(socket_path, deadline, peer_uid)
    with foreign_errors(socket_path):
        sent = connection._send(method, path, headers, body or b"")

    def reply() -> tuple[int, bytes]:
        with foreign_errors(socket_path):
            return connection._reply(sent)

    return reply


class Connection:
    """The API socket of one VMM, for calls under one deadline. Every call is a connection of its own.

    Raises Unavailable when nobody answers on the socket or the VMM goes away or is busy, DeadlineExceeded when it does not answer in time, Internal when what
    it answers is not HTTP or too large, FailedPrecondition when the socket is not one we may trust or open. Replies of any status are returned."""

    def __init__(self, socket_path: str, deadline: float, peer_uid: int | None = None) -> None:
        self.socket_path = socket_path
        self.deadline = deadline
        self.peer_uid = peer_uid

    def request(self, method: str, path: str, payload: t.Any = None) -> Reply:
        """C(payload) is sent as JSON; None is no body at all."""
        httpx = thirdparty.httpx()
        content = None if payload is None else json.dumps(payload, ensure_ascii=False).encode()
        with foreign_errors(self.socket_path, (httpx.HTTPError, httpx.InvalidURL)):
            # Built here and not by the client, which would add its own Accept-Encoding and Connection.
            headers = {"Accept": "application/json", **({} if content is None else {"Content-Type": "application/json"})}
            request = httpx.Request(method, f"http://localhost{path}", headers=headers, content=content)
            with httpx.Client(transport=self._transport(httpx), trust_env=False) as client:
                response = client.send(request)
        return Reply(response.status_code, _json_or_none(response.content), response.content.decode("utf-8", "replace"))

    def _transport(self, httpx: t.Any) -> t.Any:
        exchange = self._exchange

        class VmmTransport(httpx.BaseTransport):
            """Defined on use: its base class is only there once httpx is imported."""

            def handle_request(self, request: t.Any) -> t.Any:
                headers = [(name.decode("ascii"), value.decode("ascii")) for name, value in request.headers.raw]
                status, body = exchange(request.method, request.url.raw_path.decode("ascii"), headers, request.read())
                return httpx.Response(status, content=body, request=request)

        return VmmTransport()

    def _exchange(self, method: str, target: str, headers: t.Iterable[tuple[str, str]], body: bytes) -> tuple[int, bytes]:
        """One request and its reply, on the standard library alone."""
        return self._reply(self._send(method, target, headers, body))

    def _send(self, method: str, target: str, headers: t.Iterable[tuple[str, str]], body: bytes) -> socket.socket:
        lines = [f"{method} {target} HTTP/1.1\r\n", *(f"{name}: {value}\r\n" for name, value in headers), "\r\n"]
        connected = connect(self.socket_path, self.deadline, self.peer_uid)
        try:
            connected.settimeout(seconds_left(self.deadline))
            # A server that is full answers before it has read us, and closes: what it says is in the receive buffer all the same.
            with contextlib.suppress(BrokenPipeError):
                connected.sendall("".join(lines).encode("ascii") + body)
        except OSError:
            connected.close()
            raise
        return connected

    def _reply(self, sent: socket.socket) -> tuple[int, bytes]:
        with sent:
            reader = _Reader(sent, self.socket_path, self.deadline)
            status, length = reader.head()
            while status < 200:  # interim '100 Continue'
                status, length = reader.head()
            content = b"" if status in (204, 304) else reader.exactly(length)
        if status == 503:
            said = quoted(content.decode("utf-8", "replace")) or "too many open connections"
            raise Unavailable(f"The VMM behind {self.socket_path} is busy: {said}.")
        return status, content


class _Reader:
    """Reads one reply, byte-exact and bounded, under the deadline as a whole: a VMM that drips bytes gets no more time than one that hangs."""

    def __init__(self, connected: socket.socket, socket_path: str, deadline: float) -> None:
        self._socket = connected
        self._path = socket_path
        self._deadline = deadline
        self._buffer = b""

    def head(self) -> tuple[int, int]:
        """Status and length of the body."""
        while b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > HEADER_BYTES_MAX or not b"HTTP/1.".startswith(self._buffer[:7]):
                raise self._nonsense(self._buffer[:40])
            self._more()
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        first, *fields = head.split(b"\r\n")
        status = _STATUS_LINE.fullmatch(first)
        if status is None:
            raise self._nonsense(first[:40])
        return int(status[1]), self._body_length(fields)

    def _body_length(self, fields: list[bytes]) -> int:
        length = 0
        for field in fields:
            name, _colon, value = field.partition(b":")
            if name.strip().lower() == b"transfer-encoding":
                raise self._nonsense(field[:40])
            if name.strip().lower() == b"content-length":
                if not value.strip().isdigit() or len(value) > 20:
                    raise self._nonsense(field[:40])
                length = int(value)
        if length > REPLY_BYTES_MAX:
            raise Internal(f"The VMM behind {self._path} announces a reply of {length} bytes; more than {REPLY_BYTES_MAX} are not accepted.")
        return length

    def exactly(self, length: int) -> bytes:
        while len(self._buffer) < length:
            self._more()
        return self._buffer[:length]

    def _more(self) -> None:
        self._socket.settimeout(seconds_left(self._deadline))
        received = self._socket.recv(65536)
        if not received:
            raise OSError(errno.ECONNRESET, "it was closed before the reply was complete")
        self._buffer += received

    def _nonsense(self, what: bytes) -> Internal:
        return Internal(f"What answers on {self._path} does not speak the VMM's HTTP: {what!r}.")


def _json_or_none(content: bytes) -> t.Any:
    try:
        return parse_json(content) if content else None
    except ValueError:
        # Some of the server's own errors hold a raw line break.
        return None
