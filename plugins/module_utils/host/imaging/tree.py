# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tree of files that is to become a root file system, filled from archives that nobody vouches for. Standard library only.

Archives hold links, and later entries go through them (C(bin -> usr/bin), then C(bin/sh)). Every path is therefore resolved here, component by
component, as the guest would see it: an absolute link and C(..) stay inside, a loop is refused. The tree stands in a directory that is root's alone, so
nobody changes it meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tarfile
import typing as t

from ...errors import FailedPrecondition, Internal
from ..files import os_errors, remove
from .work import CHUNK_BYTES, SparseWriter, Work

_LINKS_MAX = 40
_ENTRIES_MAX = 4_000_000
_NAME_MAX, _PATH_MAX = 255, 4096
# Attributes that mean something in a guest; others (selinux, trusted) are the packing host's own.
_XATTRS = ("security.capability", "user.")
_PAX_XATTR = "SCHILY.xattr."


class Node(t.NamedTuple):
    """A device that could not be made here, and can be in a file system that is made of the tree. C(kind): C(c) or C(b)."""

    kind: str
    major: int
    minor: int
    mode: int
    uid: int
    gid: int


class Tree:
    """C(nodes): devices, by where they would be, that could not be made here; they take root of the host. C(skipped): those that cannot be anywhere."""

    def __init__(self, root: str, work: Work, what: str) -> None:
        self.root = root
        self.skipped: list[str] = []
        self.nodes: dict[str, Node] = {}
        self.entries = 0
        self.bytes = 0
        self._work = work
        self._what = what
        self._times: list[tuple[str, float]] = []
        if not os.path.isdir(root):
            with os_errors(f"make {root}"):
                os.mkdir(root, 0o755)

    # --- paths ----------------------------------------------------------------------------------------
    def parts(self, name: str) -> list[str]:
        """The components of an archive's name. FailedPrecondition where it would leave the tree, or cannot be a name."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise FailedPrecondition(f"{self._what} has an entry that would leave its directory ({name!r:.200}), so it is refused.")
        if len(name.encode("utf-8", "surrogateescape")) > _PATH_MAX or any(len(part.encode("utf-8", "surrogateescape")) > _NAME_MAX for part in parts):
            raise FailedPrecondition(f"{self._what} has an entry whose name is too long ({name!r:.100}…), so it is refused.")
        if any("\0" in part for part in parts):
            raise FailedPrecondition(f"{self._what} has an entry with a NUL in its name, so it is refused.")
        return parts

    def resolve(self, parts: t.Sequence[str], *, make: bool = False) -> str:
        """The path on the host of a directory as the guest names it, links followed inside the tree. C(make): missing ones are made, as root's 0755.

        NotADirectoryError or FileNotFoundError where it is none."""
        pending, at, links = list(parts), "", 0
        while pending:
            part = pending.pop(0)
            if part in ("", "."):
                continue
            if part == "..":
                at = at.rpartition("/")[0]
                continue
            path = f"{self.root}{at}/{part}"
            try:
                mode = os.lstat(path).st_mode
            except FileNotFoundError:
                if not make:
                    raise
                os.mkdir(path, 0o755)
                mode = stat.S_IFDIR
            if stat.S_ISLNK(mode):
                links += 1
                if links > _LINKS_MAX:
                    raise FailedPrecondition(f"{self._what} has links that lead in circles ({'/'.join(parts)!r:.200}), so it is refused.")
                target = os.readlink(path)
                if target.startswith("/"):
                    at = ""
                pending[:0] = target.split("/")
            elif stat.S_ISDIR(mode):
                at = f"{at}/{part}"
            else:
                raise NotADirectoryError(20, "Not a directory", path)
        return self.root + at

    def place(self, name: str) -> str:
        """The path on the host where an entry of this name goes; its directory is made. What is there already stays."""
        parts = self.parts(name)
        if not parts:
            return self.root
        return f"{self.resolve(parts[:-1], make=True)}/{parts[-1]}"

    def _free(self, path: str, *, keep_directory: bool) -> None:
        """Makes room for an entry: a later one replaces an earlier one, a directory stays for a directory."""
        self.nodes.pop(path, None)
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISDIR(mode):
            if not keep_directory and path != self.root:
                self.forget_nodes(path)
                shutil.rmtree(path)
        else:
            os.unlink(path)

    # --- filling --------------------------------------------------------------------------------------
    def count(self, size: int) -> None:
        self.entries += 1
        self.bytes += size
        self._work.refuse_over(self.bytes, f"{self._what}, unpacked,")
        if self.entries > _ENTRIES_MAX:
            raise FailedPrecondition(f"{self._what} has more than {_ENTRIES_MAX} entries, so it is refused.")
        if self.entries % 512 == 0:
            self._work.beat(f"unpacking {self._what}")(self.bytes)

    def add(self, member: tarfile.TarInfo, archive: tarfile.TarFile) -> str:
        """One entry of an archive. Its path on the host."""
        if member.size < 0:
            raise FailedPrecondition(f"{self._what} has an entry of less than nothing ({member.name!r:.200}), so it is refused.")
        self.count(member.size if member.isreg() else 0)
        with os_errors(f"unpack {member.name!r:.200} of {self._what}"):
            try:
                path = self.place(member.name)
                self._make(member, archive, path)
            except (FileNotFoundError, NotADirectoryError, UnicodeError) as exc:
                raise FailedPrecondition(f"{self._what} has an entry that does not fit what came before it ({member.name!r:.200}: {exc}).") from exc
        return path

    def _make(self, member: tarfile.TarInfo, archive: tarfile.TarFile, path: str) -> None:
        if path == self.root and not member.isdir():
            raise FailedPrecondition(f"{self._what} has an entry without a name, so it is refused.")
        if member.islnk():
            self._hard_link(member, path)
            return
        self._free(path, keep_directory=member.isdir())
        if member.isdir():
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, 0o700)
            self._times.append((path, float(member.mtime)))
        elif member.issym():
            if not member.linkname or "\0" in member.linkname or len(os.fsencode(member.linkname)) >= _PATH_MAX:
                raise FailedPrecondition(f"{self._what} has a link that leads nowhere ({member.name!r:.200}), so it is refused.")
            os.symlink(member.linkname, path)
        elif member.isreg():
            self._file(archive.extractfile(member), path, member.size)
        elif not self._special(member, path):
            return
        self._own(member, path)

    def _file(self, stream: t.Optional[t.IO[bytes]], path: str, size: int) -> None:
        if stream is None:
            raise Internal(f"An entry of {self._what} that is a regular file has no content.")
        with SparseWriter(path, self._work, self._what) as out:
            while chunk := stream.read(CHUNK_BYTES):
                out.write(chunk)
        if out.size != size:
            raise FailedPrecondition(f"{self._what} ends too early. Fetch it again, and give its checksum.")

    def _hard_link(self, member: tarfile.TarInfo, path: str) -> None:
        parts = self.parts(member.linkname)
        source = f"{self.resolve(parts[:-1])}/{parts[-1]}" if parts else self.root
        if not stat.S_ISREG(os.lstat(source).st_mode) and not stat.S_ISLNK(os.lstat(source).st_mode):
            raise FailedPrecondition(f"{self._what} has a hard link to what is no file ({member.name!r:.200}), so it is refused.")
        if source != path:
            self._free(path, keep_directory=False)
            os.link(source, path, follow_symlinks=False)

    def _special(self, member: tarfile.TarInfo, path: str) -> bool:
        if member.isfifo():
            os.mkfifo(path, 0o600)
            return True
        if member.ischr() or member.isblk():
            kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
            try:
                os.mknod(path, kind | 0o600, os.makedev(member.devmajor, member.devminor))
            except PermissionError:
                self.nodes[path] = Node("c" if member.ischr() else "b", member.devmajor, member.devminor, member.mode & 0o7777, member.uid, member.gid)
                return False
            except OverflowError:
                self.skipped.append(f"/{member.name.lstrip('./')}")
                return False
            return True
        raise FailedPrecondition(f"{self._what} has an entry of an unknown kind ({member.name!r:.200}), so it is refused.")

    def _own(self, member: tarfile.TarInfo, path: str) -> None:
        """Owner first: the kernel takes set-id bits and capabilities away with a change of owner."""
        if os.geteuid() == 0:
            os.chown(path, member.uid, member.gid, follow_symlinks=False)
        if member.issym():
            return
        os.chmod(path, member.mode & 0o7777)
        for key, value in member.pax_headers.items():
            name = key[len(_PAX_XATTR) :] if key.startswith(_PAX_XATTR) else ""
            if name.startswith(_XATTRS):
                with contextlib.suppress(PermissionError):
                    os.setxattr(path, name, value.encode("utf-8", "surrogateescape"), follow_symlinks=False)
        if member.isreg():
            os.utime(path, (member.mtime, member.mtime))

    def remove(self, parts: t.Sequence[str]) -> None:
        """An entry and all below it; one that is not there is fine."""
        try:
            path = f"{self.resolve(parts[:-1])}/{parts[-1]}"
        except (FileNotFoundError, NotADirectoryError):
            return
        self.nodes.pop(path, None)
        if os.path.isdir(path) and not os.path.islink(path):
            self.forget_nodes(path)
            shutil.rmtree(path)
        else:
            remove(path)

    def forget_nodes(self, directory: str, but: t.Container[str] = ()) -> None:
        """What was in a directory that goes, or that is hidden, goes with it."""
        for path in [path for path in self.nodes if path.startswith(f"{directory}/") and path not in but]:
            del self.nodes[path]

    def finish(self) -> None:
        """Times of directories, which making entries in them has changed."""
        self.nodes = {path: node for path, node in self.nodes.items() if not os.path.lexists(path)}
        for path, mtime in reversed(self._times):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, OverflowError):
                os.utime(path, (mtime, mtime), follow_symlinks=False)
