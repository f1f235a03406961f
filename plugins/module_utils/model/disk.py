# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task asks for one disk: the options of C(vmcp_disk), validated all at once. Standard library only, pure."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ..errors import Violation
from .options import OptionError, choice, read_name, record, seconds
from .readers import read_flag, read_host_path, read_text
from .units import format_size, parse_disk_size
from .walk import nearest
from .words import APPLY, DISK_FORMATS, DISK_SOURCES, DISRUPTIONS, FILESYSTEM_LEAST_BYTES, FILESYSTEMS, SHUTDOWN_GRACE_S

SIZE_MAX = 64 << 40
LABEL_MAX = {"ext4": 16, "xfs": 12, "btrfs": 255, "vfat": 11, "swap": 15}
# vfat has a serial number of 32 bits in place of a UUID.
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_VOLUME_ID = re.compile(r"[0-9A-F]{4}-[0-9A-F]{4}")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_LVM_NAME = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9_.+-]{0,126}")
# File systems that their own tools fill from a directory, without mounting them.
FILLED = ("ext4", "btrfs", "vfat")


@dataclasses.dataclass(frozen=True)
class FileSystem:
    """C(label), C(uuid) None: not asked for (a new one gets a UUID by chance). C(grow): it follows when the disk grows."""

    type: str
    label: t.Optional[str] = None
    uuid: t.Optional[str] = None
    grow: bool = False


@dataclasses.dataclass(frozen=True)
class Source:
    """What a disk is cloned from. C(kind): one of C(DISK_SOURCES); C(name): of the image or disk, or the path; C(format): of a file at a path."""

    kind: str
    name: str
    format: t.Optional[str] = None


@dataclasses.dataclass(frozen=True)
class DiskRequest:
    """None: not given. C(size_bytes): virtual size. C(content): directory with which a new file system is filled."""

    name: str
    state: str = "present"
    size_bytes: t.Optional[int] = None
    format: t.Optional[str] = None
    preallocate: t.Optional[bool] = None
    volume_group: t.Optional[str] = None
    thin_pool: t.Optional[str] = None
    filesystem: t.Optional[FileSystem] = None
    content: t.Optional[str] = None
    source: t.Optional[Source] = None
    force: bool = False
    apply: str = "now"
    allow_disruption: str = "none"
    shutdown_timeout: int = SHUTDOWN_GRACE_S
    lock_timeout: int = 60


def read_disk_size(value: t.Any) -> int:
    size = parse_disk_size(value)
    if not 0 < size <= SIZE_MAX:
        raise ValueError(f"must be more than 0 and at most {format_size(SIZE_MAX)}")
    return size


def _lvm_name(value: t.Any) -> str:
    text = read_text(value)
    if not _LVM_NAME.fullmatch(text) or text in (".", ".."):
        raise ValueError("must be a name of LVM's: letters, digits, '_', '.', '+' and '-', not starting with '-' or '.'")
    return text


def read_filesystem(value: t.Any) -> FileSystem:
    """A type by its name, or C({type, label, uuid, grow})."""
    body = {"type": value} if isinstance(value, str) else value
    given = record({"type": choice(FILESYSTEMS), "label": read_text, "uuid": read_text, "grow": read_flag})(body)
    kind = given.get("type")
    if kind is None:
        raise OptionError([(".type", f"is required: one of {', '.join(FILESYSTEMS)}.")])
    found = []
    label, uuid = given.get("label"), given.get("uuid")
    if label is not None and (not _LABEL.fullmatch(label) or len(label) > LABEL_MAX[kind]):
        found.append((".label", f"must be 1 to {LABEL_MAX[kind]} letters, digits, '_', '.', '+' or '-' for {kind}, starting with a letter or digit."))
    if uuid is not None:
        uuid = uuid.upper() if kind == "vfat" else uuid.lower()
        if not (_VOLUME_ID if kind == "vfat" else _UUID).fullmatch(uuid):
            shape = "a volume id as in 12AB-34CD" if kind == "vfat" else "a UUID as in 0c5b3b4e-6a4f-4d0a-9a67-3f5c1f0b7a11"
            found.append((".uuid", f"must be {shape} for {kind}."))
    if found:
        raise OptionError(found)
    return FileSystem(kind, label, uuid, bool(given.get("grow")))


