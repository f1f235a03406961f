# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Definitions made, changed and removed over and over in one process: its memory, descriptors and threads, and the host's files, are where they were."""

from __future__ import annotations

import os
import pathlib
import threading
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.hosts.small import Host, small_host

CYCLES = int(os.environ.get("VMCP_SOAK_CYCLES", "100"))
# The allocator's own to and fro; a leak of one definition a cycle is more.
GROWN_BYTES_MAX = 4 << 20


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Host]:
    with small_host(tmp_path, monkeypatch) as made:
        yield made


def resident_bytes() -> int:
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_nothing_grows(host: Host) -> None:
    def cycle(number: int) -> None:
        name = f"vm-{number % 3}"
        assert host.task(name, **host.given, metadata={"key": "secret" * 1000})["changed"]
        assert host.task(name, memory="256M", labels={f"l{at}": "x" * 100 for at in range(20)})["changed"]
        assert host.task(name, act=False, memory="1G")["changed"]
        assert host.task(name, state="absent")["changed"]

    def seen() -> dict[str, t.Any]:
        return {
            "files": sorted(str(path) for path in host.state.rglob("*")),
            "run": sorted(str(path) for path in host.run_dir.rglob("*")),
            "allocated": host.table(),
            "descriptors": sorted(os.listdir("/proc/self/fd")),
            "threads": threading.active_count(),
        }

    for number in range(10):
        cycle(number)
    before, memory = seen(), resident_bytes()
    for number in range(CYCLES):
        cycle(number)
    assert seen() == before
    assert resident_bytes() - memory <= GROWN_BYTES_MAX
