# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs VMM processes: the contract of the supervisors (systemd, plain). Standard library only."""

from __future__ import annotations

import dataclasses
import typing as t

if t.TYPE_CHECKING:
    from .layout import VmLayout


@dataclasses.dataclass(frozen=True)
class Process:
    """The live process of a VM, verified by its start time: a pid that was reused is no process of ours."""

    pid: int
    boot_id: str
    started_at: float  # seconds since the epoch


@dataclasses.dataclass(frozen=True)
class Exit:
    """How a VM's last process ended. C(reason): C(request), C(host), C(restart) (somebody asked), C(guest) (unasked, code 0), C(crash), C(lost) (no record:
    the host went down)."""

    boot_id: str
    reason: str
    code: t.Optional[int]
    signal: t.Optional[str]
    at: str  # ISO 8601, UTC


class Supervisor(t.Protocol):
    """Runs C(launch) files. The same files and the same behaviour whoever runs them; C(name) is C(systemd) or C(plain)."""

    name: str

    def ensure_installed(self) -> bool:
        """Unit files or scripts of the supervisor itself; one reload when they differ. True when something was written."""

    def start(self, vms: t.Sequence[VmLayout], deadline: float) -> dict[str, str]:
        """Starts all of them in one request and waits until each process runs and its C(after_start) commands are through.
        Name to error text for those that failed; an empty dict is success. A VM that runs is left alone."""

    def kill(self, vm: VmLayout, deadline: float) -> None:
        """Ends the process by force and returns when it is gone and the C(ended) record is written. Does nothing when none runs."""

    def terminate(self, vm: VmLayout, deadline: float) -> None:
        """SIGTERM, then as C(kill) at the deadline."""

    def wait_ended(self, vm: VmLayout, deadline: float) -> bool:
        """Waits until the process is gone and cleared up after. False at the deadline."""

    def set_autostart(self, vm: VmLayout, on: bool) -> None:
        """Whether the VM starts with the host. The plain supervisor has none: FailedPrecondition is not raised, the planner says it."""

    def autostart(self, vm: VmLayout) -> bool:
        """Whether it does now."""

    def end(self, vms: t.Sequence[VmLayout], deadline: float) -> None:
        """Sees to it that all of them end by force and that nothing starts them again, for VMs that are to be removed: their ends need not be recorded.
        Does not wait for that; C(remove) is called next, for some of them at a time."""

    def remove(self, vms: t.Sequence[VmLayout], deadline: float) -> dict[str, str]:
        """Waits until the processes that C(end) has ended are gone, and drops every trace the supervisor keeps of them (failed state, links).
        Name to error text for those whose process is not gone at the deadline."""
