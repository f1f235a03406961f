# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cloud Hypervisor's words beside ours: pairs of keys, values of enumerations, ids on the wire, kernel arguments, and since which version.

Data and its two-way readers; C(translate) and C(devices) write documents with them, C(readback) reads them. Standard library only.
"""

from __future__ import annotations

import re
import typing as t

RNG_SOURCE = "/dev/urandom"

IMAGE_TYPES = {"raw": "Raw", "qcow2": "Qcow2", "vhd": "FixedVhd", "vhdx": "Vhdx"}
# The VMM takes the first that works of io_uring, Linux AIO and plain reads and writes, less those forbidden.
IO_ENGINES = {"io_uring": (False, True), "aio": (True, False), "sync": (True, True)}  # disable_io_uring, disable_aio

# Since which version a key of the document means something. Older versions would ignore it without a word, and a document should not claim what is not so.
SINCE: dict[str, tuple[int, int]] = {
    "cpus.nested": (50, 0),
    "disks[].image_type": (51, 0),
    "disks[].backing_files": (51, 0),
    "memory.zones[].mergeable": (52, 0),
    "landlock_enable": (41, 0),
    "landlock_rules": (41, 0),
}

# Pairs of our key and theirs. Whatever is left at false or nothing is left out: it is their default as it is ours.
CPUS = (("vcpu_count", "boot_vcpus"), ("max_vcpu_count", "max_vcpus"), ("topology", "topology"), ("affinity", "affinity"))
MEMORY_FLAGS = ("hugepages", "shared", "mergeable", "prefault")
MEMORY = tuple((flag, flag) for flag in MEMORY_FLAGS) + (("hugepage_size_bytes", "hugepage_size"),)
ZONE = (*MEMORY, ("size_bytes", "size"), ("host_numa_node", "host_numa_node"))
BALLOON = (("size_bytes", "size"), ("deflate_on_oom", "deflate_on_oom"), ("free_page_reporting", "free_page_reporting"))
DISK = (("read_only", "readonly"), ("direct_io", "direct"), ("serial", "serial"), ("num_queues", "num_queues"), ("queue_size", "queue_size"))
NET = (("mac_address", "mac"), ("mtu", "mtu"), ("queue_size", "queue_size"))
PAYLOAD_FILES = (("kernel_path", "kernel"), ("initrd_path", "initramfs"), ("firmware_path", "firmware"), ("igvm_path", "igvm"))
# Aliases of files (port.FileUse) by field.
BOOT_ALIASES = {"kernel_path": "kernel", "initrd_path": "initrd", "firmware_path": "firmware", "igvm_path": "igvm"}


def parse_version(text: str) -> tuple[int, ...]:
    """C((53, 0)) of C("53.0"), C("v53.0.0"). Empty (older than everything) when it holds no number."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def wire_id(kind: str, our_id: str) -> str:
    """C(disk_data_2d1) of C(disk) and C(data-1): lower-case letters and digits stay, all else is C(_) and two hexadecimal digits.

    The kinds keep them apart (ids are unique in a whole VM, not in a list): C(root) (the root disk), C(disk), C(net), C(mem)."""
    return f"{kind}_" + "".join(c if c.isascii() and (c.islower() or c.isdigit()) else f"_{ord(c):02x}" for c in our_id)


def our_id(wire: str) -> tuple[str, str]:
    """Kind and id. An id that is not of our making has the kind C("") and is returned as it is."""
    match = re.fullmatch(r"(root|disk|net|mem)_((?:[a-z0-9]|_[0-9a-f]{2})+)", wire)
    if not match:
        return "", wire
    return match[1], re.sub(r"_([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), match[2])


def put(source: t.Optional[dict[str, t.Any]], pairs: t.Iterable[tuple[str, str]]) -> t.Any:
    """The keys of theirs, without those that nobody set."""
    if source is None:
        return None
    return {theirs: source[mine] for mine, theirs in pairs if is_said(source[mine])}


def is_said(value: t.Any) -> bool:
    """Whether a value is worth a word: false, nothing and an empty list are the default on both sides. Zero is a value (a NUMA node)."""
    return value is not None and value is not False and value != []
