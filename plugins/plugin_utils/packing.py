# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory of the controller as one archive: the same content gives the same bytes, on whatever controller and whenever it was checked out."""

from __future__ import annotations

import os
import tarfile
import typing as t


def pack(directory: str, out: t.BinaryIO) -> None:
    """A tar archive of all that is below C(directory), links as links. Times are left out, so that a fresh checkout is no other image. What belongs to
    whoever runs this becomes root's; other owners are kept, by number. OSError as it comes."""
    me = os.geteuid()

    def prepared(info: tarfile.TarInfo) -> t.Optional[tarfile.TarInfo]:
        info.mtime = 0
        info.uname = info.gname = ""
        if info.uid == me:
            info.uid = info.gid = 0
        return info

    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        archive.add(directory, arcname=".", recursive=False, filter=prepared)
        for parent, directories, files in os.walk(directory, onerror=_raise):
            directories.sort()
            for name in sorted((*directories, *files)):
                path = os.path.join(parent, name)
                archive.add(path, arcname=os.path.join(".", os.path.relpath(path, directory)), recursive=False, filter=prepared)


def _raise(exc: OSError) -> None:
    """What cannot be listed is not left out silently."""
    raise exc


class Sink:
    """Where bytes go that are only counted and hashed. C(digest): such as C(hashlib.sha256())."""

    def __init__(self, digest: t.Any) -> None:
        self.digest = digest
        self.size = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        return len(data)
