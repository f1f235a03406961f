# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records what a function does to a directory, and says what a host that lost power in the midst of it may find there afterwards.

The model is harsher than any file system: bytes of a file are sure once the file was synced, names in a directory once the directory was. Whatever else was
written may be there, not there, or there by half, one independently of the other. Only a rename within a directory is whole or not at all."""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
import pickle
import random
import shutil
import stat
import traceback
import typing as t

from ansible_collections.unkey.vmcp.plugins.module_utils.host import writing

# Path below the root to bytes, a link's target as text, or None for a directory.
Found = dict[str, t.Union[bytes, str, None]]
ROOT = 0


@dataclasses.dataclass(frozen=True)
class Done:
    """One call that changed something, of a file or a directory (C(inode)).

    C(what) and C(to): C(names) (name to inode, None for one taken away), C(write) (offset and bytes), C(cut) (the new size), C(sync), C(sync_all)
    (the whole file system; of the root)."""

    what: str
    inode: int
    to: t.Any = None


@dataclasses.dataclass
class Record:
    """C(kinds): of inodes, C(dir), C(file), or C(link:TARGET). C(names), C(bytes): what was there before."""

    kinds: dict[int, str]
    names: dict[int, dict[str, int]]
    bytes: dict[int, bytes]
    done: list[Done]


def record(root: pathlib.Path, function: t.Callable[[], object]) -> Record:
    """Runs C(function) in a process of its own, whose calls are watched."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        status = 1
        try:
            watcher = _Watcher(root)
            watcher.install()
            function()
            watcher.uninstall()
            with os.fdopen(writer, "wb") as stream:
                pickle.dump(watcher.seen, stream)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        body = stream.read()
    assert os.waitpid(pid, 0)[1] == 0, "what was to be recorded failed"
    made = t.cast(Record, pickle.loads(body))
    after = State(made).after(len(made.done)).found(everything=True)
    assert after == look(root), "the record is not all that was done"
    return made


def look(root: pathlib.Path) -> Found:
    found: Found = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        found[name] = os.readlink(path) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
    return found


