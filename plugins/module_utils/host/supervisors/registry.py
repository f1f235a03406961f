# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which supervisor runs a VM. C(systemd) for the system's directories as root where systemd runs, C(plain) everywhere else."""

from __future__ import annotations

import os
import typing as t

from ...errors import FailedPrecondition

if t.TYPE_CHECKING:
    from ..layout import Layout
    from ..port import Supervisor

# What systemd's own sd_booted() looks at.
SYSTEMD_RUNS = "/run/systemd/system"


def choose(option: str, layout: Layout, uid: int) -> str:
    """The supervisor's name for a new VM. C(option): C(auto), C(systemd) or C(plain). FailedPrecondition when C(systemd) is asked for and cannot be."""
    possible = uid == 0 and layout.is_system and os.path.isdir(SYSTEMD_RUNS)
    if option == "systemd" and not possible:
        raise FailedPrecondition(
            "supervisor: systemd needs root, the system's directories (no state_dir or run_dir), and a host that was booted with systemd. "
            "Use supervisor: plain."
        )
    if option == "auto":
        return "systemd" if possible else "plain"
    return option


def supervisor(name: str, layout: Layout) -> Supervisor:
    """The supervisor called C(name) in a definition."""
    if name == "systemd":
        from .systemd import SystemdSupervisor

        return SystemdSupervisor(layout)
    from .plain import PlainSupervisor

    return PlainSupervisor(layout)


def supervisors(layout: Layout) -> list[Supervisor]:
    """All that could have anything of a VM whose definition cannot be read."""
    names = ["plain"]
    if layout.is_system and os.path.isdir(SYSTEMD_RUNS):
        names.append("systemd")
    return [supervisor(name, layout) for name in names]
