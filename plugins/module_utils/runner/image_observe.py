# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at an image and its source, as far as that goes without fetching anything. Changes nothing."""

from __future__ import annotations

import hashlib
import os
import stat
import typing as t

from ..errors import NotFound, Unavailable
from ..host.files import os_errors
from ..host.images import ImageStore, digest_file
from ..host.imaging import oci, package
from ..host.imaging.checksums import look_up
from ..host.imaging.fetch import base_name, fetch_text
from ..host.imaging.http import ask, refusal
from ..host.imaging.work import Work
from ..model.image import Image
from ..model.image_request import ImageRequest
from ..planner.images import Observed, known_source_digest, recipe

FILE_SCHEME = "file://"


def observe(request: ImageRequest, store: ImageStore, work: Work) -> Observed:
    """NotFound where a source on the host is missing."""
    image = store.find(request.name)
    if request.state == "absent":
        return Observed(image=image, users=tuple(store.users(image)) if image else (), has_remains=store.has_remains(request.name))
    added = {path: digest_file(_there(path)) for path in request.additions.sources()}
    known = known_source_digest(request)
    is_known = image is not None and bool(known) and known == image.source.get("digest")
    # A source that is known by its digest need not be there any more.
    before = (image.source.get("fingerprint") or {}).get("source") if image and is_known else None
    fingerprint = {"source": before if is_known else source_fingerprint(request), "added": added}
    equal = store.by_recipe(recipe(request, known, added)) if known and not request.force else None
    return Observed(
        image=image,
        has_content=image is not None and store.has_content(image),
        has_published=image is None or store.has_published(image),
        fingerprint=fingerprint,
        newer=_newer(request, image, work) if image is not None and request.refresh else "",
        equal=equal,
    )


def source_fingerprint(request: ImageRequest) -> t.Any:
    """What tells one state of a source on the host from another, as JSON values; None for one elsewhere."""
    if request.source_type == "path":
        path = _there(request.source)
        return {"tree": tree_digest(path)} if os.path.isdir(path) else _file_fingerprint(path)
    if request.source.startswith("oci-archive:"):
        return _file_fingerprint(_there(oci.split(request.source.partition(":")[2])[0]))
    if request.source.startswith("oci:"):
        layout, tag = oci.split(request.source.partition(":")[2])
        return {"manifest": oci.read(_there(layout), tag, request.source).digest}
    return None


def _there(path: str) -> str:
    if not os.path.exists(path):
        raise NotFound(f"There is no {path} on the host. For a file of the controller use 'src'.", details={"path": path})
    return path


def _file_fingerprint(path: str) -> dict[str, int]:
    status = os.stat(path)
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "inode": status.st_ino}


def tree_digest(root: str) -> str:
    """Of all that C(ls) would show below a directory: names, modes, owners, sizes, times, what links lead to. Not of contents."""
    total = hashlib.sha256()
    with os_errors(f"read {root}"):
        for directory, names, files in os.walk(root):
            names.sort()
            for name in sorted([*names, *files]):
                path = f"{directory}/{name}"
                s = os.lstat(path)
                target = os.readlink(path) if stat.S_ISLNK(s.st_mode) else ""
                size = 0 if stat.S_ISDIR(s.st_mode) else s.st_size
                line = f"{path[len(root) :]}\0{s.st_mode}\0{s.st_uid}\0{s.st_gid}\0{size}\0{s.st_mtime_ns}\0{s.st_rdev}\0{target}\n"
                total.update(line.encode("utf-8", "surrogateescape"))
    return f"sha256:{total.hexdigest()}"


def listed_checksum(request: ImageRequest, work: Work) -> str:
    """C(sha256:HEX) or C(sha512:HEX) that the source must have: as given, or as the list says. Empty when nobody says."""
    url = request.checksum.url
    if not url:
        return request.checksum.digest
    if url.startswith(FILE_SCHEME):
        with os_errors(f"read {url}"), open(_there(url[len(FILE_SCHEME) :]), encoding="utf-8", errors="replace") as stream:
            text = stream.read(4 << 20)
    else:
        text = fetch_text(url, request.reach, work)
    name = base_name(request.source) if request.source_type == "url" else os.path.basename(request.source)
    return look_up(text, name, url)


def _newer(request: ImageRequest, image: Image, work: Work) -> str:
    """Why the source of a stored image is to be fetched again, or empty."""
    source = image.source
    if request.checksum.url:
        return "" if listed_checksum(request, work) in (source.get("digest"), source.get("checksum")) else "the list of checksums names another one"
    if known_source_digest(request):
        return ""
    if request.source_type == "package":
        name, version = package.resolve(request.source, work)
        return "" if {"package": name, "version": version} == (source.get("origin") or {}) else f"there is {name} {version}"
    if request.source.startswith("docker://"):
        digest = oci.remote_digest(request.source, request.reach, work)
        return "" if digest in (source.get("origin") or {}).values() else f"its registry has {digest}"
    if request.source_type == "url":
        return _is_newer_there(request, source.get("origin") or {}, work)
    return ""


def _is_newer_there(request: ImageRequest, recorded: t.Mapping[str, str], work: Work) -> str:
    try:
        with ask(request.source, request.reach, work, {}, method="HEAD") as answer:
            if answer.status == 405:
                return "its server cannot say whether it is another one"
            if answer.status != 200:
                raise refusal(request.source, answer)
            told = {key: value for key, value in answer.origin.items() if key in recorded}
    except OSError as exc:
        raise Unavailable(f"{request.source} could not be asked whether it is newer: {exc}. Run the task again, or leave out refresh.") from exc
    if not told:
        return "its server cannot say whether it is another one"
    return "" if all(recorded[key] == value for key, value in told.items()) else "its server has another one"
