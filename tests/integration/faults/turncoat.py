# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A C(firecracker) that is well until it is told otherwise: the fake of tests/fakes, whose fault is read from a file before each reply.

Environment: C(TURNCOAT), the file; absent or empty it behaves. Beside the faults of C(micro_http): C(die) ends the process instead of replying."""

from __future__ import annotations

import os
import pathlib
import shutil
import socket
import sys

if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3]))

from ansible_collections.unkey.vmcp.tests.fakes import firecracker
from ansible_collections.unkey.vmcp.tests.fakes.micro_http import Server


def interpreter() -> str | None:
    """A Python that a VM's uid can run, together with this file; None when there is none. The standard library is enough."""
    for candidate in (sys.executable, shutil.which("python3", path="/usr/local/bin:/usr/bin") or ""):
        if candidate and all(_open_to_all(pathlib.Path(path)) for path in (os.path.realpath(candidate), candidate, __file__)):
            return candidate
    return None


def _open_to_all(path: pathlib.Path) -> bool:
    return all(part.stat().st_mode & 0o005 == 0o005 or not part.is_dir() for part in (path, *path.parents))


def install(directory: pathlib.Path, fault: pathlib.Path, python: str) -> None:
    """Writes a C(firecracker) into C(directory). Its environment is its own: a launch file clears it."""
    target = directory / "firecracker"
    target.write_text(f'#!/bin/sh\nTURNCOAT={fault} exec "{python}" "{pathlib.Path(__file__).resolve()}" "$@"\n')
    target.chmod(0o755)


class Turncoat(Server):
    def _send(self, client: socket.socket, reply: bytes) -> None:
        file = pathlib.Path(os.environ["TURNCOAT"])
        self.fault = file.read_text().strip() if file.exists() else ""
        if self.fault == "die":
            os._exit(7)
        super()._send(client, reply)


if __name__ == "__main__":
    firecracker.Server = Turncoat  # type: ignore[misc]
    sys.exit(firecracker.main(sys.argv[1:]))
