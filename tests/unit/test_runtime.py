# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the libraries come from, in an interpreter that has none of its own: such as runs many tasks under Mitogen."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys

import pydantic
import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils import runtime, thirdparty
from ansible_collections.unkey.vmcp.plugins.module_utils.model.words import COLLECTION_VERSION

ROOT = pathlib.Path(__file__).resolve().parents[2]
ours_alone = pytest.mark.skipif(os.geteuid() != 0, reason="a runtime is used only when it is root's, and these tests do not run as root")

# What two tasks in one interpreter do, before and after the role has made a runtime.
TASKS = """
import importlib, sys
base = sys.argv[1]
package = "ansible_collections.unkey.vmcp.plugins.module_utils"
from ansible_collections.unkey.vmcp.plugins.module_utils import errors, runtime
from ansible_collections.unkey.vmcp.plugins.module_utils.model import config, validate
assert not importlib.import_module(package + ".thirdparty_pydantic").HAS_PYDANTIC
runtime.lend_libraries(base + "/none")
runtime.forget_stand_ins()
assert sys.modules[package + ".model.config"] is config, "nothing has changed yet"

before = list(sys.path)
runtime.lend_libraries(base)
runtime.forget_stand_ins()
print("added", [path for path in sys.path if path not in before])
from ansible_collections.unkey.vmcp.plugins.module_utils.model import validate
tree = {"cpu": {"vcpu_count": "two"}}
print(importlib.import_module(package + ".thirdparty_pydantic").HAS_PYDANTIC, validate.validate(tree)[1][0].field)
assert sys.modules[package + ".errors"] is errors, "the bootstrap catches these"
"""


def make_runtime(base: pathlib.Path, python: str) -> pathlib.Path:
    directory = base / f"{COLLECTION_VERSION}-0123456789abcdef"
    directory.mkdir(parents=True)
    (directory / "lib").symlink_to(pathlib.Path(pydantic.__file__).parents[1])
    (directory / "RUNTIME.json").write_text(json.dumps({"python": python, "interpreter": sys.executable}))
    return directory


def two_tasks(base: pathlib.Path) -> subprocess.CompletedProcess[str]:
    # -S: without the libraries of this interpreter.
    environ = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.environ["PATH"]}
    return subprocess.run([sys.executable, "-S", "-c", TASKS, str(base)], env=environ, capture_output=True, text=True, timeout=300, check=False)


@ours_alone
def test_a_runtime_of_other_code_lends_its_libraries_also_to_models_that_were_loaded_without(tmp_path: pathlib.Path) -> None:
    made = make_runtime(tmp_path, f"{sys.version_info[0]}.{sys.version_info[1]}")
    done = two_tasks(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"added ['{made}/lib']", "True config.cpu.vcpu_count"]


@ours_alone
def test_a_runtime_for_another_python_lends_nothing(tmp_path: pathlib.Path) -> None:
    make_runtime(tmp_path, "2.7")
    done = two_tasks(tmp_path)
    assert "added []" in done.stdout, done.stderr


def test_a_library_is_looked_for_without_being_imported() -> None:
    assert [name for name in thirdparty.NEEDED_FOR if not runtime.is_installed(name)] == []
    assert not any(runtime.is_installed(name) for name in ("qemu.nothing_of_ours", "nothing_of_ours.qmp", "nothing_of_ours"))


def test_every_library_that_is_required_is_known_with_what_needs_it() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    required = [re.split("[<>=]", line)[0] for line in lines if line and not line.startswith("#")]
    assert required == list(thirdparty.NEEDED_FOR)
