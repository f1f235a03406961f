# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes of what was brought what is to be stored, by kind: a table, one function each."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ..errors import FailedPrecondition
from ..host.files import os_errors, remove
from ..host.imaging import archive, disk, kernel, kernel_config, oci, rootfs
from ..host.imaging.unpack import compression, read_head, unpack
from ..host.imaging.work import Work
from ..model.image_request import ImageRequest
from ..model.kernel_needs import ROOT_NEEDS
from .image_acquire import Acquired

_SECTOR = 512
_WEB_PAGES = (b"<!doctype", b"<html", b"<?xml")
_BUILT = "built"


@dataclasses.dataclass(frozen=True)
class Built:
    """C(path): a file of the task's own. C(size_bytes): as a guest sees it. C(original): a kernel as it came, where that is another file."""

    path: str
    format: str
    size_bytes: int
    facts: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    original: str = ""


def build(request: ImageRequest, acquired: Acquired, work: Work) -> Built:
    return _BUILDERS[request.kind](request, acquired, work)


def _unpacked(request: ImageRequest, acquired: Acquired, work: Work) -> tuple[str, str]:
    """The file without compression, and what it was compressed with (empty: with nothing)."""
    how = compression(read_head(acquired.path)) if request.unpack else ""
    if not how:
        return acquired.path, ""
    target = work.path("unpacked")
    unpack(acquired.path, target, how, work, acquired.what)
    return target, how


def _disk(request: ImageRequest, acquired: Acquired, work: Work) -> Built:
    path, how = _unpacked(request, acquired, work)
    found = request.source_format or disk.detect(path)
    if found == "raw":
        _refuse_page(path, acquired.what)
    disk.refuse_foreign_files(path, found, acquired.what)
    facts = {"source_format": found, **({"compression": how} if how else {})}
    if found == "raw" == request.format:
        size = _whole_sectors(path)
        work.refuse_over(size, acquired.what)
        return Built(path, "raw", size, facts)
    size = disk.virtual_size(path, found, work, acquired.what)
    if found == request.format:
        return Built(path, found, size, facts)
    target = work.path(_BUILT)
    remove(target)
    disk.convert(path, found, target, request.format, work, acquired.what)
    if path != acquired.path:
        remove(path)
    return Built(target, request.format, size, facts)


def _refuse_page(path: str, what: str) -> None:
    head = read_head(path, 512)
    if head.lstrip().lower().startswith(_WEB_PAGES):
        raise FailedPrecondition(f"{what} is a web page, not an image. Give the URL of the file itself.")
    if len(head) < _SECTOR:
        raise FailedPrecondition(f"{what} has {len(head)} bytes, too few for a disk.")


