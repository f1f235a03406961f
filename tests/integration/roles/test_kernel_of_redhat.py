# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How vmcp_kernel finds the kernel of Red Hat's family. dnf is a stand-in that answers as its manual says: no host of that family was at hand. What
vmcp_image makes of the package is tested in tests/unit/host/imaging/test_package_rpm.py."""

from __future__ import annotations

import json
import os
import pathlib
import platform
import subprocess
import sys

import pytest

from ansible_collections.unkey.vmcp.tests.venvs import ROOT

RELEASE = f"5.14.0-570.el9.{platform.machine()}"
# With -C it knows what it has fetched; of a package that it does not know it says nothing.
DNF = f"""#!/bin/sh
here=$(dirname "$0")
echo "$*" >> "$here/asked"
case $* in
    *makecache*) : > "$here/lists" ;;
    *-C*repoquery*)
        [ -e "$here/lists" ] || {{ echo 'Error: Cache-only enabled but no cache for repository' >&2; exit 1; }}
        for word; do case $word in kernel|kernel-core) echo "$word {RELEASE}" ;; esac; done ;;
    *) echo "No such command: $*" >&2; exit 2 ;;
esac
"""
PLAY = [
    {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": sys.executable},
        "tasks": [
            # 'cacheable' makes facts of them, as if the host had been looked at.
            {"ansible.builtin.set_fact": {"os_family": "RedHat", "distribution": "Rocky", "architecture": platform.machine(), "cacheable": True}},
            {"ansible.builtin.include_role": {"name": "unkey.vmcp.vmcp_kernel", "tasks_from": "package.yml", "public": True}},
            {
                "ansible.builtin.copy": {
                    "dest": "{{ outcome }}",
                    "mode": "0600",
                    "content": "{{ {'package': vmcp_kernel__package, 'directory': vmcp_kernel__predicted | trim} | to_json }}",
                },
                "check_mode": False,
            },
        ],
    }
]


@pytest.fixture
def dnf(tmp_path: pathlib.Path) -> pathlib.Path:
    program = tmp_path / "bin" / "dnf"
    program.parent.mkdir()
    program.write_text(DNF)
    program.chmod(0o755)
    return program.parent


def asked(dnf: pathlib.Path, *words: str) -> subprocess.CompletedProcess[str]:
    book = dnf.parent / "play.json"
    book.write_text(json.dumps(PLAY))
    environment = {
        **os.environ,
        "PATH": f"{dnf}:{os.environ['PATH']}",
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_NOCOLOR": "1",
    }
    ansible = pathlib.Path(sys.executable).with_name("ansible-playbook")
    command = [sys.executable, str(ansible), "-i", "localhost,", str(book), "-e", f"outcome={dnf.parent / 'outcome'}", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)


def test_the_package_with_the_kernel_is_found_once_there_are_lists(dnf: pathlib.Path) -> None:
    done = asked(dnf, "--check")
    assert done.returncode == 0, done.stdout
    assert json.loads((dnf.parent / "outcome").read_text()) == {"package": "", "directory": ""}
    assert not (dnf / "lists").exists(), "check mode fetches nothing"
    done = asked(dnf)
    assert done.returncode == 0, done.stdout
    found = json.loads((dnf.parent / "outcome").read_text())
    assert found == {"package": "kernel-core", "directory": f"/opt/vmcp/kernels/rocky/{RELEASE}"}
    assert (dnf / "asked").read_text().count("makecache") == 1
    asked(dnf)
    assert (dnf / "asked").read_text().count("makecache") == 1, "what is known is not fetched again"


def test_a_package_that_dnf_does_not_know_is_refused_by_name(dnf: pathlib.Path) -> None:
    done = asked(dnf, "-e", json.dumps({"vmcp_kernel_packages": ["kernel-of-nobody"]}))
    assert done.returncode != 0
    assert "dnf knows none of kernel-of-nobody. Name another package in vmcp_kernel_packages" in done.stdout
