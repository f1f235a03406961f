# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words that options, results, code and documentation share. Standard library only: the no-change path reads them."""

from __future__ import annotations

import collections.abc
import typing as t

BACKENDS = ("cloudhypervisor", "firecracker", "qemu")
BACKEND_CHOICES = (*BACKENDS, "auto")

STATES_REQUESTED = ("present", "running", "paused", "shutdown", "restarted", "absent")
# What vmcp_vm_info reports. 'created' was never booted; 'crashed' ended by a signal or a code other than 0.
STATES_REPORTED = ("created", "running", "paused", "shutdown", "crashed", "absent")

WORKLOADS = ("serverless", "persistent", "development", "production")

# In rising order: each includes those before it.
DISRUPTIONS = ("none", "restart", "recreate", "replace_data")

APPLY = ("now", "next_boot")
# Kinds of disks that we make, and what they may be cloned from.
DISK_FORMATS = ("raw", "qcow2", "lvm")
DISK_SOURCES = ("image", "disk", "path")
FILESYSTEMS = ("ext4", "xfs", "btrfs", "vfat", "swap")
# What mkfs makes without being told, at the least; below that they refuse with words of their own.
FILESYSTEM_LEAST_BYTES = {"ext4": 1 << 20, "xfs": 300 << 20, "btrfs": 109 << 20, "vfat": 64 << 10, "swap": 40 << 10}
SUPERVISORS = ("auto", "systemd", "plain")
KEEP = ("disks", "snapshots")

# What a guest gets to shut down before force, when nobody says otherwise: by a task, or when the host goes down.
SHUTDOWN_GRACE_S = 30

NAME_PATTERN = r"[a-z0-9][a-z0-9-]{0,62}"
NAME_RULE = "1 to 63 characters of a-z, 0-9 and '-', starting with a letter or digit"


def name_rule(given: object) -> str:
    """C(NAME_RULE), with a name like the one that does not keep to it, where there is one."""
    import re

    like = re.sub("[^a-z0-9]+", "-", str(given).lower()).strip("-")[:63].rstrip("-")
    return f"{NAME_RULE}, such as {like!r}" if isinstance(given, str) and like else NAME_RULE


# Short option -> its place in the tree.
SHORT_OPTIONS: dict[str, tuple[str, ...]] = {
    "vcpus": ("cpu", "vcpu_count"),
    "max_vcpus": ("cpu", "max_vcpu_count"),
    "memory": ("memory", "size_bytes"),
    "kernel": ("boot", "kernel_path"),
    "initrd": ("boot", "initrd_path"),
    "kernel_args": ("boot", "kernel_args"),
    "firmware": ("boot", "firmware_path"),
    "disks": ("storage",),
    "networks": ("network",),
}

# Collection version: recorded in definitions and part of the no-change digest. A unit test keeps it equal to galaxy.yml.
COLLECTION_VERSION = "0.1.0"


def at_most(a: str, b: str) -> bool:
    """Whether disruption C(a) is within C(b)."""
    return DISRUPTIONS.index(a) <= DISRUPTIONS.index(b)


def stands_in(tree: t.Any, place: tuple[str, ...]) -> bool:
    """Whether C(place), that of a short option, is written in the configuration C(tree), whatever stands there."""
    for step in place:
        if not isinstance(tree, collections.abc.Mapping) or step not in tree:
            return False
        tree = tree[step]
    return True


# The label of a VM that is made beside the one that it is to replace: it may name that one's disks, which it gets when that one has been shut down.
REPLACES_LABEL = "vmcp-replaces"
