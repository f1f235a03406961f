# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a configuration is not on this host: files, taps, devices. Reads only; each lack comes with its remedy."""

from __future__ import annotations

import os
import stat
import typing as t

from ..backends.port import FileUse
from ..capabilities.catalogue import TITLES, capabilities_of
from ..errors import Violation
from .nic_lacks import nic_lacks

if t.TYPE_CHECKING:
    from ..model.config import VmConfig
    from .seen_networks import Networks

ENTRIES_MAX = 1000
_KERNELS = {"elf": "vmlinux", "bzimage": "bzImage", "image": "arm64 Image"}
_ELF = b"\x7fELF"
# x86 boot protocol: the magic of a bzImage stands at 0x202; arm64's Image has its own at 56.
_BZIMAGE_AT, _BZIMAGE = 0x202, b"HdrS"
_ARM64_AT, _ARM64 = 56, b"ARM\x64"


def host_lacks(config: VmConfig, backend: str, uid: t.Optional[int] = None, isolated: bool = False, networks: t.Optional[Networks] = None) -> list[Violation]:
    """Everything that the configuration names and the host does not have in a usable form.

    C(networks): those of this host, where the configuration names one.
    C(isolated): root starts it, and the VMM runs under a uid of its own, C(uid) (None: not chosen yet). Otherwise it runs as whoever we are."""
    lacks: list[Violation] = []
    boot = config.boot
    if boot.kernel_path:
        lacks += _kernel("config.boot.kernel_path", boot.kernel_path, backend)
    for field, path in (("initrd_path", boot.initrd_path), ("firmware_path", boot.firmware_path), ("igvm_path", boot.igvm_path)):
        if path:
            lacks += _file(f"config.boot.{field}", path)
    for index, disk in enumerate(config.storage):
        if disk.path:
            lacks += _file(f"config.storage[{index}].path", disk.path, writable=not disk.read_only)
        if disk.vhost_user_socket:
            lacks += _socket(f"config.storage[{index}].vhost_user_socket", disk.vhost_user_socket)
    behind = [(f"config.network[{index}].vhost_user_socket", nic.vhost_user_socket) for index, nic in enumerate(config.network)]
    lacks += [lack for field, path in behind if path for lack in _socket(field, path)]
    lacks += nic_lacks(config, uid, isolated, networks)
    lacks += _console(config, uid, isolated)
    if config.vsock and config.vsock.path and backend == "cloudhypervisor":
        lacks += _new_socket("config.vsock.path", config.vsock.path, uid, isolated)
    if config.rng and not os.path.exists(config.rng.source):
        lacks.append(Violation("config.rng.source", f"{config.rng.source} does not exist on this host. /dev/urandom is there on every Linux."))
    return lacks


def _stat(field: str, path: str, remedy: str = "Put it there first") -> tuple[t.Optional[os.stat_result], list[Violation]]:
    try:
        return os.stat(path), []
    except FileNotFoundError:
        return None, [Violation(field, f"{path} does not exist on this host.{_nearest_path(path)} {remedy}, or correct the path.")]
    except OSError as exc:
        return None, [Violation(field, f"{path} cannot be looked at: {exc.strerror}. Run the task with become, or correct the permissions.")]


def _nearest_path(path: str) -> str:
    """Another file of that directory that may be meant, as a sentence."""
    import difflib

    directory, name = os.path.split(path)
    try:
        near = difflib.get_close_matches(name, os.listdir(directory)[:ENTRIES_MAX], n=1, cutoff=0.7)
    except OSError:
        # Not there either, or closed to us.
        return ""
    return f" Did you mean {os.path.join(directory, near[0])}?" if near else ""


def _file(field: str, path: str, writable: bool = False, remedy: str = "Put it there first") -> list[Violation]:
    found, lacks = _stat(field, path, remedy)
    if found is None:
        return lacks
    if stat.S_ISDIR(found.st_mode) or not (stat.S_ISREG(found.st_mode) or stat.S_ISBLK(found.st_mode)):
        return [Violation(field, f"{path} is neither a file nor a block device. Correct the path.")]
    wanted = os.R_OK | (os.W_OK if writable else 0)
    if not os.access(path, wanted):
        return [
            Violation(
                field,
                f"{path} is not {'writable' if writable else 'readable'} for this user. Run the task with become{', or set read_only' if writable else ''}.",
            )
        ]
    return []


