# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection is built, installed from its archive into an empty directory, and used from there."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TIMEOUT_S = 600


def run(*command: str, cwd: pathlib.Path, collections: pathlib.Path) -> str:
    """One of Ansible's commands, away from the checkout (its ansible.cfg is not seen from C(cwd)) and from other collections."""
    binary = pathlib.Path(sys.executable).with_name(command[0])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment |= {"ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_LOCALHOST_WARNING": "false"}
    ended = subprocess.run([str(binary), *command[1:]], cwd=cwd, env=environment, check=False, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    work = tmp_path_factory.mktemp("build")
    run("ansible-galaxy", "collection", "build", str(ROOT), "--output-path", str(work), cwd=work, collections=work)
    (built,) = work.glob("unkey-vmcp-*.tar.gz")
    return built


@pytest.fixture(scope="module")
def installed(archive: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    collections = tmp_path_factory.mktemp("collections")
    run("ansible-galaxy", "collection", "install", "--offline", str(archive), "-p", str(collections), cwd=collections, collections=collections)
    return collections


def test_archive_holds_the_collection_and_nothing_of_the_workshop(archive: pathlib.Path) -> None:
    with tarfile.open(archive) as tar:
        names = set(tar.getnames())
    assert {
        "README.md",
        "meta/runtime.yml",
        "requirements.txt",
        "plugins/modules/vmcp_vm.py",
        "playbooks/quickstart.yml",
        "LICENSES/GPL-3.0-or-later.txt",
    } <= names
    workshop = (".git", ".venv", ".cache", "ansible_collections", "tests", "pyproject.toml")
    assert not [name for name in names if name.split("/")[0] in workshop or name.endswith((".pyc", "__pycache__"))]


def test_modules_are_documented_from_there(installed: pathlib.Path) -> None:
    names = sorted(f"unkey.vmcp.{path.stem}" for path in (ROOT / "plugins" / "modules").glob("*.py"))
    found = json.loads(run("ansible-doc", "--json", *names, cwd=installed, collections=installed))
    assert sorted(found) == names
    assert all(body["doc"]["options"] is not None and body["examples"] and body["return"] for body in found.values())


def test_module_runs_from_there(installed: pathlib.Path, tmp_path: pathlib.Path) -> None:
    arguments = json.dumps({"state_dir": str(tmp_path / "state")})
    text = run("ansible", "localhost", "-m", "unkey.vmcp.vmcp_vm_info", "-a", arguments, cwd=tmp_path, collections=installed)
    assert json.loads(text.partition("=>")[2])["vms"] == []
    assert not (tmp_path / "state").exists(), "looking makes nothing"


def test_playbook_runs_by_name(installed: pathlib.Path, tmp_path: pathlib.Path) -> None:
    listed = run("ansible-playbook", "--list-tasks", "unkey.vmcp.quickstart", cwd=tmp_path, collections=installed)
    assert "Boot the VM" in listed


def test_an_execution_environment_is_built_from_it(archive: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """All of ansible-builder's own work; what then happens in a container is the package managers' of its image."""
    for file in (ROOT / "execution-environment.yml", archive):
        shutil.copy(file, tmp_path)
    run("ansible-builder", "create", "--output-filename", "Containerfile", "--context", "context", cwd=tmp_path, collections=tmp_path)
    steps = (tmp_path / "context" / "Containerfile").read_text()
    assert "ARG PYCMD=" in steps and "ansible-core>=2.17" in steps
    # As the image's own steps install it there, and ask it for what it needs.
    build, collections = tmp_path / "context" / "_build", tmp_path / "collections"
    assert "COPY _build /build" in steps and "ansible-galaxy collection install" in steps
    run("ansible-galaxy", "collection", "install", "--offline", "-r", "requirements.yml", "-p", str(collections), cwd=build, collections=collections)
    words = ("--write-pip", str(tmp_path / "pip.txt"), "--write-bindep", str(tmp_path / "bindep.txt"))
    run("ansible-builder", "introspect", *words, str(collections), cwd=tmp_path, collections=collections)
    libraries = _named((tmp_path / "pip.txt").read_text())
    assert libraries == _named((ROOT / "requirements.txt").read_text()) and "pydantic" in libraries
    assert "openssh-clients" in _named((tmp_path / "bindep.txt").read_text())


def _named(text: str) -> set[str]:
    """What lines of requirements begin with."""
    return {re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in text.splitlines() if line and not line.startswith("#")}
