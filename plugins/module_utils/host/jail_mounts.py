# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts the sandbox of a jailed VM from the task that starts it: what C(launch_sandbox) does, with system calls in place of four programs.

A VM that starts with the host, or again by policy, has its launch file do it, and so has one whose files are more than plain ones that its uid may open
(block devices, access lists, seeds), or where anything at all goes wrong: then the launch file says what. Both ways make the same mounts; a test
compares them. What there is to mount stands in a line of the launch file, which is made from the same description as the rest of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import stat
import typing as t

if t.TYPE_CHECKING:
    from ..backends.port import Isolation, LaunchSpec
    from .layout import VmLayout

_MARK = "# jail: "
# The mark is in one of the first lines; what precedes it is short.
_LOOKED_AT = 4
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _SLAVE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 19
_CLONE_FS, _CLONE_NEWNS = 0x200, 0x20000

Made = t.TypeVar("Made")


@dataclasses.dataclass(frozen=True)
class Jail:
    """C(root): of the jail, below the VM's run-time directory. C(files): alias, path, whether it may be written. C(own): alias, path below C(data).
    C(log): alias of the VMM's own log."""

    uid: int
    root: str
    files: tuple[tuple[str, str, bool], ...]
    own: tuple[tuple[str, str], ...]
    log: t.Optional[str]


def description(layout: VmLayout, spec: LaunchSpec, isolation: Isolation, root: str) -> list[str]:
    """The line of a launch file that C(read) reads; none where the VM is given more than can be mounted. C(root) as in C(Jail)."""
    if isolation.uid is None or any(use.seed for use in spec.files):
        return []
    files, own = [], []
    for use in spec.files:
        path = os.path.normpath(os.path.join(layout.data, use.path))
        if path.startswith(layout.data + "/"):
            own.append((use.alias, path[len(layout.data) + 1 :]))
        else:
            files.append((use.alias, use.path, use.writable))
    files += [(alias, layout.document(name), False) for alias, name in sorted(spec.document_uses.items())]
    log = str(spec.vmm_log_in_sandbox).rpartition("/")[2] if spec.vmm_log_in_sandbox else None
    return [_MARK + json.dumps([isolation.uid, root, files, own, log])]


def read(layout: VmLayout) -> t.Optional[Jail]:
    """None where the launch file says nothing of it, as those of earlier releases."""
    with open(layout.launch, encoding="utf-8", errors="surrogateescape") as file:
        for dummy in range(_LOOKED_AT):
            line = file.readline()
            if line.startswith(_MARK):
                uid, root, files, own, log = json.loads(line[len(_MARK) :])
                return Jail(uid, root, tuple(map(tuple, files)), tuple(map(tuple, own)), log)
    return None


def with_jails(work: t.Callable[[Jails], Made]) -> Made:
    """What C(work) returns, called in a thread of its own: one that leaves the process's mount namespace, and takes nobody with it."""
    from concurrent.futures import ThreadPoolExecutor

    def alone() -> Made:
        with contextlib.closing(Jails()) as jails:
            return work(jails)

    with ThreadPoolExecutor(1, "jails") as thread:
        return thread.submit(alone).result()


def may_open_all(layout: VmLayout) -> bool:
    """Whether the VM's uid may open all that is to be mounted for it as it is, so that the launch file need not look (C(launch_sandbox)); False where that is
    not known."""
    try:
        jail = read(layout)
        if jail is None:
            return False
        seen = [(_plain(path), writable) for _alias, path, writable in jail.files]
        return all(_may_open(status, jail.uid, writable) for status, writable in seen) and (not jail.log or os.stat(layout.vmm_log).st_uid == jail.uid)
    except OSError:
        # The launch file says what is missing.
        return False


class Jails:
    """Mount namespaces for VMs that are about to be started, one after the other. Belongs to one thread, which nobody else uses."""

    def __init__(self) -> None:
        self._calls = _Calls()
        self._home: t.Optional[tuple[int, int]] = None
        with contextlib.suppress(OSError):
            # Where this is not allowed, or the kernel does not have it, launch files do it all, and say what they lack.
            self._calls.own_root()
            self._home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC), os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        for descriptor in self._home or ():
            os.close(descriptor)

    def start(self, layout: VmLayout, mounted: t.Callable[[], Made], otherwise: t.Callable[[], Made]) -> Made:
        """Calls C(mounted) in a mount namespace that nobody else sees and in which the VM's sandbox is mounted; it lasts as long as what is started in
        it. Calls C(otherwise), in the host's, where the launch file has to mount it."""
        jail = read(layout) if self._home is not None and _is_fresh(layout) else None
        if jail is None or self._home is None or not self._leave():
            return otherwise()
        try:
            if self._mount(layout, jail):
                return mounted()
        finally:
            self._calls.go(*self._home)
        return otherwise()

    def _leave(self) -> bool:
        try:
            self._calls.leave()
        except OSError:
            # As in many containers: C(unshare), which is the launch file's way, says so.
            return False
        return True

    def _mount(self, layout: VmLayout, jail: Jail) -> bool:
        """False where something is missing, is of another kind or may not be opened: what was mounted goes with the namespace."""
        try:
            self._calls.unseen()
            _mount(self._calls, layout, jail)
            # Of what was mounted: its path may lead elsewhere by now.
            return all(_may_open(os.stat(f"{layout.run}/{jail.root}/files/{alias}"), jail.uid, writable) for alias, _path, writable in jail.files)
        except OSError:
            # Whatever it was: the launch file meets it too, and has the words for it.
            return False


