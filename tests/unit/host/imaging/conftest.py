# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pathlib
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging.work import Work
from ansible_collections.unkey.vmcp.tests.fakes.http_files import FileServer

MAX_SIZE = 8 << 20


@pytest.fixture
def work(tmp_path: pathlib.Path) -> Work:
    path = tmp_path / "work"
    path.mkdir(mode=0o700)
    return Work(str(path), MAX_SIZE, time.monotonic() + 60, 60)


@pytest.fixture
def server() -> t.Iterator[FileServer]:
    with FileServer() as running:
        yield running
