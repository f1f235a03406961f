# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removes VMs as a task does (C(removal.Removal)), for tests that have no task: what may still run of them is ended first."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import VmcpError
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.port import Supervisor
from ansible_collections.unkey.vmcp.plugins.module_utils.host.removal import Removal, Removed

PATIENCE_S = 60.0


def remove_vms(
    layout: Layout,
    names: t.Sequence[str],
    *,
    keep_data: bool = False,
    give_back: t.Callable[[list[str]], object] = lambda names: None,
    supervisor: t.Optional[Supervisor] = None,
) -> dict[str, Removed]:
    """For each what C(Removal.finish) tells of it. C(supervisor): what started them; None when nothing of them runs."""
    if supervisor is not None:
        vms, deadline = [layout.vm(name) for name in names], time.monotonic() + PATIENCE_S
        supervisor.end(vms, deadline)
        assert supervisor.remove(vms, deadline) == {}
    removal = Removal(layout, names, give_back)
    removal.clear(names, keep_data=keep_data)
    return removal.finish()


def remove_vm(layout: Layout, name: str, **options: t.Any) -> bool:
    """As C(remove_vms), for one. Whether there was anything; an error is raised."""
    found = remove_vms(layout, [name], **options)[name]
    if isinstance(found, VmcpError):
        raise found
    return found
