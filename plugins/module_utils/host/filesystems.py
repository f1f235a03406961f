# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""File systems on disks, made, filled and resized by their own tools, without mounting anything. Standard library only.

C(target) is a file or a block device of root's, which nobody uses at the time."""

from __future__ import annotations

import os
import re
import typing as t

from ..errors import FailedPrecondition, Violation
from ..model.disk import FileSystem
from . import tools

_MAKERS = {"ext4": "mke2fs", "xfs": "mkfs.xfs", "btrfs": "mkfs.btrfs", "vfat": "mkfs.vfat", "swap": "mkswap"}
# e2fsck: 1 is "corrected".
_CHECKED = (0, 1)


def tools_for(filesystem: FileSystem, filled: bool) -> list[str]:
    found = [_MAKERS[filesystem.type]]
    if filled and filesystem.type == "vfat":
        found.append("mcopy")
    if filesystem.grow and filesystem.type == "ext4":
        found += ["e2fsck", "resize2fs"]
    return found


def make(target: str, filesystem: FileSystem, content: t.Optional[str]) -> None:
    """Everything that was on C(target) is lost."""
    doing = f"make {filesystem.type} on {target}"
    label, uuid = filesystem.label, filesystem.uuid
    if filesystem.type == "ext4":
        words = ["-q", "-F", "-t", "ext4", "-E", "root_owner=0:0"]
        words += _given("-L", label) + _given("-U", uuid) + _given("-d", content)
    elif filesystem.type == "xfs":
        words = ["-q", "-f", *_given("-L", label), *(["-m", f"uuid={uuid}"] if uuid else [])]
    elif filesystem.type == "btrfs":
        words = ["-q", "-f", *_given("-L", label), *_given("-U", uuid), *_given("--rootdir", content)]
    elif filesystem.type == "vfat":
        words = ["-F", "32"] if os.stat(target).st_size >= 260 << 20 else []
        words += _given("-n", label) + _given("-i", uuid.replace("-", "") if uuid else None)
    else:
        words = ["-q", *_given("-L", label), *_given("-U", uuid)]
    tools.run(_MAKERS[filesystem.type], *words, target, doing=doing)
    if content and filesystem.type == "vfat":
        entries = sorted(os.path.join(content, name) for name in os.listdir(content))
        if entries:
            tools.run("mcopy", "-s", "-Q", "-i", target, *entries, "::/", doing=f"fill {target} from {content}")


def _given(option: str, value: t.Optional[str]) -> list[str]:
    return [] if value is None else [option, value]


def probe(target: str) -> dict[str, str]:
    """C({type, label, uuid}) of what is on C(target), as far as there is any; C({"table": …}) for partitions; {} for nothing known."""
    said = tools.run("blkid", "-p", "-o", "export", "-c", "/dev/null", target, doing=f"look at {target}", timeout_s=tools.SHORT_S, codes=(0, 2, 8))
    found = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    keys = {"TYPE": "type", "LABEL": "label", "UUID": "uuid", "PTTYPE": "table"}
    return {ours: found[theirs] for theirs, ours in keys.items() if found.get(theirs)}


def least_bytes(target: str, kind: str) -> t.Optional[int]:
    """The smallest size to which the file system there can be shrunk; None when it cannot be."""
    if kind == "swap":
        return 40 << 10
    if kind != "ext4":
        return None
    tools.run("e2fsck", "-f", "-p", target, doing=f"check the file system of {target}", codes=_CHECKED)
    blocks = re.search(r"(\d+)\s*$", tools.run("resize2fs", "-P", target, doing=f"look at the file system of {target}"))
    size = re.search(r"^Block size:\s+(\d+)", tools.run("dumpe2fs", "-h", target, doing=f"look at the file system of {target}"), re.MULTILINE)
    if not blocks or not size:
        raise FailedPrecondition(f"Cannot tell how small the file system of {target} can be: resize2fs and dumpe2fs say nothing known.")
    return int(blocks[1]) * int(size[1])


def resize(target: str, filesystem: t.Mapping[str, t.Any], size_bytes: t.Optional[int] = None) -> None:
    """To C(size_bytes), or to what there is. Only what C(can_follow) says."""
    if filesystem["type"] == "swap":
        words = [*_given("-L", filesystem.get("label")), *_given("-U", filesystem.get("uuid"))]
        tools.run("mkswap", "-q", *words, target, *([] if size_bytes is None else [str(size_bytes >> 10)]), doing=f"make swap space on {target} anew")
        return
    tools.run("e2fsck", "-f", "-p", target, doing=f"check the file system of {target}", codes=_CHECKED)
    tools.run("resize2fs", target, *([] if size_bytes is None else [f"{size_bytes >> 10}K"]), doing=f"resize the file system of {target}")


def can_follow(kind: str) -> bool:
    """Whether the file system grows with its disk without being mounted."""
    return kind in ("ext4", "swap")


def cannot_follow(field: str, kind: str) -> Violation:
    return Violation(field, f"{kind} grows only where it is mounted. Leave grow out, and let the guest grow it (xfs_growfs, btrfs filesystem resize).")
