# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this host can do, as facts, and what it lacks, each with its remedy. Standard library only; changes nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t

from .. import runtime, thirdparty
from ..backends.port import Installed
from . import tools
from .capacity import capacity
from .discovery import OPT_DIR, Discovery, discover
from .files import read_kernel
from .hardening import Sight, audit
from .supervisors.registry import SYSTEMD_RUNS

# What launch files and supervisors run, and the package that has it.
_TOOLS = {
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "setsid": "util-linux",
    "flock": "util-linux",
    "fallocate": "util-linux",
    "mount": "mount",
    "ip": "iproute2",
    "nft": "nftables",
    "dnsmasq": "dnsmasq-base",
    "setfacl": "acl",
    "timeout": "coreutils",
    "perl": "perl-base (Debian) or perl-interpreter (Red Hat)",
}
_NEEDED_FOR = {
    "perl": "shutting QEMU's guests down with their host, and their balloons",
    "ip": "taps and networks",
    "nft": "networks",
    "dnsmasq": "networks with dhcp",
}
_KVM = "/dev/kvm"


@dataclasses.dataclass(frozen=True)
class Kvm:
    """C(present): the device is there. C(usable): we can open it. C(hardware): it is usable and the CPU has the flags (vmx, svm), so that a stock
    Linux boots; nested hosts offer a KVM without them. C(problem): what is wrong, with the remedy; empty when nothing is."""

    present: bool
    usable: bool
    hardware: bool
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Lack:
    """Something missing. C(what): a word of C(host_facts). C(needed_for): what does not work without it."""

    what: str
    message: str
    remedy: str
    needed_for: str

    def as_dict(self) -> dict[str, str]:
        return dataclasses.asdict(self)


def kvm() -> Kvm:
    if not os.path.exists(_KVM):
        return Kvm(False, False, False, "/dev/kvm is not there. Enable virtualization in the firmware or for this VM (nested), and load kvm_intel or kvm_amd.")
    try:
        os.close(os.open(_KVM, os.O_RDWR | os.O_CLOEXEC))
    except OSError as exc:
        return Kvm(True, False, False, f"/dev/kvm cannot be opened ({exc.strerror}). Run the task with become: true, or join the group that owns it.")
    if not _cpu_virtualizes():
        return Kvm(
            True,
            True,
            False,
            "/dev/kvm opens, but the CPU shows neither vmx nor svm: stock Linux guests do not boot there. Use QEMU, which then emulates (TCG).",
        )
    return Kvm(True, True, True)


def _cpu_virtualizes() -> bool:
    if os.uname().machine not in ("x86_64", "i686"):
        # Elsewhere the device is only there when the hardware is (EL2 on arm64).
        return True
    return any(not {"vmx", "svm"}.isdisjoint(line.split()) for line in _lines("/proc/cpuinfo") if line.startswith("flags"))


def systemd_runs() -> bool:
    return os.path.isdir(SYSTEMD_RUNS)


def installed(opt_dir: str = OPT_DIR) -> tuple[Installed, ...]:
    """The usable VMMs; C(discover) also says what is wrong with the others."""
    return discover(opt_dir=opt_dir).installed


def host_facts(state_dir: str = "/var/lib/vmcp", opt_dir: str = OPT_DIR) -> dict[str, t.Any]:
    """All of it as JSON values; C(lacks) is a list of C({what, message, remedy, needed_for})."""
    found = discover(opt_dir=opt_dir)
    host_kvm = kvm()
    facts: dict[str, t.Any] = {
        "architecture": os.uname().machine,
        "kernel": os.uname().release,
        "kvm": {"present": host_kvm.present, "usable": host_kvm.usable, "hardware": host_kvm.hardware},
        "devices": {name: _opens(f"/dev/{name}") for name in ("net/tun", "vhost-vsock", "vhost-net", "vfio/vfio", "userfaultfd")},
        "cgroup": _cgroup(),
        "systemd": systemd_runs(),
        "landlock_abi": _landlock_abi(),
        "iommu_groups": len(_entries("/sys/kernel/iommu_groups")),
        "tools": {tool: tools.find(tool) is not None for tool in _TOOLS},
        "libraries": _libraries(),
        "backends": [{**dataclasses.asdict(i), "helpers": dict(i.helpers), "features": list(i.features)} for i in found.installed],
        **capacity(state_dir),
    }
    facts["hardening"] = audit(Sight(landlock_abi=facts["landlock_abi"]))
    facts["lacks"] = [lack.as_dict() for lack in _lacks(facts, host_kvm, found)]
    return facts


