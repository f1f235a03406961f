# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a VM's launch file, what it reads, and the definition become new all at once, though they are several files. Standard library only.

A host that comes back from a loss of power starts VMs by their launch files, and nobody looks at definitions. So the name of the launch file is what makes a
change: it says of which definition it is (a token), and until it has its name the others lie beside theirs, durable: C(config.json.follows-TOKEN),
C(vm.json.next). They are given their own names after it, by the task; if that was cut off by the launch file before it starts, and by the next task
(C(settle)). What follows no launch file is of a change that was not made.

A first definition needs none of this: there is no VM before C(vm.json), and nobody starts one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import typing as t

from .files import is_as, listed, os_errors, read_bytes, read_text, remove

if t.TYPE_CHECKING:
    from .layout import VmLayout
    from .writing import FileText, Writing

# The line of a launch file that was made by itself: nothing follows it.
NOTHING_FOLLOWS = "follows=''"
_FOLLOWS = re.compile(r"^follows=([0-9a-f]{16})$", re.MULTILINE)
_BESIDE = re.compile(r"(.+)\.follows-([0-9a-f]{16})")


def token(definition: bytes) -> str:
    """Of the bytes of a C(vm.json)."""
    import hashlib

    return hashlib.sha256(definition).hexdigest()[:16]


def followed(launch: str, by: str) -> str:
    """The text of a launch file, with the token of what follows it; "": nothing does."""
    return launch.replace(f"\n{NOTHING_FOLLOWS}\n", f"\nfollows={by}\n", 1) if by else launch


def told(vm: VmLayout) -> str:
    """The token in the launch file; "" for none, as in those of earlier versions."""
    if os.path.isdir(vm.launch):
        # Somebody's mistake, which nobody can start: that it stands in the way is said when a launch file is to be written.
        return ""
    try:
        found = _FOLLOWS.search(read_text(vm.launch))
    except FileNotFoundError:
        return ""
    return found[1] if found else ""


def write_all(writing: Writing, vm: VmLayout, files: t.Sequence[FileText], launch: FileText, definition: bytes, stored: t.Optional[FileText]) -> None:
    """Writes what is not as it is to be, for C(writing.commit) to make it so. C(stored): C(vm.json) as it is to be, of which C(definition) are the bytes; None:
    it is so already."""
    changed = [file for file in files if not is_as(file.path, file.text, file.mode, file.gid)]
    if not os.path.lexists(vm.definition):
        for file in (*changed, launch):
            writing.add(file)
    elif changed or not is_as(launch.path, followed(launch.text, told(vm)), launch.mode, launch.gid):
        by = token(definition)
        for file in changed:
            writing.add(file, until=f"{file.path}.follows-{by}")
        if stored is not None:
            writing.add(stored, until=vm.definition_next)
        writing.add(dataclasses.replace(launch, text=followed(launch.text, by)), rank=1)
        return
    if stored is not None:
        writing.add(stored, rank=1)


def definition_text(vm: VmLayout) -> str:
    """C(vm.json), or what is to become it since the launch file has its name. FileNotFoundError without either; as C(read_text) for one that is trusted."""
    # Almost never there, and every look at a VM comes here.
    if os.path.lexists(vm.definition_next):
        with contextlib.suppress(FileNotFoundError):
            body = read_bytes(vm.definition_next, trusted=True)
            if token(body) == told(vm):
                return body.decode("utf-8", "replace")
    return read_text(vm.definition, trusted=True)


def settle(vm: VmLayout) -> None:
    """Ends a change that was cut off: what follows the launch file gets its name, and what follows none is removed. Under the VM's lock, before anything of it
    is written."""
    beside = [(name, match) for name in listed(vm.dir) if (match := _BESIDE.fullmatch(name))]
    has_next = os.path.lexists(vm.definition_next)
    if not beside and not has_next:
        return
    named = told(vm)
    with os_errors(f"write below {vm.dir}"):
        for name, match in beside:
            _give(f"{vm.dir}/{name}", f"{vm.dir}/{match[1]}", match[2] == named)
        if has_next:
            _give(vm.definition_next, vm.definition, token(read_bytes(vm.definition_next)) == named)


def _give(beside: str, path: str, follows: bool) -> None:
    if not follows:
        remove(beside)
        return
    # A launch file that starts meanwhile does the same.
    with contextlib.suppress(FileNotFoundError):
        os.rename(beside, path)
