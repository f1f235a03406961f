# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual environments with packages of their own, for tests. Made once, and kept in UNKEY_VMCP_TEST_CACHE, or in a directory of the user's below the
temporary directory."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import typing as t

from ansible_collections.unkey.vmcp.tests.kept import alone

INSTALL_S = 600


class VenvUnavailable(Exception):
    """There can be none here; the text is the true reason, for pytest.skip."""


ROOT = pathlib.Path(__file__).resolve().parents[1]
SYSTEM_PYTHON = "/usr/bin/python3"


def venv(packages: t.Sequence[str], requirements: pathlib.Path) -> pathlib.Path:
    """The Python of an environment with these packages and those of the file. Its programs are run by it: C([python, python.with_name("ansible")])."""
    cache = pathlib.Path(os.environ.get("UNKEY_VMCP_TEST_CACHE") or pathlib.Path(tempfile.gettempdir(), f"vmcp-test-cache-{os.getuid()}"))
    return _kept(cache, 0o700, sys.executable, packages, requirements)


@functools.cache
def python_for_others() -> str:
    """A Python that other users can run too, with Ansible and what the modules need: ours; or, where ours lies in a closed home, an environment of the
    system's Python in a directory of its own."""
    lack = closed_part(pathlib.Path(sys.executable).resolve()) or closed_part(pathlib.Path(sys.executable).parent)
    if lack is None:
        return sys.executable
    closed = closed_part(ROOT) or closed_part(pathlib.Path(SYSTEM_PYTHON).resolve())
    if closed:
        raise VenvUnavailable(f"{closed} is closed to other users")
    cache = pathlib.Path(tempfile.gettempdir(), f"vmcp-test-open-{os.getuid()}")
    ansible = f"ansible-core=={importlib.metadata.version('ansible-core')}"
    return str(_kept(cache, 0o755, SYSTEM_PYTHON, [ansible], ROOT / "requirements.txt"))


def closed_part(path: pathlib.Path) -> pathlib.Path | None:
    """The part of a path that other users cannot read or pass."""
    for part in (path, *path.parents):
        if not part.exists() or not part.stat().st_mode & (0o001 if part.is_dir() else 0o004):
            return part
    return None


def _kept(cache: pathlib.Path, mode: int, base: str, packages: t.Sequence[str], requirements: pathlib.Path) -> pathlib.Path:
    cache.mkdir(mode=mode, parents=True, exist_ok=True)
    if cache.stat().st_uid != os.getuid():
        raise VenvUnavailable(f"{cache} belongs to somebody else; set UNKEY_VMCP_TEST_CACHE to a directory of your own")
    wanted = "\n".join([sys.version, base, *sorted(packages), requirements.read_text(encoding="utf-8")])
    made = cache / f"venv-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    with alone(cache):
        if not made.exists():
            unfinished = pathlib.Path(tempfile.mkdtemp(prefix="unfinished-", dir=cache))
            try:
                _make(unfinished, base, packages, requirements)
                unfinished.chmod(mode)
                unfinished.rename(made)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return made / "bin" / "python"


def _make(directory: pathlib.Path, base: str, packages: t.Sequence[str], requirements: pathlib.Path) -> None:
    # By our pip: the system's Python may have none.
    pip = [sys.executable, "-m", "pip", "--python", str(directory / "bin" / "python"), "install", "--quiet", "--disable-pip-version-check"]
    install = [*pip, "--retries", "1", "--timeout", "20", "--requirement", str(requirements), *packages]
    for command in ([base, "-m", "venv", "--without-pip", str(directory)], install):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False, errors="replace")
        except subprocess.TimeoutExpired as exc:
            raise VenvUnavailable(f"{' '.join(packages)} were not installed within {INSTALL_S} s") from exc
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise VenvUnavailable(f"{' '.join(packages)} cannot be installed: {said[-1] if said else f'code {done.returncode}'}")
