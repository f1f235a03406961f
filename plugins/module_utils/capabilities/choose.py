# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backend runs a VM whose backend is C(auto): the first rule that matches, with its reason.

    1. something that only one backend can do              -> that one
    2. no usable hardware KVM                              -> qemu
    3. workload serverless                                 -> firecracker
    4. hotplug room, firmware, NUMA, more than 32 vCPUs,
       workload persistent or production                   -> cloudhypervisor
    5. the host's default
    6. cloudhypervisor, firecracker, qemu, as installed

From rule 2 on only backends that can do what is asked for compete; rules 3 to 6 are preferences, and prefer among what is installed.
Where nothing is installed (a check on a bare host), they say what ought to be.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ..model.words import BACKENDS
from .catalogue import TITLES
from .check import Verdict, check

if t.TYPE_CHECKING:
    from ..backends.port import Installed
    from ..model.config import VmConfig
    from ..model.task import VmRequest


@dataclasses.dataclass(frozen=True)
class Choice:
    """C(reason) completes "C(backend): …" as a readable clause."""

    backend: str
    reason: str


def choose(
    config: VmConfig,
    request: t.Optional[VmRequest],
    installed: t.Sequence[Installed],
    hardware_kvm: bool,
    host_default: t.Optional[str],
    *,
    host_kernels: t.Collection[str] = (),
) -> Choice:
    """The backend for a new VM. C(hardware_kvm): /dev/kvm opens and the CPU flags vmx or svm are there. C(host_default): the backend of C(host.json), or None.
    C(host_kernels): the backends for which the host has a default kernel."""
    verdicts = {backend: _verdict(config, request, backend, installed, host_kernels) for backend in BACKENDS}
    able = [backend for backend in BACKENDS if not verdicts[backend].violations]
    if len(able) == 1:
        return Choice(able[0], f"only {TITLES[able[0]]} can do what the configuration asks for ({_what(verdicts, able[0])})")
    # None can: whichever is chosen, its violations tell why. The rules below still choose the likeliest.
    return _prefer(able or list(BACKENDS), config, request, installed, hardware_kvm=hardware_kvm, host_default=host_default)


def _prefer(
    able: t.Sequence[str],
    config: VmConfig,
    request: t.Optional[VmRequest],
    installed: t.Sequence[Installed],
    *,
    hardware_kvm: bool,
    host_default: t.Optional[str],
) -> Choice:
    """Rules 2 to 6, among the backends that can."""
    if not hardware_kvm and "qemu" in able:
        return Choice("qemu", "the host has no usable hardware KVM, and QEMU runs without it")
    present = {install.backend for install in installed}
    competing = [backend for backend in able if backend in present] or able
    workload = request.settings.get("workload") if request is not None else None
    if workload == "serverless" and "firecracker" in competing:
        return Choice("firecracker", "the workload is serverless")
    wish = _lasting(config, workload)
    if wish and "cloudhypervisor" in competing:
        return Choice("cloudhypervisor", wish)
    if host_default in competing:
        return Choice(str(host_default), "it is the host's default")
    first = competing[0]
    among = f"it is the first installed of {', '.join(able)}"
    return Choice(first, among if first in present else f"no backend is installed that could run it; {TITLES[first]} is the first choice")


def _verdict(config: VmConfig, request: t.Optional[VmRequest], backend: str, installed: t.Sequence[Installed], host_kernels: t.Collection[str]) -> Verdict:
    """By the version that a new VM would get; by the newest known where none is installed."""
    mine = [install for install in installed if install.backend == backend]
    chosen = next((install for install in mine if install.current), mine[0] if mine else None)
    version, features = (chosen.version, chosen.features) if chosen else (None, ())
    return check(config, backend, version, request=request, host_kernel_default=backend in host_kernels, features=features)


def _what(verdicts: t.Mapping[str, Verdict], able: str) -> str:
    """The options that the others cannot do, each once, at most three."""
    fields: list[str] = []
    for backend in BACKENDS:
        if backend != able:
            fields += [violation.field for violation in verdicts[backend].violations[:1] if violation.field not in fields]
    return ", ".join(fields[:3])


def _lasting(config: VmConfig, workload: t.Optional[str]) -> str:
    """Why the VM is one for Cloud Hypervisor, or an empty text."""
    cpu, memory = config.cpu, config.memory
    if (cpu.max_vcpu_count or 0) > cpu.vcpu_count or (memory.max_size_bytes or 0) > memory.size_bytes:
        return "the configuration leaves room to grow while the VM runs"
    if config.boot.firmware_path is not None:
        return "the VM boots firmware"
    if any(zone.host_numa_node is not None for zone in memory.zones):
        return "the memory is placed on NUMA nodes"
    if cpu.vcpu_count > 32:
        return "the VM has more than 32 virtual CPUs"
    if workload in ("persistent", "production"):
        return f"the workload is {workload}"
    return ""
