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

The directory of the socket belongs to the VM's uid, which may plant what it likes there, and we are root: the directory is opened without following
a link, what has the socket's name must be a socket, and the process behind it must be the expected user's. Connecting
through C(/proc/self/fd) also lifts the limit of 107 bytes on the path.

C(raw_request) needs the standard library alone (the no-change path uses it); C(Connection) is the same exchange through httpx.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import re
import socket
import stat
import struct
import time
import typing as t

from .. import thirdparty
from ..errors import DeadlineExceeded, FailedPrecondition, Internal, Unavailable
from .quoting import quoted

# The largest reply of either VMM (the description of a VM with hundreds of devices) is far below; a VMM that sends more is broken or hostile.
REPLY_BYTES_MAX = 4 << 20
HEADER_BYTES_MAX = 32 << 10
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?")
_PEERCRED = struct.Struct("3i")  # pid, uid, gid


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
            connected.settimeout(_seconds_left(self.deadline))
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


def connect(socket_path: str, deadline: float, peer_uid: int | None = None) -> socket.socket:
    """A connected stream socket, checked as the module's docstring says. OSError as it comes: see C(foreign_errors)."""
    directory, name = os.path.split(socket_path)
    directory_fd = _open_directory(directory or ".", socket_path)
    try:
        _require_socket(directory_fd, name, socket_path)
        connected = _connect_to(f"/proc/self/fd/{directory_fd}/{name}", deadline)
    finally:
        os.close(directory_fd)
    try:
        _require_peer(connected, socket_path, peer_uid)
    except FailedPrecondition:
        connected.close()
        raise
    return connected


@contextlib.contextmanager
def foreign_errors(socket_path: str, of_library: tuple[type[Exception], ...] = ()) -> t.Iterator[None]:
    """The one place where errors of the system and of httpx become ours."""
    try:
        yield
    except TimeoutError as exc:
        raise DeadlineExceeded(f"The VMM behind {socket_path} did not answer in time. It may hang; its log says more.") from exc
    except FileNotFoundError as exc:
        raise Unavailable(f"There is no socket {socket_path}: the VMM does not run, or has not come up yet.") from exc
    except ConnectionRefusedError as exc:
        raise Unavailable(f"Nobody listens on {socket_path}: the VMM that made it has ended.") from exc
    except PermissionError as exc:
        raise FailedPrecondition(f"User {os.geteuid()} may not open {socket_path}. Run the task as the VM's owner, or with 'become: true'.") from exc
    except OSError as exc:
        raise Unavailable(f"The connection to the VMM behind {socket_path} broke: {exc.strerror or exc}.") from exc
    except of_library as exc:
        raise Internal(f"The request to the VMM behind {socket_path} failed: {type(exc).__name__}: {exc}.") from exc


def _open_directory(directory: str, socket_path: str) -> int:
    try:
        return os.open(directory, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC)
    except NotADirectoryError as exc:  # what O_DIRECTORY says of a link, too
        if os.path.islink(directory):
            raise FailedPrecondition(
                f"The directory of {socket_path} is a link, which is not followed: whoever owns it could lead root elsewhere. Give the path behind it."
            ) from exc
        raise FailedPrecondition(f"{directory}, where {socket_path} should be, is not a directory.") from exc


def _require_socket(directory_fd: int, name: str, socket_path: str) -> None:
    mode = os.stat(name, dir_fd=directory_fd, follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        raise FailedPrecondition(f"{socket_path} is a link and not a socket; it is not followed. Find out who put it there, and remove it.")
    if not stat.S_ISSOCK(mode):
        raise FailedPrecondition(f"{socket_path} is not a socket. Find out who put it there, and remove it.")


def _connect_to(address: str, deadline: float) -> socket.socket:
    while True:
        connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connecting.settimeout(_seconds_left(deadline))
            connecting.connect(address)
            return connecting
        except BlockingIOError:
            # The listener's queue is full. A unix socket with a time-out says so at once instead of waiting.
            connecting.close()
            time.sleep(0.005)
        except OSError:
            connecting.close()
            raise


def _require_peer(connected: socket.socket, socket_path: str, peer_uid: int | None) -> None:
    if peer_uid is None:
        return
    uid = _PEERCRED.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size))[1]
    if uid != peer_uid:
        raise FailedPrecondition(
            f"The process behind {socket_path} runs as uid {uid}, not as the VM's uid {peer_uid}. Nothing was sent to it. "
            "Stop that process, then start the VM again."
        )


def _seconds_left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


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
        self._socket.settimeout(_seconds_left(self._deadline))
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


def parse_json(content: str | bytes) -> t.Any:
    """What a VMM sent, as a value; ValueError for all that is none, also for what is nested too deeply for Python's parser."""
    try:
        return json.loads(content)
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc
