# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts into a tree what a container image or a tarball lacks to be a machine: an init, files, a hostname, users' keys. Standard library only."""

from __future__ import annotations

import os
import shlex
import stat
import typing as t

from ...errors import FailedPrecondition, NotFound
from ...model.image_additions import AddedFile, Additions
from ..files import os_errors, remove
from .tree import Tree

_ADDED_MAX_BYTES = 1 << 30


class _User(t.NamedTuple):
    uid: int
    gid: int
    home: str


def read_sources(additions: Additions) -> dict[str, bytes]:
    """What files of the host that are to be put in hold, by their paths: who does that may not be able to read them."""
    return {path: _read(path) for path in additions.sources()}


def dress(tree: Tree, additions: Additions, config: t.Mapping[str, t.Any], sources: t.Mapping[str, bytes]) -> None:
    """C(config): what a container image runs; {} for other sources. C(sources): see C(read_sources). FailedPrecondition for a user that the tree does not
    know."""
    if additions.hostname:
        _put(tree, "/etc/hostname", f"{additions.hostname}\n".encode(), 0o644)
    if additions.init:
        _put(tree, "/sbin/init", _init(additions.init, config, sources), 0o755)
    for user, keys in additions.ssh_keys.items():
        _put_keys(tree, user, keys)
    for file in additions.files:
        _put(tree, file.path, _content(file, sources), file.mode, _number(tree, file.owner, "passwd"), _number(tree, file.group, "group"))


def _content(file: AddedFile, sources: t.Mapping[str, bytes]) -> bytes:
    return file.content.encode() if file.content is not None else sources[file.source]


def _read(path: str) -> bytes:
    try:
        with os_errors(f"read {path}"), open(path, "rb") as stream:
            body = stream.read(_ADDED_MAX_BYTES + 1)
    except FileNotFoundError:
        raise NotFound(f"There is no file {path} on the host, which is to be put into the image.") from None
    if len(body) > _ADDED_MAX_BYTES:
        raise FailedPrecondition(f"{path} is longer than {_ADDED_MAX_BYTES} bytes, too long to be put into an image by 'files'.")
    return body


def _put(tree: Tree, name: str, body: bytes, mode: int, uid: int = 0, gid: int = 0) -> None:
    """A file at that place as the guest sees it: where a link stands there, what the link leads to stays and the link goes."""
    tree.count(len(body))
    with os_errors(f"put {name} into the image"):
        try:
            path = tree.place(name)
            if os.path.isdir(path) and not os.path.islink(path):
                raise FailedPrecondition(f"{name} is a directory in the image, so no file can be put there.")
            remove(path)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise FailedPrecondition(f"{name} cannot be put into the image: {exc}.") from exc
        with os.fdopen(fd, "wb") as stream:
            stream.write(body)
            _own(stream.fileno(), uid, gid, mode)


def _own(fd: int, uid: int, gid: int, mode: int) -> None:
    if os.geteuid() == 0:
        os.fchown(fd, uid, gid)
    os.fchmod(fd, mode)


def _init(init: str, config: t.Mapping[str, t.Any], sources: t.Mapping[str, bytes]) -> bytes:
    if init.startswith("#!"):
        return init.encode()
    if init.startswith("/"):
        return sources[init]
    return container_init(config).encode()


def container_init(config: t.Mapping[str, t.Any]) -> str:
    """A script that mounts what programs expect, and becomes what the container image runs. The VM powers off when that ends."""
    argv = [str(word) for word in [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]]
    if not argv:
        raise FailedPrecondition("The container image says not what to run (no Entrypoint, no Cmd), so init: container has nothing to start. Give a script.")
    lines = ["#!/bin/sh", "mount -t proc proc /proc", "mount -t sysfs sys /sys", "mount -t devtmpfs dev /dev 2>/dev/null"]
    lines += ["mkdir -p /dev/pts /run /tmp", "mount -t devpts devpts /dev/pts", "mount -t tmpfs run /run"]
    lines += ["[ ! -s /etc/hostname ] || hostname -F /etc/hostname", "ip link set lo up 2>/dev/null"]
    for entry in config.get("Env") or []:
        name, equals, value = str(entry).partition("=")
        if equals and name.replace("_", "a").isalnum() and not name[0].isdigit():
            lines.append(f"export {name}={shlex.quote(value)}")
    if config.get("WorkingDir"):
        lines.append(f"cd {shlex.quote(str(config['WorkingDir']))}")
    command = " ".join(shlex.quote(word) for word in argv)
    if config.get("User") not in (None, "", "0", "root", "0:0"):
        user = str(config["User"]).partition(":")[0]
        command = f"su -s /bin/sh {shlex.quote(user)} -c {shlex.quote('exec ' + command)}"
    # The first process must not end; o: powers off at once, which a script that has no init system can do everywhere.
    return "\n".join([*lines, command, "sync", "echo o > /proc/sysrq-trigger", "sleep 60", ""])


def _put_keys(tree: Tree, name: str, keys: t.Sequence[str]) -> None:
    user = _user(tree, name)
    parts = tree.parts(user.home)
    with os_errors(f"put the keys of {name} into the image"):
        try:
            home = tree.resolve(parts, make=True)
            directory = f"{home}/.ssh"
            if not os.path.lexists(directory):
                os.mkdir(directory, 0o700)
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except NotADirectoryError as exc:
            raise FailedPrecondition(f"The keys of {name} cannot be put into the image: {user.home}/.ssh is no directory there.") from exc
        _own(fd, user.uid, user.gid, 0o700)
        os.close(fd)
        path = f"{directory}/authorized_keys"
        before = ""
        if os.path.lexists(path) and stat.S_ISREG(os.lstat(path).st_mode):
            with open(path, encoding="utf-8", errors="surrogateescape") as stream:
                before = stream.read()
    lines = [line for line in before.splitlines() if line.strip()]
    lines += [key for key in keys if key not in lines]
    body = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    _put(tree, f"{user.home}/.ssh/authorized_keys", body, 0o600, user.uid, user.gid)


def _user(tree: Tree, name: str) -> _User:
    for fields in _table(tree, "passwd"):
        if fields[0] == name and len(fields) >= 6 and fields[2].isdigit() and fields[3].isdigit():
            return _User(int(fields[2]), int(fields[3]), fields[5] or "/")
    if name == "root":
        return _User(0, 0, "/root")
    known = ", ".join(fields[0] for fields in _table(tree, "passwd")[:20]) or "none"
    raise FailedPrecondition(f"The image has no user {name!r} (it has {known}). Put one in by 'files' (/etc/passwd), or name another.")


def _number(tree: Tree, value: str, table: str) -> int:
    if value.isdigit():
        return int(value)
    for fields in _table(tree, table):
        if fields[0] == value and len(fields) >= 3 and fields[2].isdigit():
            return int(fields[2])
    if value == "root":
        return 0
    raise FailedPrecondition(f"The image's /etc/{table} has no {value!r}. Give a number.")


def _table(tree: Tree, name: str) -> list[list[str]]:
    """Lines of the image's own C(/etc/passwd) or C(/etc/group), by fields; [] when it has none."""
    try:
        path = f"{tree.resolve(['etc'])}/{name}"
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return []
        with open(path, encoding="utf-8", errors="replace") as stream:
            return [line.rstrip("\n").split(":") for line in stream]
    except (FileNotFoundError, NotADirectoryError):
        return []
