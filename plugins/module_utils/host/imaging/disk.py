# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk images of others: told apart by what they begin with, refused where they reach for other files, converted by qemu-img under limits.

An image may name files of the host as its base, its data or its extents, and qemu-img would read them. So the header is read here first, by the formats'
own rules; qemu-img gets the file as an open descriptor, the format by name, no right to anything else, and never guesses.
"""

from __future__ import annotations

import json
import os
import re
import struct
import typing as t

from ...errors import FailedPrecondition
from ..files import os_errors
from . import tools
from .unpack import read_head
from .work import Work

_MEMORY_BYTES = 4 << 30
_DESCRIPTOR_MAX_BYTES = 1 << 20
_VMDK_TYPES = ("monolithicsparse", "streamoptimized")
# All is well; leaked clusters, which only take room; a format that cannot be checked.
_CHECKED = (0, 3, 63)
_OUT_OPTIONS = {"raw": (), "qcow2": ("-o", "compat=1.1"), "vhdx": ("-o", "subformat=dynamic")}


def detect(path: str) -> str:
    """The format, in qemu-img's word; C(raw) for what carries no sign of any other."""
    head = read_head(path, 512)
    if head.startswith(b"QFI\xfb"):
        return "qcow2"
    if head.startswith((b"KDMV", b"COWD")) or head.lstrip().startswith(b"# Disk DescriptorFile"):
        return "vmdk"
    if head.startswith(b"vhdxfile"):
        return "vhdx"
    if head[0x40:0x44] == b"\x7f\x10\xda\xbe":
        return "vdi"
    if head.startswith(b"conectix") or _footer(path).startswith(b"conectix"):
        return "vpc"
    if head.startswith(b"QED\0"):
        raise FailedPrecondition("The image is in QEMU's old format QED, which is not taken. Convert it to qcow2 first.")
    return "raw"


def refuse_foreign_files(path: str, source_format: str, what: str) -> None:
    """FailedPrecondition for an image that is not whole in itself, or encrypted."""
    check = {"qcow2": _check_qcow2, "vmdk": _check_vmdk, "vdi": _check_vdi, "vpc": _check_vpc, "vhdx": _check_vhdx}.get(source_format)
    problem = check(path) if check else ""
    if problem:
        raise FailedPrecondition(
            f"{what} {problem}, so it is refused: it would make this host read what it names. Make it whole ('qemu-img convert') where you trust it."
        )


def _check_qcow2(path: str) -> str:
    head = read_head(path, 104)
    if len(head) < 72 or not head.startswith(b"QFI\xfb"):
        return "is no qcow2 image"
    version, backing = struct.unpack_from(">IQ", head, 4)
    if version not in (2, 3):
        return f"is a qcow2 image of version {version}"
    if backing:
        return "has a backing file"
    if struct.unpack_from(">I", head, 32)[0]:
        return "is encrypted"
    incompatible = struct.unpack_from(">Q", head, 72)[0] if version == 3 and len(head) >= 80 else 0
    if incompatible & 4:
        return "has an external data file"
    return ""


def _check_vmdk(path: str) -> str:
    head = read_head(path, 512)
    if not head.startswith(b"KDMV"):
        return "is a VMDK whose data are in other files (a descriptor, or an extent of ESX)"
    offset, length = struct.unpack_from("<QQ", head, 28)
    if not offset or length * 512 > _DESCRIPTOR_MAX_BYTES:
        return "is a VMDK without a description of its own"
    with os_errors(f"read {path}"), open(path, "rb") as stream:
        stream.seek(offset * 512)
        text = stream.read(length * 512).split(b"\0")[0].decode("latin-1")
    kind = re.search(r'(?im)^\s*createType\s*=\s*"([^"]*)"', text)
    if kind is None or kind[1].lower() not in _VMDK_TYPES:
        return f"is a VMDK of the type {kind[1] if kind else 'unknown'!r:.40}"
    parent = re.search(r"(?im)^\s*parentCID\s*=\s*(\S+)", text)
    if (parent and parent[1].lower() != "ffffffff") or re.search(r"(?im)^\s*parentFileNameHint", text):
        return "has a parent (parentFileNameHint)"
    extents = re.findall(r"(?im)^\s*(?:RW|RDONLY|NOACCESS)\s+\d+\s+(\w+)", text)
    if len(extents) > 1 or any(extent.upper() != "SPARSE" for extent in extents):
        return "has extents in other files"
    return ""


