# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a host stands against its guests: the advice of Firecracker and Cloud Hypervisor for production, item by item. Standard library only; changes nothing.

An item is a row of C(_ITEMS): its name, what it is good for, what to do, and a probe. A probe looks and answers with a verdict and why; where it cannot see
enough the verdict is C(unknown), and never C(ok). The role vmcp_hardening makes true what it can (C(by_role)).
"""

from __future__ import annotations

import dataclasses
import os
import stat
import typing as t

OK, NOT_OK, UNKNOWN = "ok", "not_ok", "unknown"
# Series that Firecracker is tested on (docs/kernel-policy.md); others work, and nobody there looks at them.
KERNEL_SERIES = ("5.10", "6.1", "6.18")
# Below this the timer of a guest's PIT can be used to keep the host busy; the kernel's own default is 200.
MIN_TIMER_PERIOD_US = 500
Verdict = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class Sight:
    """What probes look at. C(root): the root directory, another one in tests. C(landlock_abi): what the kernel answers, 0 for none."""

    root: str = ""
    landlock_abi: int = 0

    def read(self, path: str) -> t.Optional[str]:
        """The text without blanks around it. None: the kernel does not say."""
        try:
            with open(self.root + path, encoding="utf-8", errors="replace") as stream:
                return stream.read().strip()
        except OSError:
            return None

    def entries(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(self.root + path))
        except OSError:
            return []

    def mode(self, path: str) -> t.Optional[int]:
        try:
            return stat.S_IMODE(os.stat(self.root + path).st_mode)
        except OSError:
            return None

    def option(self, name: str) -> t.Optional[str]:
        """Of the kernel's command line; the last one counts. None: it is not there."""
        found = None
        for word in (self.read("/proc/cmdline") or "").split():
            key, dummy, value = word.partition("=")
            if key == name:
                found = value
        return found


@dataclasses.dataclass(frozen=True)
class Item:
    name: str
    good_for: str
    remedy: str
    probe: t.Callable[[Sight], Verdict]
    by_role: bool = False


def audit(sight: Sight) -> list[dict[str, t.Any]]:
    """C([{item, status, why, remedy, good_for, by_role}]), all of them, in order. The remedy is empty where nothing is to be done."""
    found = []
    for item in _ITEMS:
        status, why = item.probe(sight)
        remedy = "" if status == OK else item.remedy
        found.append({"item": item.name, "status": status, "why": why, "remedy": remedy, "good_for": item.good_for, "by_role": item.by_role})
    return found


def _swap(sight: Sight) -> Verdict:
    text = sight.read("/proc/swaps")
    if text is None:
        return UNKNOWN, "The kernel does not say what is swapped to."
    used = [line.split()[0] for line in text.splitlines()[1:]]
    return (NOT_OK, f"Swap space is in use: {', '.join(used)}.") if used else (OK, "No swap space is in use.")


def _ksm(sight: Sight) -> Verdict:
    run = sight.read("/sys/kernel/mm/ksm/run")
    if run is None:
        return OK, "The kernel cannot merge pages."
    return (NOT_OK, "The kernel merges equal pages of guests.") if run == "1" else (OK, "The kernel merges no pages.")


def _smt(sight: Sight) -> Verdict:
    control = sight.read("/sys/devices/system/cpu/smt/control")
    if control is None:
        return UNKNOWN, "The kernel does not say whether sibling threads are used."
    if control in ("off", "forceoff", "notsupported", "notimplemented"):
        return OK, f"Sibling threads are not used ({control})."
    return NOT_OK, "Sibling threads of a core run different guests."


def _vulnerabilities(sight: Sight) -> Verdict:
    base = "/sys/devices/system/cpu/vulnerabilities"
    names = sight.entries(base)
    if not names:
        return UNKNOWN, "The kernel does not say what its processor is vulnerable to."
    open_ones = [name for name in names if (sight.read(f"{base}/{name}") or "").startswith("Vulnerable")]
    return (NOT_OK, f"Not mitigated: {', '.join(open_ones)}.") if open_ones else (OK, "All known vulnerabilities of the processor are mitigated.")


