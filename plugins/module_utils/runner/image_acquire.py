# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings what an image is made of into the task's own directory, and checks that it is what was asked for."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ..errors import FailedPrecondition, NotFound
from ..host.files import os_errors, remove
from ..host.images import digest_file
from ..host.imaging import oci, package
from ..host.imaging.fetch import NOTE, PART, base_name, fetch
from ..host.imaging.work import Work, copy_file
from ..model.image_request import ImageRequest
from .image_observe import listed_checksum, tree_digest

# ioctl(FICLONE): a copy that shares blocks until one of the two changes (btrfs, XFS).
_FICLONE = 0x40049409


@dataclasses.dataclass(frozen=True)
class Acquired:
    """C(path): a file of the task's own, or a directory of the host's (a tree). C(what): how to speak of it. C(origin): where it came from, to look there
    again. C(checked): the checksum that it was found to have as asked for, empty where none was."""

    path: str
    digest: str
    what: str
    origin: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    checked: str = ""
    container: t.Optional[oci.ContainerImage] = None
    package: t.Optional[package.KernelPackage] = None


def acquire(request: ImageRequest, work: Work) -> Acquired:
    if request.source_type == "container":
        return _container(request, work)
    if request.source_type == "package":
        return _package(request, work)
    if request.source_type == "url":
        expected = listed_checksum(request, work)
        fetched = fetch(request.source, request.reach, work, expected)
        return Acquired(fetched.path, fetched.digest, base_name(request.source) or request.source, fetched.origin, expected)
    if request.source_type == "src":
        return _uploaded(request, work)
    if os.path.isdir(request.source):
        return Acquired(request.source, tree_digest(request.source), request.source)
    return _on_host(request, work, request.source, request.source, listed_checksum(request, work))


def forget(work: Work) -> None:
    """What fetching has left: the file itself, once it was made into an image."""
    for name in (PART, NOTE):
        remove(work.path(name))


def _on_host(request: ImageRequest, work: Work, path: str, what: str, expected: str) -> Acquired:
    """A copy: what is checked must be what is used, whoever can write the file."""
    target = work.path("source")
    try:
        if not _clone(path, target):
            work.refuse_over(os.path.getsize(path), what)
            copy_file(path, target, work, f"copying {what}")
    except FileNotFoundError:
        raise NotFound(f"There is no file {path} on the host.", details={"path": path}) from None
    work.refuse_over(os.path.getsize(target), what)
    digest = digest_file(target, work.beat(f"reading {what}", os.path.getsize(target)))
    algorithm = expected.partition(":")[0]
    actual = digest if algorithm in ("", "sha256") else digest_file(target, work.beat(f"reading {what}", os.path.getsize(target)), algorithm)
    if expected and actual != expected:
        remove(target)
        raise FailedPrecondition(
            f"{what} has the checksum {actual}, not {expected} as asked for. Correct 'checksum', or look at where the file comes from.",
            details={"expected": expected, "actual": actual},
        )
    return Acquired(target, digest, what, checked=expected)


def _clone(path: str, target: str) -> bool:
    """False where the file system cannot, or it is another one."""
    import fcntl

    remove(target)
    with os_errors(f"read {path}"), open(path, "rb") as source, os_errors(f"write {target}"), open(target, "xb") as out:
        try:
            fcntl.ioctl(out.fileno(), _FICLONE, source.fileno())
            return True
        except OSError:
            # Whatever the reason is, a plain copy tells it better.
            pass
    remove(target)
    return False


def _uploaded(request: ImageRequest, work: Work) -> Acquired:
    upload = request.upload
    if upload is None or not upload.path:
        raise FailedPrecondition(f"{request.source} was not brought from the controller. Run the task through this collection's action plugin.")
    what = os.path.basename(request.source)
    acquired = _on_host(request, work, upload.path, what, request.checksum.digest or upload.digest)
    if acquired.digest != upload.digest:
        raise FailedPrecondition(f"{request.source} arrived as another file than it was on the controller. Run the task again.")
    return acquired


def _container(request: ImageRequest, work: Work) -> Acquired:
    layout, tag = oci.bring(request.source, request.reach, work)
    image = oci.read(layout, tag, request.source)
    origin = {"manifest": image.digest}
    if request.source.startswith("docker://"):
        # A registry may speak of several architectures by one digest, of which this is one.
        origin["index"] = oci.remote_digest(request.source, request.reach, work)
    return Acquired(layout, image.digest, request.source, origin, container=image)


def _package(request: ImageRequest, work: Work) -> Acquired:
    try:
        name, version = package.resolve(request.source, work)
    except NotFound:
        # A bare machine has no lists yet.
        package.update_lists(work, request.reach)
        name, version = package.resolve(request.source, work)
    archive = package.download(name, version, work, request.reach)
    digest = digest_file(archive)
    found = package.unpack(archive, name, version, work)
    return Acquired(found.kernel, digest, f"the package {name}", {"package": name, "version": version}, package=found)