def put(root: pathlib.Path, found: Found) -> None:
    """Makes the directory what was found."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(mode=0o711)
    for name, content in sorted(found.items()):
        path = root / name
        if content is None:
            path.mkdir(mode=0o711)
        elif isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)


class _Watcher:
    """Stands before the functions of C(os) that change something below C(root), in its own process alone."""

    NAMES = ("open", "write", "pwrite", "ftruncate", "fsync", "fdatasync", "rename", "replace", "mkdir", "unlink", "remove", "rmdir", "symlink")

    def __init__(self, root: pathlib.Path) -> None:
        self.root = os.path.realpath(root)
        self.seen = Record({ROOT: "dir"}, {ROOT: {}}, {}, [])
        self._inodes: dict[tuple[int, int], int] = {self._key(os.stat(self.root)): ROOT}
        self._real = {name: getattr(os, name) for name in self.NAMES}
        self._adopt(self.root, ROOT)

    def install(self) -> None:
        for name in self.NAMES:
            watched = getattr(self, f"_{name}", None)
            setattr(os, name, watched or self._renaming if name in ("rename", "replace") else watched)
        self._sync_all, writing.sync_file_system = writing.sync_file_system, self._whole_synced

    def uninstall(self) -> None:
        for name, function in self._real.items():
            setattr(os, name, function)
        writing.sync_file_system = self._sync_all

    # --- inodes ---------------------------------------------------------------------------------------------
    def _key(self, status: os.stat_result) -> tuple[int, int]:
        return status.st_dev, status.st_ino

    def _adopt(self, directory: str, inode: int) -> None:
        for name in sorted(os.listdir(directory)):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            child = self._new(status, path)
            self.seen.names[inode][name] = child
            if stat.S_ISREG(status.st_mode):
                self.seen.bytes[child] = pathlib.Path(path).read_bytes()
            elif stat.S_ISDIR(status.st_mode):
                self._adopt(path, child)

    def _new(self, status: os.stat_result, path: str) -> int:
        """The number of an inode may come again after a removal: the newest counts."""
        inode = len(self.seen.kinds)
        self._inodes[self._key(status)] = inode
        if stat.S_ISDIR(status.st_mode):
            self.seen.kinds[inode] = "dir"
            self.seen.names[inode] = {}
        else:
            self.seen.kinds[inode] = f"link:{os.readlink(path)}" if stat.S_ISLNK(status.st_mode) else "file"
        return inode

    def _known(self, fd: int) -> t.Optional[int]:
        return self._inodes.get(self._key(os.fstat(fd)))

    def _place(self, path: t.Any, dir_fd: t.Optional[int]) -> tuple[t.Optional[int], str, str]:
        """Inode of the directory (None: not ours), name in it, and the whole path."""
        base = os.readlink(f"/proc/self/fd/{dir_fd}") if dir_fd is not None else os.getcwd()
        whole = os.path.join(base, os.fspath(path))
        directory, name = os.path.split(whole)
        try:
            return self._inodes.get(self._key(os.stat(directory))), name, whole
        except OSError:
            return None, name, whole

    def _names(self, inode: t.Optional[int], **to: t.Optional[int]) -> None:
        if inode is not None:
            self.seen.done.append(Done("names", inode, to))

    # --- the calls ------------------------------------------------------------------------------------------
    def _open(self, path: t.Any, flags: int, mode: int = 0o777, *, dir_fd: t.Optional[int] = None) -> int:
        inode, name, whole = self._place(path, dir_fd)
        there = os.path.lexists(whole)
        fd: int = self._real["open"](path, flags, mode, dir_fd=dir_fd)
        if inode is not None and flags & os.O_CREAT and not there:
            self._names(inode, **{name: self._new(os.fstat(fd), whole)})
        elif flags & os.O_TRUNC and (file := self._known(fd)) is not None:
            self.seen.done.append(Done("cut", file, 0))
        return fd

    def _write(self, fd: int, data: t.Any) -> int:
        file = self._known(fd) if stat.S_ISREG(os.fstat(fd).st_mode) else None
        at = os.lseek(fd, 0, os.SEEK_CUR) if file is not None else 0
        written: int = self._real["write"](fd, data)
        if file is not None:
            self.seen.done.append(Done("write", file, (at, bytes(data[:written]))))
        return written

    def _pwrite(self, fd: int, data: t.Any, at: int) -> int:
        written: int = self._real["pwrite"](fd, data, at)
        if (file := self._known(fd)) is not None:
            self.seen.done.append(Done("write", file, (at, bytes(data[:written]))))
        return written

    def _ftruncate(self, fd: int, size: int) -> None:
        self._real["ftruncate"](fd, size)
        if (file := self._known(fd)) is not None:
            self.seen.done.append(Done("cut", file, size))

    def _fsync(self, fd: int) -> None:
        self._real["fsync"](fd)
        if (inode := self._known(fd)) is not None:
            self.seen.done.append(Done("sync", inode))

    _fdatasync = _fsync

    def _whole_synced(self, root: str) -> bool:
        """A call of the C library's, which nothing of C(os) sees."""
        done = self._sync_all(root)
        if done:
            self.seen.done.append(Done("sync_all", ROOT))
        return done

    def _renaming(self, source: t.Any, target: t.Any) -> None:
        from_inode, from_name, whole = self._place(source, None)
        to_inode, to_name, _whole = self._place(target, None)
        assert from_inode == to_inode, "only a rename within a directory is whole or not at all"
        moved = self._inodes.get(self._key(os.lstat(whole)))
        self._real["rename"](source, target)
        self._names(from_inode, **{from_name: None, to_name: moved})

    def _mkdir(self, path: t.Any, mode: int = 0o777, *, dir_fd: t.Optional[int] = None) -> None:
        self._real["mkdir"](path, mode, dir_fd=dir_fd)
        self._made(path, dir_fd)

    def _symlink(self, target: t.Any, path: t.Any, target_is_directory: bool = False, *, dir_fd: t.Optional[int] = None) -> None:
        self._real["symlink"](target, path, dir_fd=dir_fd)
        self._made(path, dir_fd)

    def _made(self, path: t.Any, dir_fd: t.Optional[int]) -> None:
        inode, name, whole = self._place(path, dir_fd)
        if inode is not None:
            self._names(inode, **{name: self._new(os.lstat(whole), whole)})

    def _unlink(self, path: t.Any, *, dir_fd: t.Optional[int] = None) -> None:
        self._real["unlink"](path, dir_fd=dir_fd)
        inode, name, _whole = self._place(path, dir_fd)
        self._names(inode, **{name: None})

    _remove = _unlink

    def _rmdir(self, path: t.Any, *, dir_fd: t.Optional[int] = None) -> None:
        self._real["rmdir"](path, dir_fd=dir_fd)
        inode, name, _whole = self._place(path, dir_fd)
        self._names(inode, **{name: None})


