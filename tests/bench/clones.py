# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long 100 clones of a 2 GiB image take, and what they take of the host's space: as overlays, and shared on file systems that can."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys
import time
import typing as t

from ground import ROOT, Ground
from table import Table

sys.path.append(str(ROOT))

from ansible_collections.unkey.vmcp.plugins.module_utils.host import clones
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout

COUNT = 100
GIB = 1 << 30
# Of the image, what holds data.
DATA_BYTES = 64 << 20
TARGET_S = 1.0


def measure(directory: pathlib.Path, format_: str) -> dict[str, t.Any]:
    """C(format_): C(qcow2) (overlays) or C(raw) (shared extents, where the file system has them)."""
    image = directory / "image.raw"
    with open(image, "wb") as stream:
        stream.write(os.urandom(DATA_BYTES))
        stream.truncate(2 * GIB)
    layout = Layout(str(directory / "s"), str(directory / "r"))
    vms = [layout.vm(f"vm-{number}") for number in range(COUNT)]
    for vm in vms:
        os.makedirs(vm.data)
    os.sync()
    free, began, overlays = _free(directory), time.monotonic(), clones.Overlays()
    chosen = {"file": f"root.{format_}", "format": format_}
    made = [clones.make(vm, chosen, (str(image), "raw", 2 * GIB), None, None, overlays, sync=False) for vm in vms]
    descriptor = os.open(directory, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    seconds = time.monotonic() - began
    os.sync()
    return {"method": made[0].method, "seconds": round(seconds, 2), "mib": (free - _free(directory)) >> 20}


def _free(directory: pathlib.Path) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


@contextlib.contextmanager
def on_loop(directory: pathlib.Path, kind: str) -> t.Iterator[pathlib.Path]:
    """A file system of its own in a file."""
    file, where = directory / f"{kind}.img", directory / kind
    with open(file, "wb") as stream:
        stream.truncate(2 * GIB)
    subprocess.run([f"mkfs.{kind}", "-q", str(file)], check=True, capture_output=True)
    where.mkdir()
    subprocess.run(["mount", "-o", "loop", str(file), str(where)], check=True, capture_output=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", str(where)], check=True)


def rows(made: Ground, table: Table) -> None:
    here = made.place / "clones"
    here.mkdir()
    grounds = [(here, "qcow2")]
    with contextlib.ExitStack() as stack:
        for kind in ("xfs", "btrfs"):
            try:
                grounds.append((stack.enter_context(on_loop(here, kind)), "raw"))
            except (OSError, subprocess.CalledProcessError) as exc:
                table.leave_out(f"clones on {kind}", f"it cannot be made and mounted here ({exc})")
        for ground, format_ in grounds:
            found = measure(ground, format_)
            on = "" if ground is here else f" on {ground.name}"
            measured = f"{found['seconds']} s, {found['mib']} MiB of the host's space"
            table.add(f"{COUNT} clones of a 2 GiB image by {found['method']}{on}", measured, f"<= {TARGET_S:.0f} s", found["seconds"] <= TARGET_S)