def _kernel(field: str, path: str, backend: str) -> list[Violation]:
    remedy = "Install a kernel with the role unkey.vmcp.vmcp_kernel"
    lacks = _file(field, path, remedy=remedy)
    if lacks:
        return lacks
    with open(path, "rb") as stream:
        head = stream.read(_BZIMAGE_AT + 4)
    elf, image = head.startswith(_ELF), head[_ARM64_AT : _ARM64_AT + 4] == _ARM64
    compressed = head[_BZIMAGE_AT:] == _BZIMAGE
    found = "elf" if elf else "image" if image else "bzimage" if compressed else None
    if found in capabilities_of(backend).traits.kernels:
        return []
    if found:
        return [
            Violation(field, f"{path} is a {_KERNELS[found]}; {TITLES[backend]} boots an uncompressed vmlinux (ELF) only. Unpack it, or use another backend.")
        ]
    return [Violation(field, f"{path} is not a kernel: it is neither a vmlinux (ELF), a bzImage nor an arm64 Image. {remedy}, or correct the path.")]


def _socket(field: str, path: str) -> list[Violation]:
    found, lacks = _stat(field, path)
    if found is not None and not stat.S_ISSOCK(found.st_mode):
        return [Violation(field, f"{path} is not a unix socket. Correct the path.")]
    return lacks


def _console(config: VmConfig, uid: t.Optional[int], isolated: bool) -> list[Violation]:
    path = config.console.path
    if path is None:
        return []
    if config.console.output == "socket":
        return _new_socket("config.console.path", path, uid, isolated)
    if not os.path.isdir(os.path.dirname(path)):
        return [Violation("config.console.path", f"the directory of {path} does not exist on this host. Make it first, or correct the path.")]
    return []


def _new_socket(field: str, path: str, uid: t.Optional[int], isolated: bool) -> list[Violation]:
    """A socket that the VMM is to make, with the rights of its uid."""
    directory = os.path.dirname(path)
    try:
        found = os.stat(directory)
    except OSError as exc:
        return [Violation(field, f"{directory} is no directory that can be used ({exc.strerror}). Make it first, or leave the path out.")]
    if not isolated or _may_write(found, uid) or _has_access_list(directory):
        return []
    return [
        Violation(
            field,
            f"the VM runs under a uid of its own{'' if uid is None else f' ({uid})'}, which may not make a socket in {directory}. "
            "Leave the path out: the socket is then in the VM's own directory, and the result names it.",
        )
    ]


def _may_write(found: os.stat_result, uid: t.Optional[int]) -> bool:
    """Its gid is the same number. None: not chosen yet, so nobody's."""
    if uid is not None and found.st_uid == uid:
        return bool(found.st_mode & stat.S_IWUSR)
    return bool(found.st_mode & (stat.S_IWGRP if uid is not None and found.st_gid == uid else stat.S_IWOTH))


def _has_access_list(path: str) -> bool:
    """It may say more than the mode; then the VMM is left to find out."""
    try:
        return bool(os.getxattr(path, "system.posix_acl_access"))
    except OSError:
        return False


def seed_lacks(uses: t.Iterable[FileUse]) -> list[Violation]:
    """The templates from which a VM's own files are made (UEFI variables)."""
    return [
        Violation(
            "config.boot.firmware_path",
            f"{use.seed}, from which the VM's own {use.alias} is made, does not exist on this host. Install the firmware's package whole.",
        )
        for use in uses
        if use.seed and not os.path.isfile(use.seed)
    ]


def binary_lacks(binary: str) -> list[Violation]:
    """The pinned VMM, once the VM is to run. Where none was found, the planner has said so."""
    if not binary or os.access(binary, os.X_OK):
        return []
    return [
        Violation(
            "backend_version",
            f"{binary}, with which this VM was made, is missing or not executable. Install that version again, or give backend_version: current.",
        )
    ]


def device_lacks(config: VmConfig, backend: str, accel: t.Optional[str]) -> list[Violation]:
    """Device nodes that a backend cannot do without, once the VM is to run."""
    lacks: list[Violation] = []
    traits = capabilities_of(backend).traits
    if traits.needs_kvm or accel == "kvm":
        lacks += _device(
            "backend",
            f"{backend} needs /dev/kvm",
            "/dev/kvm",
            "Load the module kvm_intel or kvm_amd, or use backend: qemu.",
            "Run the task with become, or add the user to its group.",
        )
    if traits.host_vsock and config.vsock:
        lacks += _device(
            "config.vsock",
            f"vsock on {TITLES[backend]} needs /dev/vhost-vsock",
            "/dev/vhost-vsock",
            "Load the module vhost_vsock, or leave vsock out.",
            "Run the task with become.",
        )
    return lacks


def _device(field: str, need: str, path: str, how_to_get: str, how_to_open: str) -> list[Violation]:
    if not os.path.exists(path):
        return [Violation(field, f"{need}, which is not here. {how_to_get}")]
    if not os.access(path, os.R_OK | os.W_OK):
        return [Violation(field, f"{need}, which this user may not open. {how_to_open}")]
    return []
