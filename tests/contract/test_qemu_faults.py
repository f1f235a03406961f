# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers on a QMP socket that are no healthy QEMU: each call ends in time, with the right error and a sentence that helps."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import threading
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.qemu.driver import Driver
from ansible_collections.unkey.vmcp.plugins.module_utils.errors import DeadlineExceeded, FailedPrecondition, Internal, Unavailable, VmcpError
from ansible_collections.unkey.vmcp.tests.fakes.qmp import EVENT, GREETING, QmpServer, line, running, to

# observe is the standard library's way, pause the library's.
CALLS = pytest.mark.parametrize("call", [Driver().observe, Driver().pause], ids=["observe", "pause"])
Call = t.Callable[..., t.Any]


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "qmp.sock"


def fails(call: Call, path: pathlib.Path, error: type[VmcpError], words: str, within_s: float = 60, peer_uid: int | None = None) -> VmcpError:
    began = time.monotonic()
    with pytest.raises(error, match=words) as caught:
        call(str(path), began + within_s, peer_uid)
    # Not for ever, on however busy a machine.
    assert time.monotonic() - began < within_s + 60
    assert caught.value.code == error.code
    return caught.value


@CALLS
def test_events_before_an_answer_are_passed_over(path: pathlib.Path, call: Call) -> None:
    with QmpServer(path):
        call(str(path), time.monotonic() + 60)


@CALLS
def test_no_socket(path: pathlib.Path, call: Call) -> None:
    fails(call, path, Unavailable, "There is no socket")


@CALLS
def test_a_file_in_place_of_the_socket(path: pathlib.Path, call: Call) -> None:
    path.touch()
    fails(call, path, FailedPrecondition, "is not a socket")


@CALLS
def test_a_link_in_place_of_the_socket(path: pathlib.Path, tmp_path: pathlib.Path, call: Call) -> None:
    with QmpServer(tmp_path / "real.sock"):
        path.symlink_to("real.sock")
        fails(call, path, FailedPrecondition, "is a link")


@CALLS
def test_another_users_process_behind_the_socket(path: pathlib.Path, call: Call) -> None:
    with QmpServer(path):
        fails(call, path, FailedPrecondition, "Nothing was sent", peer_uid=os.geteuid() + 1)


@CALLS
def test_no_greeting(path: pathlib.Path, call: Call) -> None:
    with QmpServer(path, greeting=b""):
        fails(call, path, DeadlineExceeded, "did not answer in time", within_s=0.3)


@CALLS
def test_bytes_that_drip(path: pathlib.Path, call: Call) -> None:
    with QmpServer(path, byte_delay_s=0.05):
        fails(call, path, DeadlineExceeded, "did not answer in time", within_s=0.5)


@CALLS
@pytest.mark.parametrize(
    "greeting",
    [b"SSH-2.0-OpenSSH_9.2\r\n", b"[]\r\n", b"{}\r\n", b'{"QMP":[]}\r\n', b"\xff\xfe\r\n", b"null\r\n"],
    ids=["ssh", "list", "empty", "wrong-type", "not-utf-8", "null"],
)
def test_a_greeting_that_is_none(path: pathlib.Path, greeting: bytes, call: Call) -> None:
    with QmpServer(path, greeting=greeting):
        fails(call, path, Internal, "does not speak QMP")


def test_a_line_without_end(path: pathlib.Path) -> None:
    with QmpServer(path, greeting=b"x" * (5 << 20)):
        fails(Driver().observe, path, Internal, "does not speak QMP")


@CALLS
def test_a_server_that_leaves_at_once(path: pathlib.Path, call: Call) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def leave() -> None:
            connection, _address = listener.accept()
            connection.close()

        closing = threading.Thread(target=leave)
        closing.start()
        fails(call, path, Unavailable, "closed the connection|broke")
        closing.join(60)


def _after_negotiation(answer: t.Callable[[dict[str, t.Any]], t.Any]) -> t.Callable[[dict[str, t.Any]], t.Any]:
    return lambda command: running(command) if command["execute"] == "qmp_capabilities" else answer(command)


