# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playgrounds for the end-to-end tests: each ends with every VM removed through Ansible and nothing left behind."""

from __future__ import annotations

import pathlib
import shutil
import tempfile
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.guests import pvh_guest
from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import GREETING, Playground
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import BACKENDS, Vmm, forget_fakes, use, used


@pytest.fixture
def top() -> t.Iterator[pathlib.Path]:
    """Short, because the paths of unix sockets are bounded; open to the VMs' uids."""
    made = pathlib.Path(tempfile.mkdtemp(prefix="e", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def ground(top: pathlib.Path) -> t.Iterator[Playground]:
    made = Playground(top)
    yield made
    try:
        left = made.remove_all()
        assert not left, "left behind:\n" + "\n".join(left)
    finally:
        made.kill_all()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, ground: Playground) -> Vmm:
    """Each VMM in turn, with the playground's PATH set so that it is found."""
    return use(request.param, ground)


@pytest.fixture
def qemu(ground: Playground) -> Vmm:
    return use("qemu", ground)


@pytest.fixture
def guest(top: pathlib.Path) -> t.Callable[..., str]:
    """Makes a kernel by what it does after its greeting. See tests/guests.py."""

    def make(then: str = "polite", greeting: str = GREETING) -> str:
        path = top / f"{then}.elf"
        path.write_bytes(pvh_guest(greeting, then))
        return str(path)

    return make


@pytest.fixture
def disk(top: pathlib.Path) -> str:
    path = top / "disk.img"
    path.write_bytes(bytes(1 << 20))
    return str(path)


def pytest_terminal_summary(terminalreporter: t.Any) -> None:
    for found in used():
        terminalreporter.write_line(f"end to end: {found.backend} was {found.why}")


def pytest_sessionfinish() -> None:
    forget_fakes()
