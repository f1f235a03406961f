# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes disks, and changes their size. Standard library only; the caller holds the disk's lock and has planned what is done.

Every file is opened by its descriptor without following links. What is made anew is made in the directory C(DiskLayout.making)."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ..errors import FailedPrecondition, Internal
from ..model.disk import FileSystem
from ..model.disk_record import DiskRecord
from . import filesystems, tools
from .cloning import allocated, clone, refuse_other_files, require_regular, size_of
from .files import os_errors, remove
from .lending import convert, lent, resize_qcow2

if t.TYPE_CHECKING:
    from ..planner.disk_situation import Origin

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def make(record: DiskRecord, directory: str, origin: t.Optional[Origin], filesystem: t.Optional[FileSystem]) -> DiskRecord:
    """The disk's data. The record, with how it was made and what that saved."""
    if record.volume:
        return _make_volume(record, directory, origin, filesystem)
    path = f"{directory}/{os.path.basename(record.path)}"
    if origin is not None:
        return _clone(record, path, origin)
    raw = path if record.format == "raw" else f"{directory}/disk.raw"
    _make_raw(raw, record.size_bytes, preallocated=record.preallocated)
    if filesystem is not None:
        filesystems.make(raw, filesystem, record.content)
        record = dataclasses.replace(record, filesystem={**filesystems.probe(raw), "type": filesystem.type})
    if record.format == "qcow2":
        _to_qcow2(raw, "raw", path, f"make {record.path}")
        remove(raw)
    return _settled(record, path)


def _make_raw(path: str, size: int, *, preallocated: bool) -> None:
    with os_errors(f"make {path}"):
        fd = os.open(path, _NEW, 0o600)
        try:
            os.ftruncate(fd, size)
            if preallocated:
                os.posix_fallocate(fd, 0, size)
        finally:
            os.close(fd)


def _settled(record: DiskRecord, path: str) -> DiskRecord:
    """Durable, and with what it takes."""
    with os_errors(f"write {path}"):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.fsync(fd)
            return record if record.method == "reflink" else dataclasses.replace(record, saved_bytes=max(0, record.size_bytes - allocated(fd)))
        finally:
            os.close(fd)


