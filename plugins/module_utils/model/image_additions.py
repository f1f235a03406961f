# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is put into a root file system beside what its source has. Standard library only, pure."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import typing as t

from ..errors import Violation

_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9-]{1,63})*")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}\$?")
_MODE = re.compile(r"0?[0-7]{3,4}")
_FILE_KEYS = {"path", "content", "source", "mode", "owner", "group"}


@dataclasses.dataclass(frozen=True)
class AddedFile:
    """C(content), or C(source): a file on the host. C(owner)/C(group): a number, or a name of the image's own."""

    path: str
    content: t.Optional[str]
    source: str
    mode: int
    owner: str = "0"
    group: str = "0"


@dataclasses.dataclass(frozen=True)
class Additions:
    """C(init): text of a script, a path on the host, or C(container): what the container image runs. C(ssh_keys): keys by user."""

    init: str = ""
    files: tuple[AddedFile, ...] = ()
    hostname: str = ""
    ssh_keys: t.Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def digests(self) -> dict[str, t.Any]:
        """As JSON values, contents as digests: they may be secret."""
        files = [{**dataclasses.asdict(file), "content": None if file.content is None else _digest(file.content)} for file in self.files]
        init = _digest(self.init) if self.init.startswith("#!") else self.init
        return {"init": init, "files": files, "hostname": self.hostname, "ssh_keys": {user: list(keys) for user, keys in self.ssh_keys.items()}}

    def sources(self) -> list[str]:
        """Files on the host of which the content is put in."""
        return [*([self.init] if self.init.startswith("/") else []), *(file.source for file in self.files if file.source)]


def read_additions(options: t.Mapping[str, t.Any]) -> tuple[Additions, list[Violation]]:
    violations: list[Violation] = []
    init = str(options.get("init") or "")
    if init and init != "container" and not init.startswith(("#!", "/")):
        violations.append(Violation("init", "must be a script that begins with #!, an absolute path of a program on the host, or 'container'"))
    if init == "container" and not options.get("container"):
        violations.append(Violation("init", "can be 'container' only where the source is a container image, which says what to run"))
    hostname = str(options.get("hostname") or "")
    if hostname and not (_HOSTNAME.fullmatch(hostname) and len(hostname) <= 253):
        violations.append(Violation("hostname", "must be a host name: letters, digits, '-', and dots between labels"))
    files = [_file(index, entry, violations) for index, entry in enumerate(options.get("files") or [])]
    return Additions(init, tuple(files), hostname, _keys(options.get("ssh_keys") or {}, violations)), violations


def _file(index: int, entry: t.Any, violations: list[Violation]) -> AddedFile:
    where = f"files[{index}]"
    if not isinstance(entry, dict):
        violations.append(Violation(where, "must be {path, content or source, mode, owner, group}"))
        return AddedFile("/", "", "", 0)
    for key in sorted(set(entry) - _FILE_KEYS):
        violations.append(Violation(f"{where}.{key}", f"is not known; known are {', '.join(sorted(_FILE_KEYS))}"))
    path, source = str(entry.get("path") or ""), str(entry.get("source") or "")
    if not path.startswith("/") or path.endswith("/") or ".." in path.split("/") or "\0" in path:
        violations.append(Violation(f"{where}.path", "must be the absolute path of a file in the image, without '..'"))
    if (entry.get("content") is None) == (not source):
        violations.append(Violation(where, "must have either content or source"))
    if source and not source.startswith("/"):
        violations.append(Violation(f"{where}.source", "must be an absolute path on the host"))
    mode = str(entry.get("mode", "0644"))
    if not _MODE.fullmatch(mode):
        violations.append(Violation(f"{where}.mode", 'must be octal, in quotes: "0644"'))
        mode = "0644"
    content = entry.get("content")
    owner, group = str(entry.get("owner", "0")), str(entry.get("group", "0"))
    return AddedFile(path, None if content is None else str(content), source, int(mode, 8), owner, group)


def _keys(value: t.Any, violations: list[Violation]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for user, keys in value.items():
        listed = [keys] if isinstance(keys, str) else keys
        if not _USER.fullmatch(str(user)):
            violations.append(Violation("ssh_keys", f"{str(user)!r:.60} is no user's name"))
        elif not isinstance(listed, list) or not all(isinstance(key, str) and key.strip() and "\n" not in key.strip() for key in listed):
            violations.append(Violation(f"ssh_keys.{user}", "must be a list of public keys, one line each"))
        else:
            found[str(user)] = tuple(key.strip() for key in listed)
    return found


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