@CALLS
def test_a_server_that_leaves_without_an_answer(path: pathlib.Path, call: Call) -> None:
    with QmpServer(path, answer=_after_negotiation(lambda command: None)):
        fails(call, path, Unavailable, "closed the connection|broke")


@CALLS
def test_a_server_that_never_answers(path: pathlib.Path, call: Call) -> None:
    with QmpServer(path, answer=_after_negotiation(lambda command: [EVENT] * 3)):
        fails(call, path, DeadlineExceeded, "did not answer in time", within_s=0.3)


@CALLS
@pytest.mark.parametrize("answer", [b"no json\r\n", b"[1]\r\n", b'"x"\r\n'], ids=["text", "list", "string"])
def test_an_answer_that_is_none(path: pathlib.Path, answer: bytes, call: Call) -> None:
    with QmpServer(path, answer=_after_negotiation(lambda command: answer)):
        fails(call, path, Internal, "does not speak QMP")


@CALLS
def test_a_refusal_comes_in_qemus_own_words(path: pathlib.Path, call: Call) -> None:
    def refuse(command: dict[str, t.Any]) -> list[dict[str, t.Any]]:
        return [to(command, {"error": {"class": "GenericError", "desc": "The moon is full."}})]

    with QmpServer(path, answer=_after_negotiation(refuse)):
        error = fails(call, path, FailedPrecondition, r"QEMU refused (query-status|stop): The moon is full\.$")
    assert error.details["vmm_error_class"] == "GenericError"


@pytest.mark.parametrize("status", [{}, {"status": 5}, {"status": "dancing"}, [], None], ids=["nothing", "number", "unknown", "list", "null"])
def test_a_status_that_makes_no_sense(path: pathlib.Path, status: t.Any) -> None:
    with QmpServer(path, answer=_after_negotiation(lambda command: [to(command, {"return": status})])):
        fails(Driver().observe, path, Internal, "does not speak QMP|does not know")


def test_a_description_that_makes_no_sense(path: pathlib.Path) -> None:
    with QmpServer(path, answer=_after_negotiation(lambda command: [to(command, {"return": [{}]})])):
        fails(Driver().describe, path, Internal, "makes no sense")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("prelaunch", "created"), ("running", "running"), ("paused", "paused"), ("io-error", "paused"), ("guest-panicked", "paused"), ("shutdown", "created")],
)
def test_run_states(path: pathlib.Path, theirs: str, ours: str) -> None:
    with QmpServer(path, answer=_after_negotiation(lambda command: [to(command, {"return": {"status": theirs}})])):
        seen = Driver().observe(str(path), time.monotonic() + 60)
    assert (seen.state, seen.version, seen.pid) == (ours, "7.2.22", os.getpid())


def test_a_path_longer_than_a_socket_address(tmp_path: pathlib.Path) -> None:
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    before = pathlib.Path.cwd()
    os.chdir(directory)
    try:
        with QmpServer(pathlib.Path("qmp.sock")):
            for call in (Driver().observe, Driver().pause):
                call(str(directory / "qmp.sock"), time.monotonic() + 60)
    finally:
        os.chdir(before)


def test_the_queue_for_a_busy_server_is_waited_in(path: pathlib.Path) -> None:
    with QmpServer(path), socket.socket(socket.AF_UNIX) as holder:
        holder.connect(str(path))
        assert json.loads(holder.recv(1000)) == GREETING
        leaving = threading.Timer(0.3, holder.shutdown, [socket.SHUT_RDWR])
        began = time.monotonic()
        leaving.start()
        assert Driver().observe(str(path), began + 60).state == "running"
        assert time.monotonic() - began > 0.2
        leaving.join()


def test_nothing_of_the_librarys_own_complaints_reaches_the_error_stream(path: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
    with QmpServer(path, greeting=line([])):
        fails(Driver().pause, path, Internal, "does not speak QMP")
    assert capfd.readouterr().err == ""
