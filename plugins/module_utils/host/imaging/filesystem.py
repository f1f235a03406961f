# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a file system image from a tree, without mounting anything. By e2fsprogs or squashfs-tools."""

from __future__ import annotations

import os
import re
import typing as t
import uuid

from ...errors import FailedPrecondition
from ..files import remove
from . import tools
from .tree import Node
from .work import Work

_BLOCK = 4096
_INODE = 256
_MIB = 1 << 20
# Estimates that turned out too small are raised so many times.
_ATTEMPTS = 4
# What the tools' own languages take as it is.
_PLAIN_NAME = re.compile(r"(/[A-Za-z0-9_.+:@-]+)+")
_NO_ROOM = ("Could not allocate", "No space left", "no free", "ran out of")


def measure(root: str) -> tuple[int, int]:
    """C((bytes, inodes)) that the tree takes in blocks of a file system. Hard links count once."""
    total, inodes, seen = 0, 0, set()
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            status = os.lstat(f"{directory}/{name}")
            if status.st_nlink > 1 and name in files:
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
            inodes += 1
            total += -(-min(status.st_size, status.st_blocks * 512 + _BLOCK) // _BLOCK) * _BLOCK
    return total, inodes


def fitting_size(content: int, inodes: int) -> int:
    """Of an ext4 that holds that, with a little air, in whole MiB."""
    bare = content + inodes * _INODE
    return -(-(bare + bare // 8 + 16 * _MIB) // _MIB) * _MIB


def make_ext4(root: str, target: str, size: int | None, label: str, seed: str, work: Work, nodes: Nodes) -> int:
    """Its size. C(size) None: as large as the content needs. C(seed): from which its UUID follows. C(nodes): see C(add_nodes). The same content makes the
    same file system but for the times at which its files were unpacked here."""
    content, inodes = measure(root)
    inodes += len(nodes)
    bytes_ = size or fitting_size(content, inodes)
    if size and size < content:
        raise FailedPrecondition(f"size is {size} bytes, and the content alone takes {content}. Make it larger, or leave it out.")
    work.refuse_over(bytes_, "The file system")
    identity = str(uuid.uuid5(uuid.NAMESPACE_URL, seed))
    for attempt in range(_ATTEMPTS):
        remove(target)
        work.require_room(content, "The file system")
        argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", str(_BLOCK), "-I", str(_INODE), "-m", "0", "-U", identity, "-d", root]
        argv += ["-E", f"hash_seed={identity},root_owner=0:0,nodiscard", "-N", str(max(inodes + inodes // 4 + 256, bytes_ // 65536))]
        argv += ["-L", label] if label else []
        try:
            tools.run([*argv, target, f"{bytes_ // 1024}k"], work, "making the file system", environ={"E2FSPROGS_FAKE_TIME": "1"})
            add_nodes(target, nodes, work)
            return bytes_
        except FailedPrecondition as exc:
            if not any(text in exc.msg for text in _NO_ROOM) or os.statvfs(work.dir).f_bavail == 0 or attempt == _ATTEMPTS - 1:
                raise
            if size:
                raise FailedPrecondition(f"The content does not fit into size ({size} bytes): {exc.msg} Make it larger, or leave it out.") from exc
            bytes_ = -(-bytes_ * 13 // 10 // _MIB) * _MIB
            work.refuse_over(bytes_, "The file system")
    raise AssertionError("unreachable")


Nodes = t.Mapping[str, Node]


def can_be_named(path: str) -> bool:
    """Whether a device of that path in the file system can be put in by these tools."""
    return _PLAIN_NAME.fullmatch(path) is not None and not {".", ".."} & set(path.split("/"))


def add_nodes(target: str, nodes: Nodes, work: Work) -> None:
    """Devices, by their paths in the ext4, of which the directories are there."""
    if not nodes:
        return
    lines = []
    for path, node in sorted(nodes.items()):
        directory, _slash, name = path.rpartition("/")
        mode = ("02" if node.kind == "c" else "06") + f"{node.mode:04o}"
        lines += [f"cd {directory or '/'}", f"mknod {name} {node.kind} {node.major} {node.minor}"]
        lines += [f"set_inode_field {name} {field} {value}" for field, value in (("mode", mode), ("uid", node.uid), ("gid", node.gid))]
    requests = work.path("nodes")
    with open(requests, "w", encoding="utf-8") as stream:
        stream.write("".join(f"{line}\n" for line in lines))
    tools.run(["debugfs", "-w", "-f", requests, target], work, "putting devices into the file system")
    remove(requests)


def make_squashfs(root: str, target: str, work: Work, nodes: Nodes) -> int:
    """Its size. C(nodes): as for C(add_nodes)."""
    remove(target)
    argv = ["mksquashfs", root, target, "-noappend", "-no-progress", "-quiet", "-comp", "gzip", "-mkfs-time", "0"]
    for path, node in sorted(nodes.items()):
        argv += ["-p", f"{path[1:]} {node.kind} {node.mode:o} {node.uid} {node.gid} {node.major} {node.minor}"]
    tools.run(argv, work, "making the file system")
    return os.path.getsize(target)
