# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for a vsock port of a guest, through the unix socket to which Firecracker and Cloud Hypervisor bridge it."""

from __future__ import annotations

import os
import pathlib
import socket
import threading
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import DeadlineExceeded
from ansible_collections.unkey.vmcp.plugins.module_utils.host.console_search import Searcher
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.conditions import conditions
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.vm_target import LiveVm
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.waits import wait

OPEN_PORT = 1024


class Bridge:
    """What a VMM does on its vsock socket: takes C(CONNECT PORT), answers C(OK …) once somebody in the guest listens there, and else hangs up."""

    def __init__(self, path: str) -> None:
        self.asked: list[bytes] = []
        self.listens = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                stream, _address = self._listener.accept()
            except OSError:
                return
            with stream:
                stream.settimeout(10)
                self.asked.append(stream.recv(64))
                if self.listens and self.asked[-1] == f"CONNECT {OPEN_PORT}\n".encode():
                    stream.sendall(b"OK 1073741824\n")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class Living(LiveVm):
    """Its VMM is this test."""

    def alive(self) -> bool:
        return True


@pytest.fixture
def vm(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> LiveVm:
    monkeypatch.chdir(tmp_path)
    layout = Layout(str(tmp_path / "state"), str(tmp_path / "run"))
    # With the uid of this process, as a VM has that is not isolated.
    config = {"vsock": {"cid": 5, "path": "v.sock"}, "console": {"enabled": True, "output": "file", "path": None}}
    generated = {"uid": os.geteuid()} if os.geteuid() == 0 else {}
    made = Definition(name="web", backend="firecracker", backend_version="1.16.1", binary="/bin/false", config=config, labels={}, generated=generated)
    return Living(made, layout.vm("web"))


@pytest.fixture
def bridge(vm: LiveVm) -> t.Iterator[Bridge]:
    made = Bridge("v.sock")
    yield made
    made.close()


def test_it_is_met_when_the_guest_listens(vm: LiveVm, bridge: Bridge) -> None:
    wanted = conditions([{"vsock": OPEN_PORT}], vm, Searcher())
    threading.Timer(0.2, lambda: setattr(bridge, "listens", True)).start()
    (met,) = wait(vm, wanted, 30)
    assert met["condition"] == "vsock: 1024" and met["seconds"] > 0
    assert len(bridge.asked) >= 2 and set(bridge.asked) == {b"CONNECT 1024\n"}, "asked again until it does"


def test_another_port_and_a_socket_that_is_not_there_are_not_yet(vm: LiveVm, bridge: Bridge) -> None:
    bridge.listens = True
    with pytest.raises(DeadlineExceeded, match="'vsock: 1025'"):
        wait(vm, conditions([{"vsock": 1025}], vm, Searcher()), 0.1)
    assert set(bridge.asked) == {b"CONNECT 1025\n"}
    os.unlink("v.sock")
    with pytest.raises(DeadlineExceeded, match="'vsock: 1024'"):
        wait(vm, conditions([{"vsock": OPEN_PORT}], vm, Searcher()), 0.1)


def test_what_was_met_is_asked_again_in_a_later_task(vm: LiveVm, bridge: Bridge) -> None:
    bridge.listens = True
    remembered: list[str] = []
    wait(vm, conditions([{"vsock": OPEN_PORT}], vm, Searcher()), 30, (), remembered.append)
    assert remembered == [], "a guest that listened may have stopped"
    began = time.monotonic()
    wait(vm, conditions([{"vsock": OPEN_PORT}], vm, Searcher()), 30, ["vsock: 1024"])
    assert len(bridge.asked) == 2 and time.monotonic() - began < 30
