# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disks that are made and removed with a VM: clones of images, and empty ones, in its data directory. Standard library only.

They are made in the VM's own directory, which is root's, and only then get their name in C(data), which belongs to the VM's uid. What is there already is
opened without following links, and is never made anew: what is on a disk is the VM's."""

from __future__ import annotations

import os
import tempfile
import typing as t

from ..errors import FailedPrecondition
from ..model.disk import FileSystem
from . import filesystems
from .cloning import Cloned, allocated, clone, refuse_other_files, require_regular, virtual_size, write_sparse
from .disk_making import make_overlay
from .files import os_errors, remove
from .lending import convert, resize_qcow2
from .trees import name_in, open_beneath

if t.TYPE_CHECKING:
    from .layout import VmLayout

Chosen = t.Mapping[str, t.Any]
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class Overlays:
    """The bytes of an overlay that has nothing of its own yet: the same for all VMs with the same image and size, so qemu-img is asked once."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str, int], bytes] = {}

    def of(self, backing: str, backing_format: str, size: int) -> bytes:
        key = (backing, backing_format, size)
        if key not in self._made:
            with tempfile.TemporaryDirectory(prefix="vmcp-") as directory:
                path = f"{directory}/overlay.qcow2"
                make_overlay(path, backing, backing_format, size)
                with open(path, "rb") as stream:
                    self._made[key] = stream.read()
        return self._made[key]


def observed_size(vm: VmLayout, chosen: Chosen) -> t.Optional[int]:
    """Virtual size as the file says; None when it is not there."""
    try:
        fd = open_beneath(vm.data, str(chosen["file"]), os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        return virtual_size(fd, str(chosen["format"]))
    finally:
        os.close(fd)


def is_there(vm: VmLayout, chosen: Chosen) -> bool:
    """Whether a file (or whatever the VM's uid has put there) has the name."""
    return os.path.lexists(f"{vm.data}/{chosen['file']}")


def make(
    vm: VmLayout, chosen: Chosen, image: t.Optional[tuple[str, str, int]], size: t.Optional[int], uid: t.Optional[int], overlays: Overlays, *, sync: bool
) -> Cloned:
    """A disk of the VM's. C(image): path, format and virtual size of what it is cloned from; None for an empty one. C(size): its own, or the image's.

    C(sync) false: the caller sees to it that it is durable."""
    temporary = f"{vm.dir}/.{chosen['file']}.new"
    doing = f"make {vm.data}/{chosen['file']}"
    with os_errors(doing):
        remove(temporary)
        fd = os.open(temporary, _NEW, 0o600)
        try:
            cloned = _fill(fd, temporary, chosen, image, size, overlays, doing)
            if uid is not None:
                os.fchown(fd, uid, uid)
            if sync:
                os.fsync(fd)
        except (OSError, FailedPrecondition):
            remove(temporary)
            raise
        finally:
            os.close(fd)
        name_in(vm.data, temporary, str(chosen["file"]), sync)
    return cloned


def _fill(fd: int, path: str, chosen: Chosen, image: t.Optional[tuple[str, str, int]], size: t.Optional[int], overlays: Overlays, doing: str) -> Cloned:
    if image is None:
        os.ftruncate(fd, size or 0)
        if chosen.get("filesystem"):
            filesystems.make(path, FileSystem(str(chosen["filesystem"])), None)
        return Cloned("blank", max(0, (size or 0) - allocated(fd)))
    source_path, format_, least = image
    wanted = size or least
    if chosen["format"] == "qcow2":
        write_sparse(fd, overlays.of(source_path, format_, wanted))
        return Cloned("overlay", max(0, wanted - allocated(fd)))
    source = os.open(source_path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if format_ != "raw":
            convert(source, format_, path, "raw", doing=doing)
            os.ftruncate(fd, wanted)
            return Cloned("convert", max(0, wanted - allocated(fd)))
        cloned = clone(source, fd, doing=doing)
    finally:
        os.close(source)
    if wanted > least:
        os.ftruncate(fd, wanted)
    return Cloned(cloned.method, cloned.saved_bytes + wanted - least)


def grow(vm: VmLayout, chosen: Chosen, size: int) -> bool:
    """To C(size), while no VMM has it open; one that is larger stays. True when it has grown. FailedPrecondition for what is no disk of ours."""
    path = f"{vm.data}/{chosen['file']}"
    fd = open_beneath(vm.data, str(chosen["file"]), os.O_RDWR | os.O_NONBLOCK)
    try:
        require_regular(fd, path)
        if virtual_size(fd, str(chosen["format"])) >= size:
            return False
        if chosen["format"] == "qcow2":
            # Guests do not write it, but a VMM that was taken over could have: it must lead where we made it lead.
            refuse_other_files(fd, path, chosen.get("backing"))
            resize_qcow2(fd, f"/proc/self/fd/{fd}", size, f"grow {path}", os.fstat(fd).st_uid or None)
        else:
            with os_errors(f"grow {path}"):
                os.ftruncate(fd, size)
                os.fsync(fd)
        return True
    finally:
        os.close(fd)


def drop_former(vm: VmLayout, chosen: Chosen) -> None:
    """Removes what the disk replaces, once nothing uses it."""
    for file in chosen.get("former") or []:
        with os_errors(f"remove {vm.data}/{file}"):
            try:
                directory = os.open(vm.data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                return
            try:
                os.unlink(str(file), dir_fd=directory)
            except FileNotFoundError:
                continue
            finally:
                os.close(directory)


_SHARING = {0x9123683E: "btrfs", 0x58465342: "xfs", 0xCA451A4E: "bcachefs"}


def shares_extents(path: str) -> bool:
    """Whether the file system of C(path), or of what of it is there, is one of those that can. Nothing is touched to find out."""
    import ctypes
    import struct

    while path != "/" and not os.path.isdir(path):
        path = os.path.dirname(path)
    library = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(256)
    if not hasattr(library, "statfs") or library.statfs(os.fsencode(path), buffer) != 0:
        return False
    kind: int = struct.unpack_from("@l", buffer)[0]
    return kind & 0xFFFFFFFF in _SHARING
