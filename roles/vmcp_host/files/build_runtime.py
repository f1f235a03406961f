# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the host, as root, with the Python that the runtime is for: C(build_runtime.py ARCHIVE TARGET). Standard library only.

The runtime is built beside its place and renamed there, so that no module ever sees half of one.
"""

from __future__ import annotations

import compileall
import contextlib
import json
import os
import pathlib
import py_compile
import shutil
import subprocess
import sys
import tarfile
import tempfile

PIP_TIMEOUT_S = 900


def install_libraries(requirements: pathlib.Path, lib: pathlib.Path, work: pathlib.Path) -> None:
    """By the pip of this Python, or by one in a virtual environment that is thrown away."""
    python = sys.executable
    if subprocess.run([python, "-m", "pip", "--version"], check=False, capture_output=True, timeout=60).returncode != 0:
        subprocess.run([python, "-m", "venv", str(work / "venv")], check=True, timeout=300)
        python = str(work / "venv" / "bin" / "python")
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-compile", "--only-binary", ":all:", "--prefer-binary"]
    command = [python, "-m", "pip", "install", *options, "--target", str(lib), "--requirement", str(requirements)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PIP_TIMEOUT_S)
    if ended.returncode != 0:
        sys.exit(f"pip could not install the libraries of the runtime. Can this host reach the package index that its pip is set to?\n{ended.stderr[-2000:]}")


def replace(built: pathlib.Path, target: pathlib.Path) -> None:
    """A runtime of this name that is there was made for another Python: it goes first."""
    old = built.with_name("old")
    with contextlib.suppress(FileNotFoundError):
        target.rename(old)
    built.rename(target)


def main(archive: str, target: pathlib.Path) -> None:
    os.umask(0o022)
    work = pathlib.Path(tempfile.mkdtemp(prefix=".building-", dir=target.parent))
    try:
        built = work / "runtime"
        built.mkdir()
        with tarfile.open(archive) as tar:
            for member in tar:
                content = tar.extractfile(member)
                if content is not None:
                    path = built / member.name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content.read())
        lib = built / "lib"
        install_libraries(built / "requirements.txt", lib, work)
        # pip writes commands for people; nobody calls them here.
        shutil.rmtree(lib / "bin", ignore_errors=True)
        # Without a check of the source at every import: the directory's name says what it was made from.
        compileall.compile_dir(lib, quiet=2, stripdir=str(built), prependdir=str(target), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
        manifest = built / "RUNTIME.json"
        body = json.loads(manifest.read_text(encoding="utf-8"))
        body["python"] = f"{sys.version_info[0]}.{sys.version_info[1]}"
        # Tasks of another Python that lacks the libraries are handed to it.
        body["interpreter"] = sys.executable
        manifest.write_text(json.dumps(body, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        replace(built, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
