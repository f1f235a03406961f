# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The code that a host keeps: where a task finds it, what it does not trust, and what becomes of old code."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils import kept_code, runtime_hash
from ansible_collections.unkey.vmcp.plugins.module_utils.model.words import COLLECTION_VERSION
from ansible_collections.unkey.vmcp.plugins.plugin_utils.delivery import PACKAGE, archive_of

ROOT = pathlib.Path(__file__).resolve().parents[2]
UTILS = ROOT / "plugins" / "module_utils"
# What Ansible brings with each task.
THIN = ("argument_specs.py", "bootstrap.py", "call.py", "errors.py", "kept_code.py", "runtime.py", "model/words.py")
CODE = runtime_hash.contents(UTILS)
DIGEST = runtime_hash.runtime_hash(CODE)

# A task's way to its core, in a process of its own: find it, and say where the core came from. Nothing is told: "silent".
TASK = """
import importlib, sys
from ansible_collections.unkey.vmcp.plugins.module_utils import kept_code, runtime
digest, archive, keep, cache, runtimes = sys.argv[1:]
kept_code.SYSTEM_CACHE = cache
told = []
found = runtime.find_code(digest, archive or None, keep == "keep", told.append, runtimes)
print(found, "; ".join(told) or "silent")
if found:
    core = importlib.import_module("ansible_collections.unkey.vmcp.plugins.module_utils.runner.info")
    print(core.__file__)
    print(core.__cached__ if core.__cached__ and __import__("os").path.exists(core.__cached__) else "not compiled")
"""


@pytest.fixture
def place(tmp_path: pathlib.Path) -> pathlib.Path:
    """C(sent/): what a task brings; C(code.zip): the archive; C(cache/): what the host keeps."""
    for name in THIN:
        target = tmp_path / "sent" / PACKAGE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(UTILS / name, target)
        (target.parent / "__init__.py").touch()
    for parent in ("", "unkey", "unkey/vmcp", "unkey/vmcp/plugins"):
        (tmp_path / "sent" / "ansible_collections" / parent / "__init__.py").touch()
    (tmp_path / "code.zip").write_bytes(archive_of(CODE))
    return tmp_path


def run(place: pathlib.Path, *, archive: bool = False, keep: bool = True, digest: str = DIGEST, home: str = "home") -> list[str]:
    environ = {"PYTHONPATH": str(place / "sent"), "PATH": os.environ["PATH"], "HOME": str(place / home), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [digest, str(place / "code.zip") if archive else "", "keep" if keep else "", str(place / "cache"), str(place / "opt")]
    done = subprocess.run([sys.executable, "-c", TASK, *words], env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def kept_in(place: pathlib.Path) -> pathlib.Path:
    base = place / "cache" if os.geteuid() == 0 else place / "home" / ".cache" / "vmcp" / "code"
    return base / f"{COLLECTION_VERSION}-{DIGEST}-{sys.implementation.cache_tag}"


def test_without_code_a_task_says_so_and_leaves_nothing(place: pathlib.Path) -> None:
    assert run(place) == ["False silent"]
    assert sorted(path.name for path in place.iterdir()) == ["code.zip", "sent"]


def test_what_is_brought_once_is_there_compiled_for_later_tasks(place: pathlib.Path) -> None:
    expected = kept_in(place) / PACKAGE / "runner" / "info.py"
    first = run(place, archive=True)
    assert first[:2] == ["True silent", str(expected)]
    assert run(place) == first and first[2].endswith(".pyc")
    assert [path.name for path in kept_in(place).parent.iterdir()] == [kept_in(place).name]
    assert not [path for path in kept_in(place).rglob("*") if path.stat().st_mode & 0o022]


def test_check_mode_runs_from_the_archive_and_keeps_nothing(place: pathlib.Path) -> None:
    assert run(place, archive=True, keep=False)[:2] == ["True silent", str(place / "code.zip" / PACKAGE / "runner" / "info.py")]
    assert not (place / "cache").exists() and not (place / "home").exists()


def test_code_that_others_could_write_is_not_run(place: pathlib.Path) -> None:
    run(place, archive=True)
    kept_in(place).chmod(0o777)
    assert run(place) == ["False silent"]


def test_code_of_another_hash_is_not_run(place: pathlib.Path) -> None:
    run(place, archive=True)
    assert run(place, digest="0" * 16) == ["False silent"]


def test_where_it_cannot_be_kept_the_task_runs_all_the_same_and_says_why(place: pathlib.Path) -> None:
    base = place / ("cache" if os.geteuid() == 0 else "home")
    base.write_text("a file where a directory should be")
    found = run(place, archive=True)
    assert "could not be kept in" in found[0] and found[0].startswith("True ")
    assert found[1] == str(place / "code.zip" / PACKAGE / "runner" / "info.py")


def test_old_code_goes_when_new_code_comes_and_recent_code_stays(place: pathlib.Path) -> None:
    base = kept_in(place).parent
    for name, age_s in (("old", kept_code.OLD_AFTER_S + 60), ("recent", 3600)):
        (base / name).mkdir(parents=True)
        at = (base / name).stat().st_mtime - age_s
        os.utime(base / name, (at, at))
    run(place, archive=True)
    assert sorted(path.name for path in base.iterdir()) == sorted([kept_in(place).name, "recent"])


@pytest.mark.skipif(os.geteuid() != 0, reason="a runtime is used only when it is root's, and these tests do not run as root")
def test_an_installed_runtime_goes_before_what_is_kept(place: pathlib.Path) -> None:
    run(place, archive=True)
    runtime = place / "opt" / f"{COLLECTION_VERSION}-{DIGEST}"
    shutil.copytree(kept_in(place), runtime / "lib")
    (runtime / "RUNTIME.json").write_text(f'{{"python": "{sys.version_info[0]}.{sys.version_info[1]}"}}')
    assert run(place)[1] == str(runtime / "lib" / PACKAGE / "runner" / "info.py")
