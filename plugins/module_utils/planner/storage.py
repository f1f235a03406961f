# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the entries of a VM's storage stand for that are ours to make: clones of images, empty disks, disks of their own. Pure."""

from __future__ import annotations

import dataclasses
import typing as t

from ..capabilities.catalogue import overlays
from ..errors import Violation
from ..model.definition import Definition
from ..model.units import format_size

Chosen = dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class ImageFact:
    """An image as found: C(format) is that of its file (C(raw), C(qcow2), C(vhdx)), C(size_bytes) its virtual size."""

    digest: str
    format: str
    size_bytes: int
    path: str


@dataclasses.dataclass(frozen=True)
class DiskFact:
    """A disk of its own as found. C(users): other VMs that name it, each with whether it only reads."""

    path: str
    format: str
    backing: t.Optional[str] = None
    users: tuple[tuple[str, bool], ...] = ()


@dataclasses.dataclass(frozen=True)
class FileFact:
    """A file to which a C(path) leads, and which is ours or other VMs'. C(kind): C(disk) or, of the user's own, C(path) (with C(users) as for C(DiskFact);
    C(name) is the path by which that one has it, or a part of it), C(image), or C(vm), whose disk it is."""

    kind: str
    name: str
    users: tuple[tuple[str, bool], ...] = ()


@dataclasses.dataclass(frozen=True)
class Shelf:
    """What there is to make disks from, by name; a text says why there is none. C(sizes): virtual size of what this VM has already, by id of the entry; None:
    its file is gone. C(data): the VM's data directory. C(shares): its file system can share extents. C(can_overlay): qemu-img is there.
    C(files): by path, those that entries name and that are ours, or that another VM names too."""

    images: t.Mapping[str, t.Union[ImageFact, str]] = dataclasses.field(default_factory=dict)
    disks: t.Mapping[str, t.Union[DiskFact, str]] = dataclasses.field(default_factory=dict)
    files: t.Mapping[str, FileFact] = dataclasses.field(default_factory=dict)
    sizes: t.Mapping[str, t.Optional[int]] = dataclasses.field(default_factory=dict)
    data: str = ""
    shares: bool = False
    can_overlay: bool = False


@dataclasses.dataclass
class Settled:
    """C(chosen): see C(model.resolving). C(grow): ids of disks that are smaller than they should be."""

    chosen: dict[str, Chosen] = dataclasses.field(default_factory=dict)
    grow: list[str] = dataclasses.field(default_factory=list)
    violations: list[Violation] = dataclasses.field(default_factory=list)
    lacks: list[Violation] = dataclasses.field(default_factory=list)
    notices: list[str] = dataclasses.field(default_factory=list)


def settle(tree: t.Mapping[str, t.Any], stored: t.Optional[Definition], backend: str, version: t.Optional[str], shelf: Shelf, *, replace: bool) -> Settled:
    """C(tree): the whole configuration, with ids. C(replace): the task allows that data are replaced."""
    found = Settled()
    had = (stored.generated.get("disks") or {}) if stored else {}
    for index, entry in enumerate(tree.get("storage") or []):
        field, entry_id = f"config.storage[{index}]", str(entry.get("id"))
        old = had.get(entry_id)
        if entry.get("image") is not None:
            chosen = _clone(found, field, entry, old, shelf, overlay=not shelf.shares and shelf.can_overlay and overlays(backend, version), replace=replace)
        elif entry.get("disk") is not None:
            chosen = _disk(found, field, entry, shelf)
        elif entry.get("size") is not None:
            chosen = _empty(found, field, entry, old if old and "image" not in old and "file" in old else None, shelf)
        else:
            _path(found, field, entry, shelf)
            continue
        if chosen is not None:
            found.chosen[entry_id] = chosen
    return found


def _clone(
    found: Settled, field: str, entry: t.Mapping[str, t.Any], old: t.Optional[Chosen], shelf: Shelf, *, overlay: bool, replace: bool
) -> t.Optional[Chosen]:
    name = str(entry["image"])
    image = shelf.images.get(name, f"there is no image {name!r} on this host. Make it with unkey.vmcp.vmcp_image.")
    if old is not None and old.get("image") == name:
        gone = shelf.sizes.get(str(entry["id"]), 0) is None
        newer = isinstance(image, ImageFact) and image.digest != old.get("digest")
        if not (replace and (gone or newer)):
            _about_old(found, field, entry, old, shelf, gone=gone, newer=newer)
            return dict(old)
    if isinstance(image, str):
        found.lacks.append(Violation(f"{field}.image", image))
        return None
    size = entry.get("size")
    if size is not None and size < image.size_bytes:
        least = format_size(image.size_bytes)
        found.violations.append(
            Violation(f"{field}.size", f"is {format_size(size)}, less than image {name} has ({least}). Give that or more, or leave it out.")
        )
    format_ = "qcow2" if overlay else "raw"
    chosen: Chosen = {"image": name, "digest": image.digest, "format": format_, "file": f"{entry['id']}-{image.digest[-12:]}.{format_}"}
    if overlay:
        chosen.update(backing=image.path, backing_format=image.format)
    former = [*(old or {}).get("former", []), *([old["file"]] if old and "file" in old else [])]
    if [file for file in former if file != chosen["file"]]:
        chosen["former"] = [file for file in former if file != chosen["file"]]
    return chosen


