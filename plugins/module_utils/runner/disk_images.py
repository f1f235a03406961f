# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cached images as what disks are cloned from. Standard library only."""

from __future__ import annotations

import typing as t

from ..errors import FailedPrecondition
from ..host.images import Image, ImageStore
from ..planner.disk_situation import Origin

if t.TYPE_CHECKING:
    from ..host.store import Store

# What of an image can be a disk: the whole of one, or a file system.
_DISKS = ("disk", "rootfs")


def image_origin(store: Store, name: str) -> Origin:
    """NotFound where there is no such image, FailedPrecondition where it is no disk."""
    image = ImageStore(store.layout).require(name)
    refuse_other_kinds(image)
    return Origin(image.path, file_format(image), image.size_bytes, image.digest)


def refuse_other_kinds(image: Image) -> None:
    if image.kind not in _DISKS:
        raise FailedPrecondition(f"Image {image.name!r} is a {image.kind}, and a disk is made from one of kind {' or '.join(_DISKS)}. Name another one.")


def file_format(image: Image) -> str:
    """As VMMs and qemu-img call it: a file system's image is a raw disk."""
    return image.format if image.format in ("qcow2", "vhdx") else "raw"


def hold(store: Store, name: str, user: str) -> None:
    """The image stays while C(user) needs it."""
    ImageStore(store.layout).hold(name, user)


def release(store: Store, user: str) -> None:
    """C(user) needs its images no longer."""
    ImageStore(store.layout).release(user)