# --- clones -----------------------------------------------------------------------------------------------------
def open_origin(origin: Origin) -> int:
    """Its descriptor, which the caller closes. A qcow2 file that leads to other files is refused: they are not what was asked for."""
    with os_errors(f"read {origin.path}"):
        fd = os.open(origin.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if origin.format == "qcow2":
            refuse_other_files(fd, origin.path)
    except FailedPrecondition:
        os.close(fd)
        raise
    return fd


def _clone(record: DiskRecord, path: str, origin: Origin) -> DiskRecord:
    source = open_origin(origin)
    try:
        if record.format == "qcow2":
            return _overlay_of(record, path, source, origin)
        if origin.format != "raw":
            _convert(record, path, source, origin, "raw")
            os.truncate(path, record.size_bytes)
            return _settled(dataclasses.replace(record, method="convert"), path)
        return _clone_raw(record, path, source, origin)
    finally:
        os.close(source)


def _clone_raw(record: DiskRecord, path: str, source: int, origin: Origin) -> DiskRecord:
    with os_errors(f"make {path}"):
        fd = os.open(path, _NEW, 0o600)
        try:
            cloned = clone(source, fd, doing=f"clone {origin.path} to {path}")
            if size_of(fd) != record.size_bytes:
                os.ftruncate(fd, record.size_bytes)
            if record.preallocated:
                os.posix_fallocate(fd, 0, record.size_bytes)
        finally:
            os.close(fd)
    saved = 0 if record.preallocated else cloned.saved_bytes + record.size_bytes - origin.size_bytes
    return _settled(dataclasses.replace(record, method=cloned.method, saved_bytes=saved), path)


def _convert(record: DiskRecord, path: str, source: int, origin: Origin, format_: str) -> None:
    with os_errors(f"make {path}"):
        os.close(os.open(path, _NEW, 0o600))
    convert(source, origin.format, path, format_, doing=f"convert {origin.path}", ours=_ours(record, origin), scratch=os.path.dirname(path))


def _ours(record: DiskRecord, origin: Origin) -> t.Optional[str]:
    return origin.path if (record.source or {}).get("kind") == "disk" else None


def _overlay_of(record: DiskRecord, path: str, source: int, origin: Origin) -> DiskRecord:
    """A disk that somebody may change, or remove, is no ground to stand on; images are kept while they are used."""
    if origin.digest is None:
        _convert(record, path, source, origin, "qcow2")
        _grow_qcow2(path, record.size_bytes)
        return _settled(dataclasses.replace(record, method="convert"), path)
    make_overlay(path, origin.path, origin.format, record.size_bytes)
    return _settled(dataclasses.replace(record, method="overlay", backing=origin.path, backing_format=origin.format), path)


def make_overlay(path: str, backing: str, backing_format: str, size: int) -> None:
    """A qcow2 file that has nothing of its own yet. The backing file's format is in it: nobody has to guess it from what a guest wrote."""
    words = ["create", "-q", "-f", "qcow2", "-F", backing_format, "-b", backing, path, str(size)]
    tools.run("qemu-img", *words, doing=f"make an overlay over {backing}", timeout_s=tools.SHORT_S)


def _to_qcow2(source: str, format_: str, target: str, doing: str) -> None:
    tools.run("qemu-img", "convert", "-f", format_, "-O", "qcow2", source, target, doing=doing)


def _grow_qcow2(path: str, size: int) -> None:
    """One that nobody wrote, from what may have been meant to make it write something else."""
    with lent(path) as (shown, fd):
        refuse_other_files(fd, path)
        resize_qcow2(fd, shown, size, f"grow {path}", tools.NOBODY)


# --- LVM ---------------------------------------------------------------------------------------------------------
def _make_volume(record: DiskRecord, directory: str, origin: t.Optional[Origin], filesystem: t.Optional[FileSystem]) -> DiskRecord:
    if record.volume is None:
        raise Internal(f"The record of disk {record.name} says nothing of its volume.")
    group, pool, name = record.volume["volume_group"], record.volume["thin_pool"], record.volume["name"]
    doing = f"make the LVM volume {group}/{name}"
    size = f"{record.size_bytes}b"
    if origin is not None and origin.path.startswith(f"/dev/{group}/"):
        tools.run("lvcreate", "-q", "-s", "-kn", "-n", name, origin.path[len("/dev/") :], doing=doing)
        if record.size_bytes > origin.size_bytes:
            tools.run("lvextend", "-q", "-L", size, f"{group}/{name}", doing=doing)
        return dataclasses.replace(record, method="snapshot", saved_bytes=record.size_bytes)
    tools.run("lvcreate", "-q", "-V", size, "-T", f"{group}/{pool}", "-n", name, doing=doing)
    if origin is not None:
        source = open_origin(origin)
        try:
            convert(source, origin.format, record.path, "raw", doing=f"copy {origin.path} to {record.path}", ours=_ours(record, origin), scratch=directory)
        finally:
            os.close(source)
        return dataclasses.replace(record, method="copy")
    if filesystem is not None:
        filesystems.make(record.path, filesystem, record.content)
        record = dataclasses.replace(record, filesystem={**filesystems.probe(record.path), "type": filesystem.type})
    return record


# --- sizes -------------------------------------------------------------------------------------------------------
def resize(record: DiskRecord, size: int) -> None:
    """The disk alone, while nobody uses it, or a raw file while somebody does. Growing adds zeroes; shrinking drops what is beyond."""
    if record.volume:
        if size > record.size_bytes:
            tools.run("lvextend", "-q", "-L", f"{size}b", f"{record.volume['volume_group']}/{record.volume['name']}", doing=f"grow {record.path}")
            return
        raise FailedPrecondition(f"Disk {record.name} is an LVM volume, which is not shrunk here. Make a smaller disk and copy the files.")
    with os_errors(f"resize {record.path}"):
        fd = os.open(record.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            require_regular(fd, record.path)
            if record.format == "raw":
                os.ftruncate(fd, size)
                if record.preallocated and size > record.size_bytes:
                    os.posix_fallocate(fd, record.size_bytes, size - record.size_bytes)
                os.fsync(fd)
                return
            refuse_other_files(fd, record.path, record.backing)
        finally:
            os.close(fd)
    # It only grows: what is in it only a guest knows.
    with lent(record.path) as (path, fd):
        resize_qcow2(fd, path, size, f"resize {record.path}", tools.NOBODY)


def allocate(record: DiskRecord) -> None:
    """Space for all of a raw file; what is in it stays."""
    with os_errors(f"allocate {record.path}"):
        fd = os.open(record.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            require_regular(fd, record.path)
            os.posix_fallocate(fd, 0, record.size_bytes)
            os.fsync(fd)
        finally:
            os.close(fd)
