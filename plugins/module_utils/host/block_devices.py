# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a file or block device is, by whatever name, and on what it stands: a partition on its disk, a volume of device mapper or md on its devices, a loop
device on its file. Two paths lead to the same bytes where they are the same, or one stands on the other.

From sysfs, whose layout is a contract of the kernel's (Documentation/ABI, sysfs-block and sysfs-block-dm). Reads only, standard library only."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import typing as t

from .files import read_kernel

# Deeper than anything that is built.
_DEEPEST = 16


@dataclasses.dataclass(frozen=True)
class Standing:
    """C(identity): the same for all names of one file or device. C(paths): real paths by which it, and what it stands on, are known, itself first.
    C(below): identities of what it stands on, however deep."""

    identity: str
    paths: tuple[str, ...]
    below: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "below", self.below - {self.identity})


class BlockDevices:
    """C(sysfs): where that is mounted."""

    def __init__(self, sysfs: str = "/sys") -> None:
        self._sysfs = sysfs

    def standing(self, path: str) -> Standing:
        """Links are followed. What is not there yet is known by its name."""
        return self._standing(path, _DEEPEST)

    def _standing(self, path: str, depth: int) -> Standing:
        real = os.path.realpath(path)
        try:
            found = os.stat(real)
        except OSError:
            return Standing(real, (real,))
        if stat.S_ISBLK(found.st_mode):
            return self.device(found.st_rdev, real, depth)
        return Standing(f"file {found.st_dev} {found.st_ino}", (real,))

    def device(self, number: int, path: str, depth: int = _DEEPEST) -> Standing:
        """C(number): as C(st_rdev). C(path): a name of it."""
        identity = f"device {number}"
        # A device that has just gone has no such directory, and stands on nothing.
        entry = os.path.realpath(f"{self._sysfs}/dev/block/{os.major(number)}:{os.minor(number)}")
        if depth == 0:
            return Standing(identity, (path,))
        same = self._other_name(entry, depth - 1)
        if same is not None:
            return Standing(same.identity, (path, *same.paths), same.below | {identity})
        beneath = list(self._beneath(entry, depth - 1))
        paths = dict.fromkeys([path, *(name for one in beneath for name in one.paths)])
        return Standing(identity, tuple(paths), frozenset(what for one in beneath for what in (one.identity, *one.below)))

    def _other_name(self, entry: str, depth: int) -> t.Optional[Standing]:
        """What the device is all of: the file of a loop device, or the disk to which it is one way of several."""
        backing = _backing_file(entry)
        if backing is not None and all(_line(f"{entry}/loop/{key}") == "0" for key in ("offset", "sizelimit")):
            return self._standing(backing, depth)
        for name in _names(f"{entry}/holders"):
            if _line(f"{entry}/holders/{name}/dm/uuid").startswith("mpath-"):
                # Its own ways to the disk lead back here, so no further.
                return self._named(f"{entry}/holders/{name}", 0)
        return None

    def _beneath(self, entry: str, depth: int) -> t.Iterator[Standing]:
        found = [self._named(os.path.dirname(entry), depth)] if os.path.exists(f"{entry}/partition") else []
        found += [self._named(f"{entry}/slaves/{name}", depth) for name in _names(f"{entry}/slaves")]
        yield from (one for one in found if one is not None)
        backing = _backing_file(entry)
        if backing is not None:
            yield self._standing(backing, depth)

    def _named(self, entry: str, depth: int) -> t.Optional[Standing]:
        """C(entry): a directory of sysfs, or a link to it."""
        major, _colon, minor = _line(f"{entry}/dev").partition(":")
        if not (major.isdigit() and minor.isdigit()):
            return None
        name = os.path.basename(os.path.realpath(entry)).replace("!", "/")
        return self.device(os.makedev(int(major), int(minor)), f"/dev/{name}", depth)


def _backing_file(entry: str) -> t.Optional[str]:
    """Of a loop device. Nobody can name a file that has no name any more."""
    said = _line(f"{entry}/loop/backing_file")
    return said if said.startswith("/") and not said.endswith(" (deleted)") else None


def _line(file: str) -> str:
    """Of a file of sysfs; empty where there is none."""
    with contextlib.suppress(OSError):
        return read_kernel(file).rstrip("\n")
    return ""


def _names(directory: str) -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(os.listdir(directory))
    return []