class State:
    """The directory at one point of a record: what is sure, and what is not."""

    def __init__(self, made: Record) -> None:
        self._record = made
        self._sure_names = {inode: dict(names) for inode, names in made.names.items()}
        self._sure_bytes = dict(made.bytes)
        self._bytes = dict(made.bytes)
        self._unsure: list[Done] = []

    def after(self, count: int) -> State:
        for done in self._record.done[:count]:
            self._take(done)
        return self

    def _take(self, done: Done) -> None:
        now = self._bytes.get(done.inode, b"")
        if done.what == "names":
            self._unsure.append(done)
        elif done.what == "write":
            at, data = done.to
            self._bytes[done.inode] = now[:at].ljust(at, b"\0") + data + now[at + len(data) :]
        elif done.what == "cut":
            self._bytes[done.inode] = now[: done.to].ljust(done.to, b"\0")
        elif done.what == "sync_all":
            self._sure_bytes = dict(self._bytes)
            for named in self._unsure:
                self._apply(self._sure_names, named)
            self._unsure = []
        else:
            self._sure_bytes[done.inode] = now
            for named in [one for one in self._unsure if one.inode == done.inode]:
                self._apply(self._sure_names, named)
            self._unsure = [one for one in self._unsure if one.inode != done.inode]

    @staticmethod
    def _apply(names: dict[int, dict[str, int]], done: Done) -> None:
        for name, inode in done.to.items():
            if inode is None:
                names.setdefault(done.inode, {}).pop(name, None)
            else:
                names.setdefault(done.inode, {})[name] = inode

    def possible(self, chance: random.Random, sparse: bool = False) -> t.Iterator[Found]:
        """What may be found. Not every subset of what is not sure: none, all, each alone, each missing, and some at random. C(sparse): none, all, and two at
        random."""
        count = len(self._unsure)
        if sparse:
            random_ones = [tuple(i for i in range(count) if chance.random() < 0.5) for dummy in range(2)]
            for those in dict.fromkeys([(), tuple(range(count)), *random_ones]):
                yield self.found(those, chance.choice(("old", "new", "torn")))
            return
        kept = [(), tuple(range(count)), *((one,) for one in range(count)), *(tuple(i for i in range(count) if i != one) for one in range(count))]
        kept += [tuple(i for i in range(count) if chance.random() < 0.5) for dummy in range(4 if count > 2 else 0)]
        for those, how in itertools.product(dict.fromkeys(kept), ("old", "new", "torn")):
            yield self.found(those, how)

    def found(self, those: t.Collection[int] = (), how: str = "new", *, everything: bool = False) -> Found:
        """C(those): which of the names that are not sure are there. C(how) bytes are that are not."""
        names = {inode: dict(entries) for inode, entries in self._sure_names.items()}
        for at, done in enumerate(self._unsure):
            if everything or at in those:
                self._apply(names, done)
        found: Found = {}
        self._collect(names, ROOT, "", how, found)
        return found

    def _collect(self, names: dict[int, dict[str, int]], directory: int, prefix: str, how: str, found: Found) -> None:
        for name, inode in names.get(directory, {}).items():
            kind, path = self._record.kinds[inode], f"{prefix}{name}"
            if kind == "dir":
                found[path] = None
                self._collect(names, inode, f"{path}/", how, found)
            else:
                found[path] = kind.removeprefix("link:") if kind != "file" else self._content(inode, how)

    def _content(self, inode: int, how: str) -> bytes:
        old, new = self._sure_bytes.get(inode, b""), self._bytes.get(inode, b"")
        if old == new or how == "new":
            return new
        return old if how == "old" else new[: len(new) // 2]


def possible_states(made: Record, seed: int = 20261121, *, every: int = 1) -> t.Iterator[tuple[int, Found]]:
    """Every different thing that may be found, with the number of calls that had been made. C(every) n: for a long record, a choice after each n-th call."""
    chance = random.Random(seed)
    told = set()
    for count in range(0, len(made.done) + 1, every):
        for found in State(made).after(count).possible(chance, every > 1):
            key = hash(frozenset(found.items()))
            if key not in told:
                told.add(key)
                yield count, found
