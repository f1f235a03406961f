# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection as a project: its files agree with each other."""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
import subprocess
import sys

import pytest
import yaml

from ansible_collections.unkey.vmcp.plugins.module_utils import runtime_hash
from ansible_collections.unkey.vmcp.plugins.module_utils.model.words import COLLECTION_VERSION

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("*.py"))
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())


def load(path: str) -> dict[str, object]:
    body = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
    assert isinstance(body, dict)
    return body


def test_version_is_one() -> None:
    assert load("galaxy.yml")["version"] == COLLECTION_VERSION


def test_action_group_has_every_module() -> None:
    groups = load("meta/runtime.yml")["action_groups"]
    assert isinstance(groups, dict)
    assert sorted(groups["vmcp"]) == MODULES


def test_requirements_are_the_libraries_that_the_code_imports() -> None:
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    libraries = {re.split(r"[<>=]", line)[0] for line in text.splitlines() if line and not line.startswith("#")}
    assert libraries == {"httpx", "pycdlib", "pydantic", "pyroute2", "qemu.qmp"}


@pytest.mark.parametrize("role", ROLES)
def test_role_is_described(role: str) -> None:
    assert (ROOT / "roles" / role / "README.md").read_text(encoding="utf-8").count(f"unkey.vmcp.{role}")
    assert "main" in load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]  # type: ignore[operator]


def test_readme_commands_exist_and_run() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("quickstart", "test"):
        assert f"./{command}" in readme
        assert os.access(ROOT / command, os.X_OK)


def test_ci_calls_the_test_command() -> None:
    assert "./test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


class TestRuntimeHash:
    @pytest.fixture
    def tree(self, tmp_path: pathlib.Path) -> pathlib.Path:
        (tmp_path / "model").mkdir()
        (tmp_path / "b.py").write_bytes(b"b")
        (tmp_path / "model" / "a.py").write_bytes(b"aa")
        (tmp_path / "notes.txt").write_bytes(b"not code")
        return tmp_path

    def test_is_of_sorted_paths_and_contents_of_python_files(self, tree: pathlib.Path) -> None:
        expected = hashlib.sha256(b"4:b.py1:b" + b"10:model/a.py2:aa").hexdigest()[:16]
        assert runtime_hash.runtime_hash(runtime_hash.contents(tree)) == expected

    @pytest.mark.parametrize("change", [lambda tree: (tree / "b.py").write_bytes(b"c"), lambda tree: (tree / "b.py").rename(tree / "c.py")])
    def test_changes_with_content_and_name(self, tree: pathlib.Path, change: object) -> None:
        before = runtime_hash.runtime_hash(runtime_hash.contents(tree))
        change(tree)  # type: ignore[operator]
        assert runtime_hash.runtime_hash(runtime_hash.contents(tree)) != before

    def test_role_computes_the_same(self) -> None:
        pack = ROOT / "roles" / "vmcp_host" / "files" / "pack_runtime.py"
        printed = subprocess.run([sys.executable, str(pack), str(ROOT / "plugins")], check=True, capture_output=True, text=True, timeout=300).stdout.strip()
        assert printed == f"{COLLECTION_VERSION}-{runtime_hash.runtime_hash(runtime_hash.contents(ROOT / 'plugins' / 'module_utils'))}"


def test_no_two_test_files_have_the_same_name() -> None:
    # pytest imports them by their names alone, and refuses the second when all suites run at once.
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