def _mitigations(sight: Sight) -> Verdict:
    value = sight.option("mitigations")
    return (NOT_OK, "The kernel was booted with mitigations=off.") if value == "off" else (OK, "The kernel was not told to leave mitigations out.")


def _ecc(sight: Sight) -> Verdict:
    if any(name.startswith("mc") and name[2:].isdigit() for name in sight.entries("/sys/devices/system/edac/mc")):
        return OK, "A memory controller reports corrected errors (EDAC)."
    return UNKNOWN, "No memory controller reports errors: there is no ECC memory, or no driver for it, or this is a virtual machine."


def _kernel(sight: Sight) -> Verdict:
    release = sight.read("/proc/sys/kernel/osrelease")
    if release is None:
        return UNKNOWN, "The kernel does not say its version."
    series = ".".join(release.split("-")[0].split(".")[:2])
    if series in KERNEL_SERIES:
        return OK, f"Linux {series} is a series that Firecracker is tested on."
    return NOT_OK, f"Linux {series} is none of the series that Firecracker is tested on ({', '.join(KERNEL_SERIES)})."


def _loglevel(sight: Sight) -> Verdict:
    words = (sight.read("/proc/sys/kernel/printk") or "").split()
    if not words or not words[0].isdigit():
        return UNKNOWN, "The kernel does not say what it prints on its console."
    if int(words[0]) <= 1:
        return OK, "The kernel prints only emergencies on its console."
    return NOT_OK, f"The kernel prints messages up to level {words[0]} on its console, and guests can cause many."


def _cgroup(sight: Sight) -> Verdict:
    if sight.read("/sys/fs/cgroup/cgroup.controllers") is None:
        return NOT_OK, "The unified cgroup hierarchy (version 2) is not in use."
    return OK, "The unified cgroup hierarchy (version 2) is in use."


def _nx_huge_pages(sight: Sight) -> Verdict:
    value = sight.read("/sys/module/kvm/parameters/nx_huge_pages")
    affected = sight.read("/sys/devices/system/cpu/vulnerabilities/itlb_multihit")
    if value is None or affected is None:
        return UNKNOWN, "KVM, or the kernel, does not say."
    if value in ("never", "N", "0") and affected != "Not affected":
        return NOT_OK, f"KVM's huge pages are executable (nx_huge_pages={value}), and the processor is affected by itlb_multihit."
    return OK, "Guests cannot stop the processor by executable huge pages."


def _timer(sight: Sight) -> Verdict:
    value = sight.read("/sys/module/kvm/parameters/min_timer_period_us")
    if value is None or not value.isdigit():
        return UNKNOWN, "KVM is not loaded as a module, or has no such parameter."
    if int(value) >= MIN_TIMER_PERIOD_US:
        return OK, f"A guest's timer fires every {value} µs at most."
    return NOT_OK, f"A guest's timer may fire every {value} µs, which keeps a processor of the host busy."


def _device(path: str) -> t.Callable[[Sight], Verdict]:
    def probe(sight: Sight) -> Verdict:
        mode = sight.mode(path)
        if mode is None:
            return OK, f"{path} is not there."
        if mode & 0o007:
            return NOT_OK, f"{path} is open to every user of the host (mode {mode:04o})."
        return OK, f"{path} is open to its owner and group alone (mode {mode:04o})."

    return probe


def _userfaultfd(sight: Sight) -> Verdict:
    value = sight.read("/proc/sys/vm/unprivileged_userfaultfd")
    if value is None:
        return UNKNOWN, "The kernel does not say who may use userfaultfd."
    return (OK, "Only root uses userfaultfd.") if value == "0" else (NOT_OK, "Every user of the host may hold up page faults (userfaultfd).")


