# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exchange with VMMs over real unix sockets, against a server that says exactly the bytes it is told to."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils import errors
from ansible_collections.unkey.vmcp.plugins.module_utils.backends.registry import driver
from ansible_collections.unkey.vmcp.plugins.module_utils.backends.unix_http import REPLY_BYTES_MAX, Connection, raw_request

OK = b'HTTP/1.1 200 \r\nServer: x\r\nConnection: keep-alive\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"a": 12}'


class Wire:
    """A listening socket that takes one connection, notes what it is sent, answers C(reply), and keeps the connection open as VMMs do."""

    def __init__(self, path: pathlib.Path, reply: bytes, *, close: bool = False, pieces: int = 0) -> None:
        self.path = str(path)
        self.request = b""
        self._reply, self._close, self._pieces = reply, close, pieces
        self._done = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX)
        directory = os.open(path.parent, os.O_PATH)
        self._listener.bind(f"/proc/self/fd/{directory}/{path.name}")
        os.close(directory)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Wire:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            accepted, _address = self._listener.accept()
            with accepted:
                self.request = accepted.recv(65536)
                step = self._pieces or len(self._reply) or 1
                for start in range(0, len(self._reply), step):
                    accepted.sendall(self._reply[start : start + step])
                    if self._pieces:
                        time.sleep(0.05)
                if not self._close:
                    self._done.wait(10)


def soon(seconds: float = 60) -> float:
    return time.monotonic() + seconds


def by_raw(path: str, deadline: float, peer_uid: int | None = None) -> tuple[int, bytes]:
    return raw_request(path, "GET", "/", None, deadline, peer_uid)


def by_httpx(path: str, deadline: float, peer_uid: int | None = None) -> tuple[int, bytes]:
    reply = Connection(path, deadline, peer_uid).request("GET", "/")
    return reply.status, reply.text.encode()


both = pytest.mark.parametrize("ask", [by_raw, by_httpx])
Ask = t.Callable[..., tuple[int, bytes]]


@both
@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (OK, (200, b'{"a": 12}')),
        (OK + b"HTTP/1.1 400 \r\n", (200, b'{"a": 12}')),
        (b"HTTP/1.1 204 \r\nServer: x\r\nConnection: keep-alive\r\n\r\n", (204, b"")),
        (b"HTTP/1.1 200 \r\nConnection: keep-alive\r\n\r\n", (200, b"")),
        (b"HTTP/1.1 100 \r\n\r\n" + OK, (200, b'{"a": 12}')),
        (b'HTTP/1.1 400 Bad Request\r\ncontent-length: 14\r\n\r\n{ "error": "x\n', (400, b'{ "error": "x\n')),
    ],
)
def test_replies_are_framed_by_their_length_alone_on_a_connection_that_stays_open(tmp_path: pathlib.Path, ask: Ask, reply: bytes, expected: object) -> None:
    with Wire(tmp_path / "s", reply) as wire:
        assert ask(wire.path, soon()) == expected


@both
def test_a_reply_may_come_in_pieces(tmp_path: pathlib.Path, ask: Ask) -> None:
    with Wire(tmp_path / "s", OK, pieces=30) as wire:
        assert ask(wire.path, soon()) == (200, b'{"a": 12}')


def test_a_request_has_a_length_and_neither_encoding_nor_chunks(tmp_path: pathlib.Path) -> None:
    with Wire(tmp_path / "s", b"HTTP/1.1 204 \r\n\r\n") as wire:
        reply = Connection(wire.path, soon()).request("PUT", "/drives/disk_a", {"drive_id": "disk_a"})
    head, body = wire.request.split(b"\r\n\r\n")
    assert reply.ok and reply.value is None
    assert head.startswith(b"PUT /drives/disk_a HTTP/1.1\r\n")
    assert body == b'{"drive_id": "disk_a"}'
    names = {line.split(b":")[0].lower() for line in head.split(b"\r\n")[1:]}
    assert names == {b"host", b"accept", b"content-type", b"content-length"}
    assert b"Content-Length: 22" in head


def test_values_that_are_no_json_are_left_as_text(tmp_path: pathlib.Path) -> None:
    with Wire(tmp_path / "s", b'HTTP/1.1 400 \r\nContent-Length: 14\r\n\r\n{ "error": "x\n') as wire:
        reply = Connection(wire.path, soon()).request("GET", "/x")
    assert (reply.ok, reply.value, reply.text) == (False, None, '{ "error": "x\n')


@pytest.mark.parametrize("backend", ["cloudhypervisor", "firecracker"])
def test_an_answer_that_is_nested_without_end_makes_no_sense(tmp_path: pathlib.Path, backend: str) -> None:
    deep = b"[" * 200_000
    reply = b"HTTP/1.1 200 \r\nContent-Length: %d\r\n\r\n%s" % (len(deep), deep)
    with Wire(tmp_path / "s", reply) as wire, pytest.raises(errors.Internal):
        driver(backend).observe(wire.path, soon())


