# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host with systemd on which the modules are tested."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.guests import pvh_guest
from ansible_collections.unkey.vmcp.tests.hosts.nspawn import Host, HostUnavailable, systemd_host
from ansible_collections.unkey.vmcp.tests.integration.systemd.on_host import GREETING, PACKAGES


@pytest.fixture(scope="package")
def host() -> t.Iterator[Host]:
    """With QEMU, and guests by what they do after their greeting: C(/opt/kernels/polite), C(/opt/kernels/halt)."""
    try:
        with systemd_host(packages=PACKAGES) as made:
            kernels = made.root / "opt" / "kernels"
            kernels.mkdir(parents=True)
            for then in ("polite", "halt"):
                (kernels / then).write_bytes(pvh_guest(GREETING, then))
            yield made
    except HostUnavailable as exc:
        pytest.skip(str(exc))
