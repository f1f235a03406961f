# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""./quickstart and ./test where something is missing: one sentence that says what, and what to do. Nothing is begun."""

from __future__ import annotations

import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What every system has, as far as the first steps use it.
BASIC = ("sh", "dirname", "id", "sed", "cat")


@pytest.fixture
def programs(tmp_path: pathlib.Path) -> pathlib.Path:
    """All that is on PATH."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in BASIC:
        found = shutil.which(name)
        assert found, name
        (directory / name).symlink_to(found)
    return directory


def refused(programs: pathlib.Path, *words: str) -> str:
    """The last words of a command that must fail, with what comes before its sentence taken off."""
    done = subprocess.run(
        [str(ROOT / words[0]), *words[1:]], env={"PATH": str(programs), "HOME": "/"}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    (sentence,) = done.stderr.strip().splitlines()
    assert sentence.startswith(f"{words[0]}: ")
    return sentence.removeprefix(f"{words[0]}: ")


@pytest.mark.parametrize("what", ["none", "too old"])
def test_without_a_python_that_is_new_enough(programs: pathlib.Path, what: str) -> None:
    if what == "too old":
        (programs / "python3").write_text("#!/bin/sh\nexit 1\n")
        (programs / "python3").chmod(0o755)
    for command in (("quickstart",), ("test", "unit")):
        said = refused(programs, *command)
        assert said.startswith("no Python 3.10 or newer was found; install one") and f"PYTHON=/path/to/python3 {ROOT / command[0]}" in said


def test_without_a_package_and_the_means_to_get_it(programs: pathlib.Path) -> None:
    said = refused(programs, "test", "lint")
    assert said == "this machine has no apt-get; install the equivalents of shellcheck by hand and run this again."


def test_without_root_and_sudo(programs: pathlib.Path) -> None:
    (programs / "id").unlink()
    (programs / "id").write_text("#!/bin/sh\necho 1000\n")
    (programs / "id").chmod(0o755)
    (programs / "apt-get").symlink_to("/bin/false")
    assert refused(programs, "test", "lint") == "the Debian packages shellcheck are missing; install them, or run this as root or with sudo installed."
    (programs / "python3").symlink_to("/bin/true")
    said = refused(programs, "quickstart")
    assert said == "this needs root to install packages and to run VMs under their own uids: run it as root, or install sudo."


def test_a_stage_that_there_is_not(programs: pathlib.Path) -> None:
    said = refused(programs, "test", "units")
    assert said.startswith("there is no stage 'units'; the stages are lint, docs, sanity, unit, contract, integration, molecule, fresh")