def _check_vdi(path: str) -> str:
    head = read_head(path, 0x200)
    kind = struct.unpack_from("<I", head, 0x4C)[0] if len(head) >= 0x200 else 0
    # The uuid of what it is linked to.
    if kind not in (1, 2) or any(head[0x1A8:0x1B8]):
        return "is a VDI that builds on another file"
    data, block, allocated = (struct.unpack_from("<I", head, offset)[0] for offset in (0x158, 0x178, 0x184))
    return "" if data + block * allocated <= os.path.getsize(path) else "is a VDI that ends too early"


def _check_vpc(path: str) -> str:
    head = read_head(path, 512)
    footer = head if head.startswith(b"conectix") else _footer(path)
    return "" if struct.unpack_from(">I", footer, 60)[0] in (2, 3) else "is a differencing VHD"


def _check_vhdx(path: str) -> str:
    # A parent locator, by its identifier in the metadata table (A8D35F2D-B30B-454D-ABF7-D3D84834AB0C), anywhere in the first MiB of metadata; qemu-img refuses
    # such images by itself, too.
    with os_errors(f"read {path}"), open(path, "rb") as stream:
        head = stream.read(4 << 20)
    return "has a parent" if bytes.fromhex("2d5fd3a80bb34d45abf7d3d84834ab0c") in head else ""


def _footer(path: str) -> bytes:
    with os_errors(f"read {path}"), open(path, "rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 512))
        return stream.read(512)


def virtual_size(path: str, source_format: str, work: Work, what: str) -> int:
    """What a guest would see, in bytes. FailedPrecondition when that is over max_size, or when qemu-img finds other files in it after all."""
    with os_errors(f"read {path}"), open(path, "rb") as source:
        os.fchmod(source.fileno(), 0o444)
        argv = ["qemu-img", "info", "--output=json", "-f", source_format, _as_file(source)]
        said = tools.run(argv, work, f"reading {what}", limits=_limits(), pass_fds=[source.fileno()])
    try:
        info = json.loads(said)
        size = int(info["virtual-size"])
    except (ValueError, KeyError, TypeError) as exc:
        raise FailedPrecondition(f"qemu-img says nothing sensible of {what}: {exc}.") from exc
    specific = (info.get("format-specific") or {}).get("data") or {}
    if info.get("backing-filename") or info.get("encrypted") or specific.get("data-file") or len(specific.get("extents") or []) > 1:
        raise FailedPrecondition(f"{what} reaches for other files ({said[:200]}), so it is refused.")
    work.refuse_over(size, f"The disk in {what}")
    _refuse_damaged(path, source_format, work, what)
    return size


def _refuse_damaged(path: str, source_format: str, work: Work, what: str) -> None:
    """What was cut off reads as zeros, which nobody would notice. qemu-img knows how to check most formats."""
    with os_errors(f"read {path}"), open(path, "rb") as source:
        argv = ["qemu-img", "check", "-f", source_format, _as_file(source)]
        try:
            tools.run(argv, work, f"checking {what}", limits=_limits(), pass_fds=[source.fileno()], ok=_CHECKED)
        except FailedPrecondition as exc:
            raise FailedPrecondition(f"{what} is damaged or cut off. Fetch it again, and give its checksum. {exc.msg}") from exc


def convert(source_path: str, source_format: str, target_path: str, target_format: str, work: Work, what: str) -> None:
    """Writes the new file C(target_path). Zeros become holes."""
    doing = f"converting {what} from {source_format} to {target_format}"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with os_errors(f"write {target_path}"), open(source_path, "rb") as source, os.fdopen(os.open(target_path, flags, 0o600), "r+b") as target:
        # Whoever runs qemu-img owns nothing here but what it is given; the directory is root's alone.
        os.fchmod(source.fileno(), 0o444)
        os.fchmod(target.fileno(), 0o666)
        options = _OUT_OPTIONS[target_format]
        argv = ["qemu-img", "convert", "-f", source_format, "-O", target_format, *options, _as_file(source), _as_file(target)]
        tools.run(argv, work, doing, limits=_limits(2 * work.max_size), pass_fds=[source.fileno(), target.fileno()])
        os.fchmod(target.fileno(), 0o600)


def _as_file(stream: t.BinaryIO) -> str:
    """A path that opens the file for whoever inherits it. What it leads to is a file of ours in a directory that is root's alone."""
    return f"/dev/fd/{stream.fileno()}"


def _limits(file: t.Optional[int] = None) -> tools.Limits:
    return tools.Limits(memory=_MEMORY_BYTES, user=tools.NOBODY, **({} if file is None else {"file": file}))
