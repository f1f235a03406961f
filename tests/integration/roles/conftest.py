# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host reached over ssh, and releases that it can fetch."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.hosts.fleet import Fleet, fleet
from ansible_collections.unkey.vmcp.tests.hosts.nspawn import HostUnavailable
from ansible_collections.unkey.vmcp.tests.hosts.releases import Releases


@pytest.fixture(scope="module")
def one() -> t.Iterator[Fleet]:
    """A fleet of one bare host, for each file of tests: what others left on it would count."""
    try:
        with fleet(1) as made:
            yield made
    except HostUnavailable as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="module")
def releases(one: Fleet) -> Releases:
    """Served to the host; what is on PATH is real."""
    return Releases(one.served)