@both
@pytest.mark.parametrize(
    ("reply", "close", "error", "text"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", False, errors.Internal, "does not speak the VMM's HTTP: b'SSH-2.0"),
        (b"HTTP/1.1 2x0 \r\n\r\n", False, errors.Internal, "does not speak"),
        (b"HTTP/1.1 200 \r\nContent-Length: many\r\n\r\n", False, errors.Internal, "does not speak"),
        (b"HTTP/1.1 200 \r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", False, errors.Internal, "does not speak"),
        (b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n", False, errors.Internal, "does not speak"),
        (b"HTTP/1.1 200 \r\nX: " + b"x" * 100_000, False, errors.Internal, "does not speak"),
        (f"HTTP/1.1 200 \r\nContent-Length: {REPLY_BYTES_MAX + 1}\r\n\r\n".encode(), False, errors.Internal, "announces a reply of 4194305 bytes"),
        (OK[:-3], True, errors.Unavailable, "closed before the reply was complete"),
        (b"", True, errors.Unavailable, "broke"),
        (b"HTTP/1.1 503 \r\nContent-Length: 4\r\n\r\nfull", False, errors.Unavailable, "is busy: full"),
    ],
)
def test_what_is_no_reply_is_told_apart(tmp_path: pathlib.Path, ask: Ask, reply: bytes, close: bool, error: type[errors.VmcpError], text: str) -> None:
    with Wire(tmp_path / "s", reply, close=close) as wire, pytest.raises(error, match=text):
        ask(wire.path, soon())


@both
@pytest.mark.parametrize(("reply", "pieces"), [(b"", 0), (OK[:-3], 0), (OK, 2)])
def test_the_deadline_holds_for_silence_halves_and_drips(tmp_path: pathlib.Path, ask: Ask, reply: bytes, pieces: int) -> None:
    began = time.monotonic()
    with Wire(tmp_path / "s", reply, pieces=pieces) as wire, pytest.raises(errors.DeadlineExceeded, match="did not answer in time"):
        ask(wire.path, soon(0.3))
    assert time.monotonic() - began < 50


@both
def test_a_full_queue_of_a_hanging_vmm_is_waited_for_until_the_deadline(tmp_path: pathlib.Path, ask: Ask) -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(tmp_path / "s"))
        listener.listen(0)
        stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(tmp_path / "s"))
        with pytest.raises(errors.DeadlineExceeded):
            ask(str(tmp_path / "s"), soon(0.2))


@both
def test_no_socket_and_a_stale_one(tmp_path: pathlib.Path, ask: Ask) -> None:
    with pytest.raises(errors.Unavailable, match="There is no socket"):
        ask(str(tmp_path / "nowhere" / "s"), soon())
    with pytest.raises(errors.Unavailable, match="There is no socket"):
        ask(str(tmp_path / "s"), soon())
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "s"))
    with pytest.raises(errors.Unavailable, match="Nobody listens"):
        ask(str(tmp_path / "s"), soon())


@both
def test_links_are_not_followed(tmp_path: pathlib.Path, ask: Ask) -> None:
    (tmp_path / "real").mkdir()
    with Wire(tmp_path / "real" / "s", OK) as wire:
        (tmp_path / "link").symlink_to(wire.path)
        with pytest.raises(errors.FailedPrecondition, match="is a link and not a socket"):
            ask(str(tmp_path / "link"), soon())
        (tmp_path / "dir").symlink_to(tmp_path / "real")
        with pytest.raises(errors.FailedPrecondition, match=r"The directory of .* is a link"):
            ask(str(tmp_path / "dir" / "s"), soon())
        (tmp_path / "file").write_text("")
        with pytest.raises(errors.FailedPrecondition, match="is not a socket"):
            ask(str(tmp_path / "file"), soon())
        with pytest.raises(errors.FailedPrecondition, match="is not a directory"):
            ask(str(tmp_path / "file" / "s"), soon())
        assert wire.request == b""


@both
def test_another_users_process_is_sent_nothing(tmp_path: pathlib.Path, ask: Ask) -> None:
    with Wire(tmp_path / "s", OK) as wire:
        with pytest.raises(errors.FailedPrecondition, match=f"runs as uid {os.getuid()}, not as the VM's uid {os.getuid() + 1}"):
            ask(wire.path, soon(), os.getuid() + 1)
        assert wire.request == b""
    with Wire(tmp_path / "t", OK) as wire:
        assert ask(wire.path, soon(), os.getuid())[0] == 200


@both
def test_paths_longer_than_a_socket_address_are_reached(tmp_path: pathlib.Path, ask: Ask) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    with Wire(deep / "api.sock", OK) as wire:
        assert ask(wire.path, soon())[0] == 200


def test_the_raw_request_needs_no_library() -> None:
    code = (
        "import sys\n"
        "from ansible_collections.unkey.vmcp.plugins.module_utils.backends import unix_http\n"
        "try:\n    unix_http.raw_request('/nonexistent/s', 'GET', '/', None, 1e18)\n"
        "except unix_http.Unavailable as exc:\n    print(type(exc).__name__, sorted({'httpx', 'h11', 'pydantic', 'ssl'} & set(sys.modules)))\n"
    )
    root = pathlib.Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "Unavailable []\n"