def _source(value: t.Any) -> Source:
    given = record({"image": read_text, "disk": read_name, "path": read_host_path, "format": choice(("raw", "qcow2"))})(value)
    named = [kind for kind in DISK_SOURCES if given.get(kind) is not None]
    if len(named) != 1:
        raise ValueError(f"must have exactly one of {', '.join(DISK_SOURCES)}")
    kind = named[0]
    if given.get("format") is not None and kind != "path":
        raise OptionError([(".format", "goes with path alone: the format of images and disks is known.")])
    return Source(kind, given[kind], (given.get("format") or "raw") if kind == "path" else None)


_READERS: dict[str, t.Callable[[t.Any], t.Any]] = {
    "name": read_name,
    "state": choice(("present", "absent")),
    "size": read_disk_size,
    "format": choice(DISK_FORMATS),
    "preallocate": read_flag,
    "volume_group": _lvm_name,
    "thin_pool": _lvm_name,
    "filesystem": read_filesystem,
    "content": read_host_path,
    "source": _source,
    "force": read_flag,
    "apply": choice(APPLY),
    "allow_disruption": choice(DISRUPTIONS),
    "shutdown_timeout": seconds,
    "lock_timeout": seconds,
    "state_dir": read_host_path,
    "run_dir": read_host_path,
}


def validate_disk(params: t.Mapping[str, t.Any]) -> tuple[t.Optional[DiskRequest], list[Violation]]:
    """The request, or None and all violations. A null counts as not given."""
    found: list[Violation] = []
    values: dict[str, t.Any] = {}
    for key, value in params.items():
        if key not in _READERS:
            found.append(Violation(str(key), f"is no option.{nearest(str(key), _READERS)}"))
        elif value is not None:
            try:
                values[key] = _READERS[key](value)
            except OptionError as exc:
                found += [Violation(f"{key}{where}", text) for where, text in exc.found]
            except ValueError as exc:
                found.append(Violation(key, f"{str(exc).rstrip('.')}."))
    if params.get("name") is None:
        found.append(Violation("name", "is required."))
    found += _together(values)
    if found:
        return None, found
    values.pop("state_dir", None), values.pop("run_dir", None)
    if "size" in values:
        values["size_bytes"] = values.pop("size")
    return DiskRequest(**values), []


def _together(values: t.Mapping[str, t.Any]) -> t.Iterator[Violation]:
    """What does not go together, whatever is on the host."""
    lvm = values.get("format") == "lvm"
    if lvm and not (values.get("volume_group") and values.get("thin_pool")) and values.get("state") != "absent":
        yield Violation("format", "lvm needs volume_group and thin_pool: the disk is a thin volume in that pool.")
    for key in ("volume_group", "thin_pool"):
        if key in values and not lvm:
            yield Violation(key, "goes with format: lvm. Leave it out, or give that.")
    if values.get("preallocate") and values.get("format") in ("qcow2", "lvm"):
        yield Violation("preallocate", f"goes with format: raw, not with {values['format']}. Leave it out.")
    filesystem: t.Optional[FileSystem] = values.get("filesystem")
    size = values.get("size")
    if filesystem and size is not None and size < FILESYSTEM_LEAST_BYTES[filesystem.type]:
        yield Violation("size", f"is {format_size(size)}; {filesystem.type} takes at least {format_size(FILESYSTEM_LEAST_BYTES[filesystem.type])}.")
    if values.get("source") and (values.get("content") or (filesystem and (filesystem.label or filesystem.uuid))):
        yield Violation("source", "brings the file system with its label and its content. Leave content, label and uuid out, or leave source out.")
    if values.get("content") and not filesystem:
        yield Violation("content", "needs filesystem: what is to be filled has to be made first.")
    elif filesystem and values.get("content") and filesystem.type not in FILLED:
        yield Violation("content", f"cannot be put into {filesystem.type} without mounting it; {', '.join(FILLED)} can be filled. Choose one of them.")