def _is_fresh(layout: VmLayout) -> bool:
    """Else something is left of a start that was cut off: the launch file clears up first, and is to find no mounts in its way."""
    return not any(os.path.lexists(path) for path in (f"{layout.run}/taps", f"{layout.run}/limits", f"{layout.dir}/granted", layout.pid))


def _mount(mounts: _Calls, layout: VmLayout, jail: Jail) -> None:
    """In the order, and with the options, of C(launch_sandbox)."""
    top, root = f"{layout.run}/jail", f"{layout.run}/{jail.root}"
    files = f"{root}/files"
    _make_dirs(layout.run, "jail")
    mounts.tmpfs(top, "mode=0711,size=512m")
    _make_dirs(top, f"{jail.root.partition('/')[2]}/files")
    mounts.tmpfs(files, "mode=0711,size=64m")
    _make_dirs(root, "vmm")
    mounts.bind(f"{layout.run}/vmm", f"{root}/vmm")
    if jail.own:
        _make_dirs(files, "+data")
        mounts.bind(layout.data, f"{files}/+data", _NOSUID | _NODEV | _NOEXEC)
    for alias, path, writable in jail.files:
        _plain(path)
        mounts.bind_file(path, f"{files}/{alias}", 0 if writable else _RDONLY)
    for alias, path in jail.own:
        os.symlink(f"+data/{path}", f"{files}/{alias}")
    if jail.log:
        mounts.bind_file(layout.vmm_log, f"{files}/{jail.log}")
        if os.stat(f"{files}/{jail.log}").st_uid != jail.uid:
            os.chown(f"{files}/{jail.log}", jail.uid, jail.uid)


def _make_dirs(top: str, relative: str) -> None:
    """0711, whatever the task's umask. The first may be there."""
    path = top
    for name in relative.split("/"):
        path = f"{path}/{name}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o711)
            os.chmod(path, 0o711)


def _plain(path: str) -> os.stat_result:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path} is no plain file")
    return status


def _may_open(status: os.stat_result, uid: int, writable: bool) -> bool:
    """By its mode alone: an access list is the launch file's to read."""
    mode = status.st_mode >> (6 if status.st_uid == uid else 3 if status.st_gid == uid else 0)
    return mode & 0o4 != 0 and (mode & 0o2 != 0 or not writable)


class _Calls:
    """System calls that Python has no names for. OSError when one fails."""

    def __init__(self) -> None:
        import ctypes

        self._errno = ctypes.get_errno
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._flags = ctypes.c_ulong

    def own_root(self) -> None:
        """This thread's root and working directory are its own from now on."""
        self._check(self._libc.unshare(_CLONE_FS), "unshare")

    def go(self, namespace: int, root: int) -> None:
        """Back, also where the process's root is not that of its namespace (a chroot)."""
        self._check(self._libc.setns(namespace, _CLONE_NEWNS), "setns")
        os.fchdir(root)
        os.chroot(".")

    def leave(self) -> None:
        """To a namespace of this thread's own."""
        self._check(self._libc.unshare(_CLONE_NEWNS), "unshare")

    def unseen(self) -> None:
        """Slave: what the host mounts and unmounts later is seen, nothing of ours is seen by the host."""
        self._mount(None, "/", None, _REC | _SLAVE)

    def tmpfs(self, where: str, options: str) -> None:
        self._mount("vmcp", where, "tmpfs", _NOSUID, options)

    def bind(self, what: str, where: str, flags: int = 0) -> None:
        self._mount(what, where, None, _BIND)
        if flags:
            self._mount(None, where, None, _REMOUNT | _BIND | flags)

    def bind_file(self, what: str, where: str, flags: int = 0) -> None:
        os.close(os.open(where, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self.bind(what, where, flags)

    def _mount(self, what: t.Optional[str], where: str, kind: t.Optional[str], flags: int, options: t.Optional[str] = None) -> None:
        words = [None if word is None else os.fsencode(word) for word in (what, where, kind)]
        self._check(self._libc.mount(*words, self._flags(flags), None if options is None else options.encode()), f"mount {where}")

    def _check(self, result: int, what: str) -> None:
        if result != 0:
            number = self._errno()
            raise OSError(number, os.strerror(number), what)