def _whole_sectors(path: str) -> int:
    """A disk's size is a multiple of 512; VMMs refuse or cut what is not."""
    size = os.path.getsize(path)
    whole = -(-size // _SECTOR) * _SECTOR
    if whole != size:
        with os_errors(f"write {path}"):
            os.truncate(path, whole)
    return whole


def _rootfs(request: ImageRequest, acquired: Acquired, work: Work) -> Built:
    found = _file_system(acquired.path) if os.path.isfile(acquired.path) else ""
    path, how = acquired.path, ""
    if not found and os.path.isfile(path):
        path, how = _maybe_unpacked(request, acquired, work)
        found = _file_system(path)
    if found:
        return _ready_made(request, path, found, how, acquired.what)
    made = rootfs.make(_recipe(request, acquired), _BUILT, work)
    facts: dict[str, t.Any] = {"filesystem": request.filesystem, **{key: made[key] for key in ("entries", "content_bytes", "unprivileged")}}
    if made["skipped"]:
        facts["skipped_devices"] = made["skipped"]
    config = acquired.container.config if acquired.container else {}
    if config:
        facts["container"] = {key: config[key] for key in ("Entrypoint", "Cmd", "WorkingDir", "User", "ExposedPorts") if config.get(key)}
    return Built(work.path(_BUILT), "raw", made["size"], facts)


def _recipe(request: ImageRequest, acquired: Acquired) -> rootfs.Recipe:
    recipe = rootfs.Recipe(acquired.what, request.filesystem, request.size, request.label, acquired.digest, request.additions)
    if acquired.container is not None:
        oci.check(acquired.container, acquired.what)
        return dataclasses.replace(recipe, layers=acquired.container.layers, config=acquired.container.config)
    if os.path.isdir(acquired.path):
        return dataclasses.replace(recipe, directory=acquired.path)
    return dataclasses.replace(recipe, archive=acquired.path)


def _maybe_unpacked(request: ImageRequest, acquired: Acquired, work: Work) -> tuple[str, str]:
    """A compressed file system is unpacked; a compressed tar archive is read as it is."""
    how = compression(read_head(acquired.path))
    if not how or not request.unpack:
        return acquired.path, ""
    if archive.is_tar_head(archive.beginning(acquired.path, how, work, acquired.what)):
        return acquired.path, how
    return _unpacked(request, acquired, work)


def _file_system(path: str) -> str:
    head = read_head(path, 1024 + 64)
    if head[1024 + 56 : 1024 + 58] == b"\x53\xef":
        return "ext4"
    return "squashfs" if head.startswith(b"hsqs") else ""


def _ready_made(request: ImageRequest, path: str, found: str, how: str, what: str) -> Built:
    """A file system image is stored as it is: nothing can be put in without mounting it."""
    added = request.additions
    if request.size or request.label or added.init or added.files or added.hostname or added.ssh_keys or request.filesystem != found:
        raise FailedPrecondition(
            f"{what} is a file system already ({found}), which is stored as it is: leave out size, label, init, files, hostname and ssh_keys, and say "
            f"filesystem: {found}; or give a tarball, a directory or a container image."
        )
    return Built(path, "raw", _whole_sectors(path), {"filesystem": found, **({"compression": how} if how else {})})


def _kernel(request: ImageRequest, acquired: Acquired, work: Work) -> Built:
    if request.format == "original":
        found = kernel.describe(acquired.path, acquired.what)
        target, original = acquired.path, ""
    else:
        target, original = work.path(_BUILT), acquired.path
        remove(target)
        found = kernel.extract(acquired.path, target, work, acquired.what)
    facts: dict[str, t.Any] = {"version": found.version, "format": found.format, "architecture": found.architecture, "pvh": found.pvh}
    if found.packed:
        facts["packed"] = found.packed
    text = _config(request, acquired, target, found.version)
    if text:
        facts["needs"] = kernel_config.needs(text)
        facts["needs_initrd_for"] = sorted(name for name in ROOT_NEEDS if facts["needs"][name] != "built_in")
    # Where nothing was taken off they are the same.
    return Built(target, found.format, os.path.getsize(target), facts, original if found.packed else "")


def _config(request: ImageRequest, acquired: Acquired, path: str, version: str) -> str:
    """The package's, the one in the kernel, or the one that lies beside it on the host."""
    if acquired.package is not None and acquired.package.config:
        return kernel_config.read(acquired.package.config)
    embedded = kernel_config.embedded(path)
    return embedded or (kernel_config.beside(request.source, version) if request.source_type == "path" else "")


def _plain(request: ImageRequest, acquired: Acquired, work: Work) -> Built:
    path, how = _unpacked(request, acquired, work)
    head = read_head(path, 512)
    if head.lstrip().lower().startswith(_WEB_PAGES) or not head:
        raise FailedPrecondition(f"{acquired.what} is {'a web page' if head else 'empty'}, no {request.kind}. Give the URL of the file itself.")
    return Built(path, "raw", os.path.getsize(path), {"compression": how} if how else {})


_BUILDERS: t.Mapping[str, t.Callable[[ImageRequest, Acquired, Work], Built]] = {
    "disk": _disk,
    "rootfs": _rootfs,
    "kernel": _kernel,
    "initrd": _plain,
    "firmware": _plain,
}
