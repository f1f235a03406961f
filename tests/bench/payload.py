# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much a task sends to the host: the file that Ansible makes of a module and copies there."""

from __future__ import annotations

import pathlib

from ground import PING, Ground, Task
from table import Table

MODULES: dict[str, Task] = {
    "ping": PING,
    "vmcp_vm": {"name": "vm", "unkey.vmcp.vmcp_vm": {"name": "none", "state": "absent"}},
    "vmcp_vms": {"name": "vms", "unkey.vmcp.vmcp_vms": {"vms": []}},
    "vmcp_vm_info": {"name": "info", "unkey.vmcp.vmcp_vm_info": {}},
}


def sizes(ground: Ground, table: Table) -> None:
    kept = ground.place / "kept"
    ground.play(list(MODULES.values()), environment={"ANSIBLE_KEEP_REMOTE_FILES": "1", "ANSIBLE_REMOTE_TMP": str(kept)})
    found = {name: _size(kept, name) for name in MODULES}
    for name, size in found.items():
        if name != "ping":
            ratio = size / found["ping"]
            table.add(f"sent to the host for `{name}`", f"{ratio:.2f} x ping ({size / 1000:.0f} kB; {found['ping'] / 1000:.0f} kB)", "<= 2 x", ratio <= 2)
    brought = [path.stat().st_size for path in kept.glob("*/vmcp-code.zip")]
    if brought:
        table.notes.append(f"a host without the code of this version gets it once: {max(brought) / 1000:.0f} kB")


def _size(kept: pathlib.Path, module: str) -> int:
    """Two where the host had not got the collection's code at the first try: they differ by the path of the archive."""
    sizes = [path.stat().st_size for path in kept.glob(f"*/AnsiballZ_{module}.py")]
    if not sizes:
        raise SystemExit(f"Ansible kept no file of {module} in {kept}: its size is not known.")
    return max(sizes)
