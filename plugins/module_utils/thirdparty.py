# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place where libraries outside the standard library are imported.

Each getter imports on first use, so that a task which has nothing to do never pays for a library. Pydantic is different: models are classes, so
C(thirdparty_pydantic) offers the names with inert stand-ins where the library is missing, because C(ansible-test sanity) loads
every file without it. The bootstrap refuses to run with stand-ins.
"""

from __future__ import annotations

import contextlib
import types
import typing as t

from .errors import FailedPrecondition

REMEDY = (
    "Install it for the Python interpreter that runs the modules ('pip install -r requirements.txt' of this collection), "
    "or apply the role unkey.vmcp.vmcp_host, which installs the collection's own runtime."
)

# Library -> what does not work without it; those of requirements.txt.
NEEDED_FOR = {
    "httpx": "Cloud Hypervisor and Firecracker",
    "pycdlib": "cloud_init",
    "pydantic": "every change of VMs, disks and networks",
    "pyroute2": "networks",
    "qemu.qmp": "QEMU",
}


@contextlib.contextmanager
def _needed(library: str) -> t.Iterator[None]:
    try:
        yield
    except ImportError as exc:
        raise FailedPrecondition(f"The Python library {library} is missing on this host. {REMEDY}") from exc


def httpx() -> types.ModuleType:
    """The httpx library. Raises FailedPrecondition with the remedy where it is missing."""
    with _needed("httpx"):
        import httpx as library
    return library


def qemu_qmp() -> types.ModuleType:
    """The qemu.qmp library. Raises FailedPrecondition with the remedy where it is missing."""
    with _needed("qemu.qmp"):
        import qemu.qmp as library
    return library


def pyroute2() -> types.ModuleType:
    """The pyroute2 library. Raises FailedPrecondition with the remedy where it is missing."""
    with _needed("pyroute2"):
        import pyroute2 as library
    return library


def pycdlib() -> types.ModuleType:
    """The pycdlib library, which writes ISO file systems. Raises FailedPrecondition with the remedy where it is missing."""
    with _needed("pycdlib"):
        import pycdlib as library
        import pycdlib.pycdlibexception
    return library
