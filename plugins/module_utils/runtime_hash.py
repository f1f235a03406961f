# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identity of the code that a runtime was made from. Standard library only, and no import of ours: the role C(vmcp_host) runs this file as a program
on the controller, before there is anything on the host.

A runtime is C(/opt/vmcp/runtime/VERSION-HASH/): C(lib/) (the libraries of requirements.txt and a byte-compiled copy of module_utils) and C(RUNTIME.json),
C({"collection_version": …, "hash": …, "python": "3.11", "files": {PATH: CRC32}}).

A running module has not all of module_utils but the part that Ansible packed for it, in a zip, so it cannot compute the hash. It compares what it was
sent instead: C(agrees_with) needs the zip's directory alone, which has the CRC-32 of every file. This tells versions apart, nothing more: whoever
can write below C(/opt/vmcp) is root already.
"""

from __future__ import annotations

import hashlib
import pathlib
import sys
import typing as t
import zipfile
import zlib

LENGTH = 16
IN_ZIP = "ansible_collections/unkey/vmcp/plugins/module_utils/"


def _contents(module_utils: pathlib.Path) -> dict[str, bytes]:
    found = {path.relative_to(module_utils).as_posix(): path.read_bytes() for path in module_utils.rglob("*.py")}
    return dict(sorted(found.items()))


def runtime_hash(module_utils: pathlib.Path) -> str:
    """The first 16 hexadecimal digits of SHA-256 over the relative paths and contents, sorted by path, of all C(*.py) below this directory."""
    digest = hashlib.sha256()
    for path, content in _contents(module_utils).items():
        # The lengths keep "ab" + "c" and "a" + "bc" apart.
        digest.update(f"{len(path)}:{path}{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()[:LENGTH]


def crc32_of_files(module_utils: pathlib.Path) -> dict[str, int]:
    """Relative path to CRC-32: what C(RUNTIME.json) keeps under C(files)."""
    return {path: zlib.crc32(content) for path, content in _contents(module_utils).items()}


def agrees_with(archive: str, files: t.Mapping[str, int]) -> bool:
    """Whether every file of module_utils in this zip is the one recorded in C(files).

    Empty files do not count: Ansible invents C(__init__.py) where there is none.
    """
    with zipfile.ZipFile(archive) as bundle:
        sent = {e.filename[len(IN_ZIP) :]: e.CRC for e in bundle.infolist() if e.filename.startswith(IN_ZIP) and e.filename.endswith(".py") and e.file_size}
    return bool(sent) and all(files.get(path) == crc for path, crc in sent.items())


if __name__ == "__main__":
    print(runtime_hash(pathlib.Path(sys.argv[1])))
