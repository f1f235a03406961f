# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identity of the code that a runtime is made from. Standard library only, and no import of ours: the role C(vmcp_host) uses this file on the
controller, outside of any module.

A runtime is C(/opt/vmcp/runtime/VERSION-HASH/): C(lib/) (the libraries of requirements.txt and a byte-compiled copy of module_utils) and C(RUNTIME.json),
C({"collection_version": …, "hash": …, "python": "3.11"}). A module that runs cannot compute the hash, because Ansible sends it no more of module_utils than
it imports: the action plugin tells it (C(plugin_utils/delivery)).
"""

from __future__ import annotations

import hashlib
import pathlib

LENGTH = 16


def contents(module_utils: pathlib.Path) -> dict[str, bytes]:
    """Every C(*.py) below this directory: relative path to content, sorted by path."""
    found = {path.relative_to(module_utils).as_posix(): path.read_bytes() for path in module_utils.rglob("*.py")}
    return dict(sorted(found.items()))


def runtime_hash(files: dict[str, bytes]) -> str:
    """The first 16 hexadecimal digits of SHA-256 over paths and contents."""
    digest = hashlib.sha256()
    for path, content in files.items():
        # The lengths keep "ab" + "c" and "a" + "bc" apart.
        digest.update(f"{len(path)}:{path}{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()[:LENGTH]
