# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The unix socket of a VMM, whatever it speaks: connecting to the right one, its errors as ours, and JSON that comes from it.

The directory of the socket belongs to the VM's uid, which may plant what it likes there, and we are root: the directory is opened without following
a link, what has the socket's name must be a socket, and the process behind it must be the expected user's. Connecting
through C(/proc/self/fd) also lifts the limit of 107 bytes on the path.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import struct
import time
import typing as t

from ..errors import DeadlineExceeded, FailedPrecondition, Internal, Unavailable

_PEERCRED = struct.Struct("3i")  # pid, uid, gid


def connect(socket_path: str, deadline: float, peer_uid: int | None = None) -> socket.socket:
    """A connected stream socket, checked as the file's docstring says. OSError as it comes: see C(foreign_errors)."""
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
            connecting.settimeout(seconds_left(deadline))
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


def seconds_left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def parse_json(content: str | bytes) -> t.Any:
    """What a VMM sent, as a value; ValueError for all that is none, also for what is nested too deeply for Python's parser."""
    try:
        return json.loads(content)
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc
