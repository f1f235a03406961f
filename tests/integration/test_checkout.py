# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checkout works as a collection: ansible.cfg and the link that ./quickstart and ./test make."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_ad_hoc_command_in_the_checkout(tmp_path: pathlib.Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    command = [str(pathlib.Path(sys.executable).with_name("ansible")), "localhost", "-m", "unkey.vmcp.vmcp_vm_info"]
    arguments = ["-a", json.dumps({"state_dir": str(tmp_path / "state")})]
    ended = subprocess.run([*command, *arguments], cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert json.loads(ended.stdout.partition("=>")[2])["vms"] == []
