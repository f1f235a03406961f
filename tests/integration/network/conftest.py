# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pathlib
import shutil
import tempfile
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.integration.network.ground import Ground
from ansible_collections.unkey.vmcp.tests.netns import namespaces


@pytest.fixture
def top() -> t.Iterator[pathlib.Path]:
    """Open to dnsmasq, which is another user."""
    made = pathlib.Path(tempfile.mkdtemp(prefix="n", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def ground(top: pathlib.Path) -> t.Iterator[Ground]:
    with namespaces("host", "world") as (host, outside):
        made = Ground(top, host, outside)
        try:
            yield made
        finally:
            made.end()
