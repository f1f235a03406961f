# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runtime that the role vmcp_host builds says for which Python it is, and where that is: a task of another Python is handed to it."""

from __future__ import annotations

import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile

from ansible_collections.unkey.vmcp.plugins.module_utils import runtime
from ansible_collections.unkey.vmcp.plugins.module_utils.model.words import COLLECTION_VERSION

BUILD = pathlib.Path(__file__).resolve().parents[3] / "roles/vmcp_host/files/build_runtime.py"


def test_another_python_finds_the_one_that_has_the_libraries(tmp_path: pathlib.Path) -> None:
    archive = tmp_path / "runtime.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, body in (("requirements.txt", b""), ("RUNTIME.json", b"{}"), ("lib/ours.py", b"")):
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    base = tmp_path / "runtime"
    base.mkdir()
    target = base / f"{COLLECTION_VERSION}-0123"
    subprocess.run([sys.executable, str(BUILD), str(archive), str(target)], check=True, timeout=300)
    said = json.loads((target / "RUNTIME.json").read_text())
    assert said == {"python": f"{sys.version_info[0]}.{sys.version_info[1]}", "interpreter": sys.executable}
    if os.geteuid() == 0:
        assert runtime.matching_elsewhere(str(base)) is None, "it is our own"
        (target / "RUNTIME.json").write_text(json.dumps({**said, "interpreter": "/bin/sh"}))
        assert runtime.matching_elsewhere(str(base)) == "/bin/sh"