def _landlock(sight: Sight) -> Verdict:
    if sight.landlock_abi > 0:
        return OK, f"The kernel has Landlock (ABI {sight.landlock_abi})."
    return NOT_OK, "The kernel has no Landlock, or does not let it be used here."


def _metadata(sight: Sight) -> Verdict:
    vendor = sight.read("/sys/class/dmi/id/sys_vendor")
    clouds = ("Amazon", "Google", "Microsoft", "Alibaba", "DigitalOcean", "Hetzner", "OpenStack", "Oracle", "Tencent", "Scaleway", "Exoscale")
    if vendor is not None and not vendor.startswith(clouds):
        return OK, f"The host is of {vendor or 'nobody'}, which is no known cloud."
    return UNKNOWN, "The host may be in a cloud whose metadata at 169.254.169.254 would give guests the host's credentials."


_ROLE = "Apply the role unkey.vmcp.vmcp_hardening with vmcp_hardening_enforce=true, or"
_ITEMS = (
    Item("swap", "memory of guests stays off disks", f"{_ROLE} run swapoff --all and mask swap.target.", _swap, True),
    Item("ksm", "guests do not learn about each other's memory", f"{_ROLE} write 2 to /sys/kernel/mm/ksm/run.", _ksm, True),
    Item(
        "smt",
        "guests do not spy on each other through a core",
        f"{_ROLE} write off to /sys/devices/system/cpu/smt/control; or use core scheduling (Cloud Hypervisor: core_scheduling).",
        _smt,
        True,
    ),
    Item(
        "cpu_vulnerabilities",
        "guests do not read what is not theirs",
        "Update the microcode and the kernel, then look with spectre-meltdown-checker.",
        _vulnerabilities,
    ),
    Item("mitigations", "guests do not read what is not theirs", "Take mitigations=off off the kernel's command line.", _mitigations),
    Item("ecc_memory", "guests do not flip bits of others (rowhammer)", "Use ECC memory with target row refresh, and load its EDAC driver.", _ecc),
    Item("kernel", "fixes for KVM arrive", "Use a kernel of one of these series.", _kernel),
    Item("console_loglevel", "guests do not flood the host's console", f"{_ROLE} boot with quiet loglevel=1.", _loglevel, True),
    Item("cgroup", "limits of VMs hold", "Boot with systemd.unified_cgroup_hierarchy=1.", _cgroup),
    Item("nx_huge_pages", "guests do not stop the processor", "Take kvm.nx_huge_pages=never away: the processor is affected.", _nx_huge_pages),
    Item("kvm_timer", "guests do not keep processors busy", f"{_ROLE} load kvm with min_timer_period_us={MIN_TIMER_PERIOD_US}.", _timer, True),
    Item("kvm_device", "only VMs use KVM", "Apply the role unkey.vmcp.vmcp_host (vmcp_host_kvm_group).", _device("/dev/kvm"), True),
    Item("tun_device", "only VMs and root make taps", f"{_ROLE} set its mode to 0660 by a rule of udev.", _device("/dev/net/tun"), True),
    Item("vhost_net_device", "only VMs use it", f"{_ROLE} set its mode to 0660 by a rule of udev.", _device("/dev/vhost-net"), True),
    Item("vhost_vsock_device", "only VMs use it", f"{_ROLE} set its mode to 0660 by a rule of udev.", _device("/dev/vhost-vsock"), True),
    Item("userfaultfd_device", "only VMs use it", f"{_ROLE} set its mode to 0660 by a rule of udev.", _device("/dev/userfaultfd"), True),
    Item("userfaultfd", "races in the kernel are harder to win", f"{_ROLE} set the sysctl vm.unprivileged_userfaultfd to 0.", _userfaultfd, True),
    Item("landlock", "Cloud Hypervisor keeps to its files", "Boot with lsm=landlock,… or a kernel from 5.13 on.", _landlock),
    Item("cloud_metadata", "guests do not get the host's credentials", "Deny 169.254.169.254 in the egress policy of networks.", _metadata),
)
