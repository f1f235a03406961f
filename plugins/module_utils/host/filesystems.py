# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""File systems on disks, made, filled and resized by their own tools, without mounting anything. Standard library only.

C(target) is a file or a block device of root's, which nobody uses at the time. What a guest has written is hostile: tools that read it run as nobody, on
that file alone, with bounded memory and time."""

from __future__ import annotations

import os
import re
import struct
import typing as t

from ..errors import FailedPrecondition, Violation
from ..model.disk import FileSystem
from ..model.units import format_size
from . import tools
from .files import os_errors
from .lending import lent

_MAKERS = {"ext4": "mke2fs", "xfs": "mkfs.xfs", "btrfs": "mkfs.btrfs", "vfat": "mkfs.vfat", "swap": "mkswap"}
# e2fsck: 1 is "corrected".
_CHECKED = (0, 1)
# Where signatures and superblocks of all that blkid knows are, from the beginning and from the end.
_HEAD_BYTES, _TAIL_BYTES = 4 << 20, 1 << 20
# ext4: where its superblock is, its magic number, and the feature by which its numbers have upper halves.
_SUPERBLOCK, _SUPERBLOCK_BYTES, _EXT4_MAGIC, _EXT4_64BIT = 1024, 1024, 0xEF53, 0x80


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
    """C({type, label, uuid}) of what is on C(target), as far as there is any; C({"table": …}) for partitions; {} for nothing known. Only reads.

    blkid is given a copy in memory of where such things are, so that it needs no right to the disk."""
    doing = f"look at {target}"
    with os_errors(doing):
        copy = os.memfd_create("vmcp-probe")
        try:
            _copy_ends(target, copy)
            words = ["-p", "-o", "export", "-c", "/dev/null", f"/proc/self/fd/{copy}"]
            said = tools.run("blkid", *words, doing=doing, timeout_s=tools.SHORT_S, codes=(0, 2, 8), pass_fds=(copy,), user=tools.NOBODY)
        finally:
            os.close(copy)
    found = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    keys = {"TYPE": "type", "LABEL": "label", "UUID": "uuid", "PTTYPE": "table"}
    return {ours: found[theirs] for theirs, ours in keys.items() if found.get(theirs)}


def _copy_ends(target: str, copy: int) -> None:
    fd = os.open(target, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
        os.ftruncate(copy, size)
        for begin, length in ((0, _HEAD_BYTES), (max(0, size - _TAIL_BYTES), _TAIL_BYTES)):
            os.pwrite(copy, os.pread(fd, min(length, size - begin), begin), begin)
    finally:
        os.close(fd)


def least_bytes(target: str, kind: str) -> t.Optional[int]:
    """Below which the file system there cannot be shrunk, as far as can be told by looking; None when it cannot be shrunk at all. Only reads.

    C(resize) knows the exact size, and refuses before it changes anything."""
    if kind == "swap":
        return 40 << 10
    if kind != "ext4":
        return None
    with os_errors(f"read {target}"), open(target, "rb", buffering=0) as stream:
        stream.seek(_SUPERBLOCK)
        block = stream.read(_SUPERBLOCK_BYTES)
    if len(block) < _SUPERBLOCK_BYTES or struct.unpack_from("<H", block, 0x38)[0] != _EXT4_MAGIC:
        raise FailedPrecondition(f"Cannot tell how small the file system of {target} can be: its superblock cannot be read.")
    total, free, log, features = (struct.unpack_from("<I", block, offset)[0] for offset in (0x4, 0xC, 0x18, 0x60))
    if features & _EXT4_64BIT:
        total, free = (low + (struct.unpack_from("<I", block, offset)[0] << 32) for low, offset in ((total, 0x150), (free, 0x158)))
    return int(max(0, total - free) << (10 + min(log, 6)))


def resize(target: str, filesystem: t.Mapping[str, t.Any], size_bytes: t.Optional[int] = None) -> None:
    """To C(size_bytes), or to what there is. Only what C(can_follow) says. FailedPrecondition when it does not fit into that."""
    if filesystem["type"] == "swap":
        words = [*_given("-L", filesystem.get("label")), *_given("-U", filesystem.get("uuid"))]
        tools.run("mkswap", "-q", *words, target, *([] if size_bytes is None else [str(size_bytes >> 10)]), doing=f"make swap space on {target} anew")
        return
    with lent(target) as (path, fd):

        def ask(tool: str, *words: str, what: str, codes: t.Sequence[int] = (0,)) -> str:
            return tools.run(tool, *words, doing=f"{what} the file system of {target}", codes=codes, pass_fds=(fd,), user=tools.NOBODY)

        ask("e2fsck", "-f", "-p", path, what="check", codes=_CHECKED)
        if size_bytes is not None:
            _refuse_too_small(ask("resize2fs", "-P", path, what="look at"), ask("dumpe2fs", "-h", path, what="look at"), target, size_bytes)
        ask("resize2fs", path, *([] if size_bytes is None else [f"{size_bytes >> 10}K"]), what="resize")


def _refuse_too_small(said: str, header: str, target: str, size_bytes: int) -> None:
    blocks, size = re.search(r"(\d+)\s*$", said), re.search(r"^Block size:\s+(\d+)", header, re.MULTILINE)
    if not blocks or not size:
        raise FailedPrecondition(f"Cannot tell how small the file system of {target} can be: resize2fs and dumpe2fs say nothing known.")
    least = int(blocks[1]) * int(size[1])
    if size_bytes < least:
        raise FailedPrecondition(f"size is {format_size(size_bytes)}, and the ext4 on {target} takes at least {format_size(least)}. Give that or more.")


def can_follow(kind: str) -> bool:
    """Whether the file system grows with its disk without being mounted."""
    return kind in ("ext4", "swap")


def cannot_follow(field: str, kind: str) -> Violation:
    return Violation(field, f"{kind} grows only where it is mounted. Leave grow out, and let the guest grow it (xfs_growfs, btrfs filesystem resize).")
