# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host on which everything can be, as the planner sees it."""

from __future__ import annotations

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import Installed
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.situation import HostView

HOST = HostView(
    installed=(
        Installed("qemu", "7.2.22", "/usr/bin/qemu-system-x86_64"),
        Installed("firecracker", "1.16.1", "/opt/fc", {"jailer": "/opt/jailer"}, static=True),
        Installed("cloudhypervisor", "53.0", "/opt/ch", {"ch-remote": "/opt/ch-remote"}),
    ),
    hardware_kvm=True,
    kvm_usable=True,
    root=True,
)
