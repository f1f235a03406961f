# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual environments with packages of their own, for tests. Made once, and kept in UNKEY_VMCP_TEST_CACHE, or in a directory of the user's below the
temporary directory."""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import typing as t

INSTALL_S = 600


class VenvUnavailable(Exception):
    """There can be none here; the text is the true reason, for pytest.skip."""


def venv(packages: t.Sequence[str], requirements: pathlib.Path) -> pathlib.Path:
    """The Python of an environment with these packages and those of the file. Its programs are run by it: C([python, python.with_name("ansible")])."""
    wanted = "\n".join([sys.version, *sorted(packages), requirements.read_text(encoding="utf-8")])
    cache = pathlib.Path(os.environ.get("UNKEY_VMCP_TEST_CACHE") or pathlib.Path(tempfile.gettempdir(), f"vmcp-test-cache-{os.getuid()}"))
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    if cache.stat().st_uid != os.getuid():
        raise VenvUnavailable(f"{cache} belongs to somebody else; set UNKEY_VMCP_TEST_CACHE to a directory of your own")
    made = cache / f"venv-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"
    if not made.exists():
        unfinished = pathlib.Path(tempfile.mkdtemp(prefix="unfinished-", dir=cache))
        try:
            _make(unfinished, packages, requirements)
            unfinished.rename(made)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return made / "bin" / "python"


def _make(directory: pathlib.Path, packages: t.Sequence[str], requirements: pathlib.Path) -> None:
    python = str(directory / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "20"]
    for command in ([sys.executable, "-m", "venv", str(directory)], [*pip, "--requirement", str(requirements), *packages]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False, errors="replace")
        except subprocess.TimeoutExpired as exc:
            raise VenvUnavailable(f"{' '.join(packages)} were not installed within {INSTALL_S} s") from exc
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise VenvUnavailable(f"{' '.join(packages)} cannot be installed: {said[-1] if said else f'code {done.returncode}'}")