def _about_old(found: Settled, field: str, entry: t.Mapping[str, t.Any], old: Chosen, shelf: Shelf, *, gone: bool, newer: bool) -> None:
    name = entry["image"]
    if gone:
        what = f"the clone of image {name} ({old['file']} in {shelf.data}) is gone. Restore it, or set allow_disruption: replace_data to clone the image anew."
        found.lacks.append(Violation(f"{field}.image", what))
        return
    if newer:
        found.notices.append(
            f"{field}.image: image {name} has changed since this VM's clone was made of it. Set allow_disruption: replace_data to clone it anew."
        )
    _size(found, field, entry, shelf)


def _size(found: Settled, field: str, entry: t.Mapping[str, t.Any], shelf: Shelf) -> None:
    wanted, has = entry.get("size"), shelf.sizes.get(str(entry["id"]))
    if wanted is None or has is None:
        return
    if wanted > has:
        found.grow.append(str(entry["id"]))
    elif wanted < has:
        found.violations.append(
            Violation(f"{field}.size", f"is {format_size(wanted)}, less than the disk has ({format_size(has)}). A VM's disk is not shrunk: give that or more.")
        )


def _empty(found: Settled, field: str, entry: t.Mapping[str, t.Any], old: t.Optional[Chosen], shelf: Shelf) -> Chosen:
    filesystem = entry.get("filesystem")
    if old is None:
        return {"file": f"{entry['id']}.raw", "format": "raw", "filesystem": filesystem}
    if old.get("filesystem") != filesystem:
        was = old.get("filesystem") or "none"
        found.violations.append(
            Violation(f"{field}.filesystem", f"is {filesystem}, and the disk was made with {was}. Nothing makes it anew: give another entry, with another id.")
        )
    _size(found, field, entry, shelf)
    return dict(old)


def _disk(found: Settled, field: str, entry: t.Mapping[str, t.Any], shelf: Shelf) -> t.Optional[Chosen]:
    name = str(entry["disk"])
    disk = shelf.disks.get(name, f"there is no disk {name!r} on this host. Make it with unkey.vmcp.vmcp_disk.")
    if isinstance(disk, str):
        found.lacks.append(Violation(f"{field}.disk", disk))
        return None
    _refuse_second(found, f"{field}.disk", name, disk.users, entry)
    chosen = {"disk": name, "path": disk.path, "format": disk.format}
    return {**chosen, "backing": disk.backing} if disk.backing else chosen


def _refuse_second(found: Settled, field: str, shown: str, users: t.Iterable[tuple[str, bool]], entry: t.Mapping[str, t.Any]) -> None:
    others = [vm for vm, read_only in users if not (read_only and entry.get("read_only"))]
    if others:
        found.violations.append(
            Violation(
                field,
                f"{shown} is used by VM {others[0]}, and a disk is written to by one VM at a time. Take it out of the storage of {others[0]} first, "
                "or set read_only: true in both.",
            )
        )


def _path(found: Settled, field: str, entry: t.Mapping[str, t.Any], shelf: Shelf) -> None:
    """A file of the user's, as a rule, which no second VM writes to; by this way, too, one of ours is nobody else's."""
    path = entry.get("path")
    file = shelf.files.get(str(path)) if path is not None else None
    if file is None:
        return
    if file.kind == "path":
        shown = str(path) if file.name in ("", path) else f"{path}, as {file.name},"
        _refuse_second(found, f"{field}.path", shown, file.users, entry)
    elif file.kind == "disk":
        _refuse_second(found, f"{field}.path", f"{path}, which is disk {file.name},", file.users, entry)
    elif file.kind == "vm":
        text = f"{path} is a disk that comes and goes with VM {file.name}. Give this VM one of its own: an image, a size, or a disk of vmcp_disk."
        found.violations.append(Violation(f"{field}.path", text))
    elif not entry.get("read_only"):
        text = f"{path} is the content of an image, which others are made from. Give 'image' with the image's name for a clone of it, or set read_only: true."
        found.violations.append(Violation(f"{field}.path", text))