def _lacks(facts: dict[str, t.Any], host_kvm: Kvm, found: Discovery) -> list[Lack]:
    lacks = []
    if host_kvm.problem:
        message, dummy, remedy = host_kvm.problem.partition(". ")
        lacks.append(Lack("kvm", message + ".", remedy, "cloudhypervisor, firecracker, and QEMU at full speed"))
    for device, module, needed_for in (("net/tun", "tun", "taps: every network interface"), ("vhost-vsock", "vhost_vsock", "vsock on QEMU")):
        if not facts["devices"][device]:
            lacks.append(Lack(device, f"/dev/{device} cannot be opened.", f"Run modprobe {module}, and the task with become: true.", needed_for))
    for backend in ("cloudhypervisor", "firecracker", "qemu"):
        lacks.extend(_backend_lacks(backend, found))
    lacks.extend(
        Lack(tool, f"The program {tool} is missing.", f"Install the package {package}.", _NEEDED_FOR.get(tool, "VMs with a uid of their own"))
        for tool, package in _TOOLS.items()
        if not facts["tools"][tool]
    )
    lacks.extend(
        Lack(library, f"The Python library {library} is missing.", thirdparty.REMEDY, thirdparty.NEEDED_FOR[library])
        for library, there in facts["libraries"].items()
        if not there
    )
    if not facts["systemd"]:
        lacks.append(
            Lack("systemd", "This host was not booted with systemd.", "Nothing to do: VMs run under the plain supervisor.", "starting VMs with the host")
        )
    if facts["landlock_abi"] == 0:
        lacks.append(
            Lack("landlock", "The kernel has no Landlock.", "Boot with lsm=landlock,… or a kernel from 5.13 on.", "confining Cloud Hypervisor to its files")
        )
    if facts["cgroup"]["version"] != 2:
        lacks.append(
            Lack("cgroup", "The unified cgroup hierarchy (version 2) is not in use.", "Boot with systemd.unified_cgroup_hierarchy=1.", "resource limits of VMs")
        )
    return lacks


def _backend_lacks(backend: str, found: Discovery) -> t.Iterator[Lack]:
    remedy = f"Apply the role unkey.vmcp.vmcp_{backend}, or install it by hand."
    there = [i for i in found.installed if i.backend == backend]
    for problem in found.problems:
        if problem.backend == backend:
            yield Lack(backend, problem.message, remedy, f"backend: {backend}")
    if not there and all(problem.backend != backend for problem in found.problems):
        yield Lack(backend, f"{backend} is not installed.", remedy, f"backend: {backend}")
    for version in there:
        if backend == "firecracker" and "jailer" not in version.helpers:
            yield Lack("jailer", f"There is no jailer beside {version.binary}.", "Install it from the same release.", "security.jail on firecracker")
        if backend == "firecracker" and not version.static:
            yield Lack(
                "firecracker",
                f"{version.binary} is not linked statically, and cannot run in a jail.",
                "Install a release build.",
                "security.jail on firecracker",
            )
        if backend == "cloudhypervisor" and "ch-remote" not in version.helpers:
            yield Lack("ch-remote", f"There is no ch-remote beside {version.binary}.", "Install it from the same release.", "backend: cloudhypervisor")


def _libraries() -> dict[str, bool]:
    """For each whether a task has it here: in its own Python, lent by a runtime, or in another Python for which there is a runtime."""
    elsewhere = runtime.matching_elsewhere() is not None
    return {library: elsewhere or runtime.is_installed(library) for library in thirdparty.NEEDED_FOR}


def _cgroup() -> dict[str, t.Any]:
    """Version 2 only where the unified hierarchy is the one in use; the hybrid mode limits through version 1."""
    controllers = "/sys/fs/cgroup/cgroup.controllers"
    if os.path.exists(controllers):
        return {"version": 2, "controllers": " ".join(_lines(controllers)).split()}
    names = [line.split()[0] for line in _lines("/proc/cgroups") if not line.startswith("#")]
    return {"version": 1 if names else 0, "controllers": names}


def _landlock_abi() -> int:
    """What the kernel answers; 0 when Landlock is not built in or not enabled."""
    import ctypes

    create_ruleset, version_flag = 444, 1  # the same number on every architecture
    libc = ctypes.CDLL(None, use_errno=True)
    return max(0, int(libc.syscall(create_ruleset, None, 0, version_flag)))


def _opens(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def _lines(path: str) -> list[str]:
    with contextlib.suppress(OSError):
        return read_kernel(path).splitlines()
    return []


def _entries(path: str) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir(path)
    return []
