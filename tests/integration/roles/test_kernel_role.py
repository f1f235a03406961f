# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""vmcp_kernel on a host with systemd, over ssh: a kernel of the controller's and one from a server, by name and version, and as the host's default."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.guests import pvh_guest
from ansible_collections.unkey.vmcp.tests.hosts.fleet import URL, Fleet, fleet
from ansible_collections.unkey.vmcp.tests.hosts.nspawn import HostUnavailable
from ansible_collections.unkey.vmcp.tests.hosts.plays import play, roles

pytestmark = [pytest.mark.systemd, pytest.mark.root]
HOST = "vmcp1"


@pytest.fixture(scope="module")
def one() -> t.Iterator[Fleet]:
    """The role installs what unpacks kernels."""
    try:
        with fleet(1, installable=("lz4", "zstd")) as made:
            yield made
    except HostUnavailable as exc:
        pytest.skip(str(exc))


@pytest.mark.parametrize("way", ["vmcp_kernel_src", "vmcp_kernel_url"])
def test_a_kernel_is_brought_and_becomes_the_default(one: Fleet, way: str) -> None:
    host = one.hosts[HOST]
    name = way.rpartition("_")[2]
    (one.served / name).write_bytes(pvh_guest(f"from {name}", "halt"))
    options = {"vmcp_kernel_name": name, way: str(one.served / name) if name == "src" else f"{URL}/{name}"}
    play(one, roles("vmcp_kernel"), check=True, **options).ok()
    assert not (host.root / f"opt/vmcp/kernels/{name}").exists()
    play(one, roles("vmcp_kernel"), **options).ok()
    found = json.loads((host.root / "etc/vmcp/host.json").read_text())["boot"]
    (kernel,) = {found[backend]["kernel"] for backend in ("qemu", "cloudhypervisor")}
    assert kernel.startswith(f"/opt/vmcp/kernels/{name}/")
    assert (host.root / kernel.lstrip("/")).read_bytes() == (one.served / name).read_bytes()
    play(one, roles("vmcp_kernel"), **options).unchanged()
    play(one, roles("vmcp_kernel"), check=True, **options).unchanged()
