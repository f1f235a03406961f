# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever bytes come from a VMM: each call ends with an answer or an error with a code and a sentence, and in time."""

from __future__ import annotations

import collections
import copy
import json
import pathlib
import socket
import threading
import time
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.registry import driver
from ansible_collections.unkey.vmcp.plugins.module_utils.errors import VmcpError
from ansible_collections.unkey.vmcp.tests.fakes.qmp import GREETING, line

STATES = ("created", "running", "paused", "absent")
CODES = ("failed_precondition", "unavailable", "deadline_exceeded", "internal")
CALL_S = 5.0


class Babbler:
    """Answers each thing that it hears, or soon after nothing, with the next of C(replies), and hangs up when there is none; C(first) is said unasked."""

    def __init__(self, path: pathlib.Path) -> None:
        self.first, self.replies = b"", tuple[bytes, ...]()
        # As these can be said in a test's output.
        self._long = {b"DEEP": b"[" * 100000}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(16)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            with client:
                try:
                    self._babble(client)
                except OSError:
                    continue  # it has heard enough

    def _babble(self, client: socket.socket) -> None:
        client.sendall(self._whole(self.first))
        # Two things may come at once, and be answered one by one all the same.
        client.settimeout(0.02)
        for reply in self.replies:
            try:
                if not client.recv(65536):
                    return
            except TimeoutError:
                pass
            client.sendall(self._whole(reply))

    def _whole(self, said: bytes) -> bytes:
        for word, meaning in self._long.items():
            said = said.replace(b"Content-Length: %d" % len(word), b"Content-Length: %d" % len(meaning)).replace(word, meaning)
        return said


@pytest.fixture
def babbler(tmp_path: pathlib.Path) -> t.Iterator[tuple[Babbler, str]]:
    path = tmp_path / "vmm.sock"
    made = Babbler(path)
    yield made, str(path)
    made.close()


def calls(backend: str) -> dict[str, t.Callable[[str, float], t.Any]]:
    api = driver(backend)
    return {
        "observe": api.observe,
        "pause": api.pause,
        "resume": api.resume,
        "request_shutdown": api.request_shutdown,
        "describe": api.describe,
        "boot_on": api.boot_on,
        "remove_on": api.remove_on,
    }


def ask(backend: str, call: str, path: str) -> str:
    """C(ok), or the error's code."""
    began = time.monotonic()
    try:
        said = calls(backend)[call](path, began + CALL_S)
    except VmcpError as exc:
        assert exc.code in CODES and exc.msg.isprintable() and len(exc.msg) < 1000, exc.msg[:1000]
        return exc.code
    finally:
        assert time.monotonic() - began < CALL_S + 50
    if call == "observe":
        assert said.state in STATES
    if call == "describe":
        assert set(said) == {"config", "counters", "console_path"}
        json.dumps(said)
    return "ok"


WORDS = (
    *("state", "Running", "Paused", "Not started", "Created", "Shutdown", "vmm_version", "id", "app_name", "config", "memory_actual_size", "version"),
    *("drives", "boot-source", "kernel_image_path", "machine-config", "vcpu_count", "mem_size_mib", "network-interfaces", "cpus", "memory", "payload"),
    *("disks", "net", "path", "size", "boot_vcpus", "return", "error", "QMP", "event", "status", "running", "fault_message", "desc", "class", "name"),
    *("type", "iface_id", "drive_id", "serial", "balloon", "memory-hotplug", "features"),
)
NAMES = st.sampled_from(WORDS) | st.text(max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=10,
)
BODIES = VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60) | st.just(b"DEEP")


def _http(status: int, body: bytes, length: t.Any, more: bytes) -> bytes:
    head = f"HTTP/1.1 {status} \r\nServer: x\r\n".encode() + more
    if length is not None:
        head += f"Content-Length: {len(body) if length == 'right' else length}\r\n".encode()
    return head + b"\r\n" + body


REPLIES = st.builds(
    _http,
    st.sampled_from((200, 200, 200, 204, 400, 404, 500, 503, 100, 999)),
    BODIES,
    st.sampled_from(("right", "right", "right", "right", None, 0, 3, 10**9, -1, "x", 10**30)),
    st.sampled_from((b"", b"", b"", b"Transfer-Encoding: chunked\r\n", b"X: \xff\r\n", b"nonsense\r\n", b": \r\n")),
) | st.binary(max_size=200)


