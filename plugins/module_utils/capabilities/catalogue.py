# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The capabilities of all backends. C(features.py) is data: it is the one part of a backend that this layer may read.

Loaded one by one, because a task that uses one backend should not pay for the others."""

from __future__ import annotations

import typing as t

from .matrix import SUPPORTED, Capabilities, lookup, older

TITLES = {"cloudhypervisor": "Cloud Hypervisor", "firecracker": "Firecracker", "qemu": "QEMU"}


def _cloudhypervisor() -> Capabilities:
    from ..backends.cloudhypervisor.features import CAPABILITIES

    return CAPABILITIES


def _firecracker() -> Capabilities:
    from ..backends.firecracker.features import CAPABILITIES

    return CAPABILITIES


def _qemu() -> Capabilities:
    from ..backends.qemu.features import CAPABILITIES

    return CAPABILITIES


_LOAD: dict[str, t.Callable[[], Capabilities]] = {"cloudhypervisor": _cloudhypervisor, "firecracker": _firecracker, "qemu": _qemu}


def capabilities_of(backend: str) -> Capabilities:
    return _LOAD[backend]()


def supports(backend: str, key: str) -> bool:
    """Whether a backend, in its newest version, can do what is beside the configuration tree: C(restart_policy.on_reboot=stop), C(security.jail=true)."""
    support = lookup(capabilities_of(backend).support[key], None)
    return support is not None and support.level == SUPPORTED


def grows_live(backend: str, version: t.Optional[str], format_: str) -> bool:
    """Whether a VMM that runs can be told that a disk of this format (C(raw), C(qcow2), C(overlay), C(lvm)) has grown."""
    formats = capabilities_of(backend).traits.grows_live
    return format_ in formats and (not version or not older(version, formats[format_]))


def takes_descriptors(backend: str, version: t.Optional[str]) -> bool:
    """Whether it takes a network interface that somebody else has opened."""
    since = capabilities_of(backend).traits.takes_descriptors
    return since is not None and (not version or not older(version, since))


def overlays(backend: str, version: t.Optional[str]) -> bool:
    """Whether it takes a qcow2 file that reads what it does not have from another file."""
    since = capabilities_of(backend).traits.overlays
    return since is not None and (not version or not older(version, since))
