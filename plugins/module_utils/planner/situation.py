# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the planner knows: the VM as found, and the host as found. Gathered by the runner, never changed here."""

from __future__ import annotations

import dataclasses
import typing as t

from ..backends.port import Installed
from ..host.port import Exit, Process
from ..model.definition import Definition


@dataclasses.dataclass(frozen=True)
class Situation:
    """One VM as it was found.

    C(booted): the definition with which the live process was started. C(vmm_state): the VMM's own word (C(created), C(running), C(paused)),
    None when no process lives or it does not answer; then C(unresponsive) says what happened to the question.
    C(booted_unread): why it cannot be read with what the live process was started; the stored definition stands in for it.
    C(broken): why C(vm.json) cannot be read (the only thing that can be done with such a VM is to remove it).
    C(protected_unread): a definition that cannot be read says in plain JSON that its VM is protected.
    C(interrupted): a restart of ours was cut off when its process had ended: the VM is meant to run.
    C(leftovers): a directory without a definition, from a run that was cut off, or from a removal that kept the data (then C(only_data)).
    C(nearest), C(searched): names like this one, and a sentence on where a VM that is not there was looked for.
    """

    name: str
    definition: t.Optional[Definition] = None
    booted: t.Optional[Definition] = None
    process: t.Optional[Process] = None
    vmm_state: t.Optional[str] = None
    unresponsive: t.Optional[str] = None
    last_exit: t.Optional[Exit] = None
    ever_booted: bool = False
    autostart: t.Optional[bool] = None
    broken: t.Optional[str] = None
    booted_unread: t.Optional[str] = None
    protected_unread: bool = False
    leftovers: bool = False
    only_data: bool = False
    interrupted: bool = False
    nearest: tuple[str, ...] = ()
    searched: str = ""

    @property
    def exists(self) -> bool:
        return self.definition is not None or self.broken is not None

    @property
    def protected(self) -> bool:
        return self.definition.protected if self.definition else self.protected_unread

    @property
    def runs(self) -> bool:
        """A process of this VM lives, whatever it is doing."""
        return self.process is not None

    @property
    def state(self) -> str:
        """The reported state (DESIGN, words and rules)."""
        if not self.exists:
            return "absent"
        if self.process is not None:
            # A VMM that does not answer still holds the VM's memory and disks: it is not stopped.
            return "paused" if self.vmm_state == "paused" else "running" if self.vmm_state != "created" else "created"
        if not self.ever_booted:
            return "created"
        if self.last_exit is None or self.last_exit.reason in ("crash", "lost"):
            return "crashed"
        return "shutdown"

    @property
    def half_started(self) -> bool:
        """A VMM process whose VM was never booted: a start that was cut off."""
        return self.process is not None and self.vmm_state == "created"


@dataclasses.dataclass(frozen=True)
class HostView:
    """The host as far as a plan depends on it. C(problems): backend to why a binary that was found is of no
    use. C(defaults): C(backend) with C(backend_source), and C(boot), from environment and C(host.json)."""

    installed: tuple[Installed, ...] = ()
    problems: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    hardware_kvm: bool = False
    kvm_usable: bool = False
    defaults: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    root: bool = False
    systemd: bool = False

    def of(self, backend: str) -> tuple[Installed, ...]:
        return tuple(i for i in self.installed if i.backend == backend)

    def default_kernel(self, backend: str) -> dict[str, str]:
        """C({kernel, initrd, firmware}) that C(host.json) names for a backend; missing keys are not set. Empty without something to boot."""
        boot = self.defaults.get("boot") or {}
        named = {k: v for k, v in (boot.get(backend) or {}).items() if v}
        return named if named.keys() & {"kernel", "firmware"} else {}
