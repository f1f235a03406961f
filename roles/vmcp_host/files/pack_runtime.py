# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the controller: C(pack_runtime.py PLUGINS) prints C(VERSION-HASH) of the collection's module_utils; C(pack_runtime.py PLUGINS ARCHIVE)
also packs them, with requirements.txt and the manifest, for C(build_runtime.py) on the host. Standard library only."""

from __future__ import annotations

import io
import json
import pathlib
import runpy
import sys
import tarfile

PACKAGE = "lib/ansible_collections/unkey/vmcp/plugins/module_utils"


def main(plugins: pathlib.Path, archive: str | None) -> None:
    module_utils = plugins / "module_utils"
    identity = runpy.run_path(str(module_utils / "runtime_hash.py"))
    version = runpy.run_path(str(module_utils / "model" / "words.py"))["COLLECTION_VERSION"]
    files = identity["contents"](module_utils)
    digest = identity["runtime_hash"](files)
    print(f"{version}-{digest}")
    if archive is None:
        return
    manifest = {"collection_version": version, "hash": digest}
    members = {f"{PACKAGE}/{path}": content for path, content in files.items()}
    members["requirements.txt"] = (plugins.parent / "requirements.txt").read_bytes()
    members["RUNTIME.json"] = json.dumps(manifest, indent=2, sort_keys=True).encode()
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(content))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