# What they truly answer, all in one: each call finds in it what it looks for.
TRUE = {
    "firecracker": {
        "id": "web", "state": "Running", "vmm_version": "1.16.1", "app_name": "Firecracker",
        "boot-source": {"kernel_image_path": "/k", "initrd_path": None, "boot_args": "quiet"},
        "drives": [{"drive_id": "root_a", "path_on_host": "/a", "is_root_device": True, "is_read_only": False, "partuuid": None, "cache_type": "Writeback",
                    "io_engine": "Sync", "rate_limiter": {"bandwidth": {"size": 5, "one_time_burst": None, "refill_time": 100}, "ops": None}, "socket": None}],
        "machine-config": {"vcpu_count": 1, "mem_size_mib": 128, "smt": False, "track_dirty_pages": False, "huge_pages": "None", "cpu_template": None},
        "network-interfaces": [{"iface_id": "net_a", "guest_mac": "02:00:00:00:00:01", "host_dev_name": "tap0", "rx_rate_limiter": None, "mtu": 1500}],
        "vsock": {"guest_cid": 3, "uds_path": "/v", "vsock_id": None}, "entropy": {"rate_limiter": None}, "logger": None, "mmds-config": None,
        "balloon": {"amount_mib": 1, "deflate_on_oom": True, "stats_polling_interval_s": 1, "free_page_reporting": False},
        "memory-hotplug": {"total_size_mib": 128, "slot_size_mib": 128, "block_size_mib": 2}, "target_mib": 1, "plugged_size_mib": 0,
    },
    "cloudhypervisor": {
        "version": "v53.0", "build_version": "v53.0", "pid": 5, "features": ["kvm"], "state": "Running", "memory_actual_size": 1 << 27, "device_tree": {},
        "config": {
            "cpus": {"boot_vcpus": 1, "max_vcpus": 2, "topology": None, "affinity": [{"vcpu": 0, "host_cpus": [0]}], "features": {"amx": False}},
            "memory": {"size": 1 << 27, "hotplug_size": None, "shared": False, "hugepages": False, "zones": [{"id": "a", "size": 5}]},
            "payload": {"kernel": "/k", "cmdline": "quiet", "initramfs": None},
            "disks": [{"id": "root_a", "path": "/a", "readonly": False, "num_queues": 1, "rate_limiter_config": {"bandwidth": {"size": 5, "refill_time": 1}}}],
            "net": [{"id": "net_a", "tap": "tap0", "mac": "02:00:00:00:00:01", "mtu": None, "num_queues": 2}],
            "rng": {"src": "/dev/urandom"}, "serial": {"mode": "Pty", "file": "/dev/pts/1"}, "console": {"mode": "Null"},
            "vsock": {"cid": 3, "socket": "/v"}, "balloon": {"size": 5, "deflate_on_oom": False}, "watchdog": False, "landlock_enable": True,
        },
    },
}  # fmt: skip


def _paths(tree: t.Any, path: tuple[t.Any, ...] = ()) -> t.Iterator[tuple[t.Any, ...]]:
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield (*path, key)
        yield from _paths(value, (*path, key))


def _spoilt(tree: t.Any, spots: t.Sequence[tuple[tuple[t.Any, ...], t.Any]]) -> bytes:
    body = copy.deepcopy(tree)
    for path, value in spots:
        place = body
        for step in path[:-1]:
            known = (isinstance(place, dict) and step in place) or (isinstance(place, list) and isinstance(step, int) and step < len(place))
            place = place[step] if known else None
        if isinstance(place, dict) or (isinstance(place, list) and isinstance(path[-1], int) and path[-1] < len(place)):
            place[path[-1]] = copy.deepcopy(value)
    return json.dumps(body).encode()


@pytest.mark.parametrize("backend", TRUE)
def test_true_answers_with_something_wrong_in_them(babbler: tuple[Babbler, str], backend: str) -> None:
    server, path = babbler
    heard: collections.Counter[str] = collections.Counter()
    wrong = st.sampled_from((None, 0, -1, 10**30, "", "x", [], [1], [None], {}, {"a": 1}, True, 1.5, "Not started", "Created", "Paused")) | VALUES
    spots = st.lists(st.tuples(st.sampled_from(list(_paths(TRUE[backend]))), wrong), max_size=2)

    @settings(max_examples=1000)
    @given(spots, st.sampled_from(list(calls(backend))))
    def holds(spoilt: list[tuple[tuple[t.Any, ...], t.Any]], call: str) -> None:
        body = _spoilt(TRUE[backend], spoilt)
        server.replies = (_http(200, body, "right", b""),)
        heard[ask(backend, call, path)] += 1

    holds()
    assert heard["internal"] >= 10 and heard["ok"] >= 50, heard


@pytest.mark.parametrize("backend", TRUE)
def test_over_http(babbler: tuple[Babbler, str], backend: str) -> None:
    server, path = babbler
    heard: collections.Counter[str] = collections.Counter()

    @settings(max_examples=1000)
    @given(REPLIES, st.sampled_from(list(calls(backend))))
    def holds(reply: bytes, call: str) -> None:
        server.replies = (reply,)
        heard[ask(backend, call, path)] += 1

    holds()
    assert heard["internal"] >= 20 and heard["ok"], heard


MESSAGES = st.one_of(
    VALUES.map(line),
    st.builds(lambda value, number: line({"return": value, "id": number}), VALUES, st.sampled_from((1, 2, "x", None))),
    st.builds(lambda value, number: line({"error": value, "id": number}), VALUES, st.sampled_from((1, 2))),
    st.binary(max_size=60).map(lambda data: data + b"\n"),
    st.binary(max_size=60),
    st.sampled_from((line({"return": {}, "id": 1}), line({"return": {}}), line({"return": {"status": "running"}, "id": 2}), b"DEEP\n", b"DEEP")),
)
GREETINGS = st.just(line(GREETING)) | st.just(line(GREETING)) | MESSAGES


def test_over_qmp(babbler: tuple[Babbler, str]) -> None:
    server, path = babbler
    heard: collections.Counter[str] = collections.Counter()

    @settings(max_examples=300)
    @given(GREETINGS, st.lists(MESSAGES, max_size=4), st.sampled_from([call for call in calls("qemu") if call != "remove_on"]))
    def holds(greeting: bytes, replies: list[bytes], call: str) -> None:
        server.first, server.replies = greeting, tuple(replies)
        heard[ask("qemu", call, path)] += 1

    holds()
    assert heard["internal"] >= 20 and heard["unavailable"] >= 10, heard
