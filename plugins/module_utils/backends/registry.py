# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The static registry of backends. A new one is a branch here and its five files; imports are written out so that Ansible bundles them."""

from __future__ import annotations

from ..errors import Internal
from .port import Driver


def driver(name: str) -> Driver:
    """The driver of a backend by its key in options. Imports that backend only."""
    if name == "cloudhypervisor":
        from .cloudhypervisor.driver import Driver as CloudHypervisor

        return CloudHypervisor()
    if name == "firecracker":
        from .firecracker.driver import Driver as Firecracker

        return Firecracker()
    if name == "qemu":
        from .qemu.driver import Driver as Qemu

        return Qemu()
    raise Internal(f"There is no backend {name!r} in this version of unkey.vmcp.")
