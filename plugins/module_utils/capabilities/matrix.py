# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words in which a backend says what it can do. Standard library only.

The data is in C(backends/<name>/features.py), one C(Capabilities) per backend; C(check) compares a configuration with it, C(tools/generate.py)
renders it. Nothing else knows what a backend can do.

Keys of C(support) are options as the tree writes them without C(config): C(cpu.affinity), C(storage[].format), a value of an option
(C(storage[].format=qcow2)), an option of the task beside the tree (C(metadata), C(restart_policy.on_reboot=stop)). The most specific key that
exists counts, and a key that is not supported speaks for everything below it.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

if t.TYPE_CHECKING:
    from .subject import Subject

SUPPORTED = "supported"
IGNORED = "ignored"
INERT = "inert"  # without effect, and not worth a warning
UNSUPPORTED = "unsupported"


@dataclasses.dataclass(frozen=True)
class Support:
    """One period of a feature: C(level) from version C(since) on, and no longer from C(until) on.

    C(reason): for what is ignored or unsupported, what happens instead, as the end of a sentence. C(note): what to know about a supported one, for the
    documentation. C(needs): a feature that the installed binary itself must report (a build option)."""

    level: str
    since: t.Optional[str] = None
    until: t.Optional[str] = None
    reason: str = ""
    note: str = ""
    needs: t.Optional[str] = None

    def holds(self, version: t.Optional[str]) -> bool:
        """Whether this period includes C(version); None stands for the newest."""
        if version is None:
            return self.until is None
        return not older(version, self.since) and (self.until is None or older(version, self.until))


Periods = tuple[Support, ...]


def yes(since: t.Optional[str] = None, *, until: t.Optional[str] = None, note: str = "", needs: t.Optional[str] = None) -> Periods:
    return (Support(SUPPORTED, since, until, note=note, needs=needs),)


def no(reason: str) -> Periods:
    return (Support(UNSUPPORTED, reason=reason),)


def inert() -> Periods:
    return (Support(INERT),)


def ignored(reason: str, *, until: t.Optional[str] = None) -> Periods:
    return (Support(IGNORED, until=until, reason=reason),)


@dataclasses.dataclass(frozen=True)
class Limit:
    """Least and most of a measure (see C(subject.MEASURES): an option, or a count), both inclusive.

    C(published): a figure of the support matrix that the VMM does not enforce: beyond it is a notice. Otherwise it is real: beyond it is a violation."""

    measure: str
    least: t.Optional[int] = None
    most: t.Optional[int] = None
    published: bool = False
    since: t.Optional[str] = None
    until: t.Optional[str] = None
    note: str = ""

    def holds(self, version: t.Optional[str]) -> bool:
        return Support(SUPPORTED, self.since, self.until).holds(version)

    def allows(self, value: int) -> bool:
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a rule found: C(field) is a path with its C(config.) prefix, C(message) a sentence with its remedy."""

    field: str
    message: str


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a list of features cannot say: how values must fit together on this backend. C(title) is for the documentation, C(find) pure.

    C(notice): what it finds does not stop anything."""

    title: str
    find: t.Callable[[Subject], t.Iterator[Finding]]
    notice: bool = False
    since: t.Optional[str] = None
    until: t.Optional[str] = None

    def holds(self, version: t.Optional[str]) -> bool:
        return Support(SUPPORTED, self.since, self.until).holds(version)


@dataclasses.dataclass(frozen=True)
class Traits:
    """What a backend needs of its host and of us, as data, so that nobody has to ask for its name.

    C(kernels): formats it boots: C(elf), C(bzimage), C(image) (arm64's). C(needs_kvm): it cannot do without /dev/kvm; else it takes an accelerator, settled
    at creation. C(host_vsock): its vsock is the host kernel's (/dev/vhost-vsock), not a unix socket. C(jailer): its sandbox is a helper of this name,
    which needs root and a static binary; None when the VMM sandboxes itself. C(pins_machine): the guest's hardware has a versioned name, pinned at creation.
    C(grows_live): formats of disks of whose new size a running VMM can be told, each with the version since when (None: always).
    C(overlays): since which version clones for it are qcow2 files over their image ("0": always; None: never).
    C(takes_descriptors): since which version it takes a network interface as an open descriptor, as macvtap needs ("0": always; None: never).
    C(told_at_start): what the process is told of restart policy (what a guest's reboot does) and workload (its machine) when it starts, and never again."""

    kernels: tuple[str, ...] = ("elf", "bzimage", "image")
    needs_kvm: bool = True
    host_vsock: bool = False
    jailer: t.Optional[str] = None
    pins_machine: bool = False
    told_at_start: bool = False
    overlays: t.Optional[str] = None
    takes_descriptors: t.Optional[str] = None
    grows_live: t.Mapping[str, t.Optional[str]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Capabilities:
    """Everything that is known of one backend.

    C(abilities): what it can do to a running VM, and published figures, for the documentation; the same keys for all."""

    backend: str
    title: str
    support: t.Mapping[str, Periods]
    limits: tuple[Limit, ...]
    rules: tuple[Rule, ...] = ()
    traits: Traits = Traits()
    abilities: t.Mapping[str, str] = dataclasses.field(default_factory=dict)


def lookup(periods: Periods, version: t.Optional[str]) -> t.Optional[Support]:
    """The period that holds for a version, or None when the version has nothing of it."""
    return next((support for support in periods if support.holds(version)), None)


def older(version: str, than: t.Optional[str]) -> bool:
    """Whether one version is older than another: C(older("1.9", "1.14")). Text after the numbers (C(-dirty)) does not count."""
    return than is not None and _numbers(version) < _numbers(than)


def _numbers(version: str) -> tuple[int, ...]:
    numbers = [int(part) for part in re.findall(r"[0-9]{1,9}", re.split(r"[^0-9.v]", version, maxsplit=1)[0])]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
