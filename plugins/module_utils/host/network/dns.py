# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""dnsmasq, which serves the addresses and names of a network: one for each, as the distribution packages it. Standard library only."""

from __future__ import annotations

import os
import signal
import typing as t

from ..files import read_kernel, read_text
from .store import NetworkFiles

if t.TYPE_CHECKING:
    from ...model.network_definition import Member, NetworkDefinition


def running(files: NetworkFiles) -> t.Optional[int]:
    """The pid of the network's dnsmasq; None when none runs. A pid alone says nothing: it is ours only when its command line has our file."""
    try:
        pid = int(read_text(files.dns_pid, max_bytes=64))
        words = read_kernel(f"/proc/{pid}/cmdline").split("\0")
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return pid if f"--conf-file={files.dns_config}" in words else None


def reload(files: NetworkFiles) -> bool:
    """Has it read leases and names again. False when none runs: it reads them when it starts."""
    pid = running(files)
    if pid is None:
        return False
    try:
        os.kill(pid, signal.SIGHUP)
    except ProcessLookupError:
        return False
    return True


def release(network: NetworkDefinition, gone: t.Sequence[Member]) -> None:
    """Tells it that these no longer have their addresses: it gives none to another while it believes that."""
