# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian repository of a few packages and all that they depend on, for hosts without the Internet. Downloaded once and kept beside the trees."""

from __future__ import annotations

import gzip
import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import typing as t

from ansible_collections.unkey.vmcp.tests.hosts.nspawn import HostUnavailable
from ansible_collections.unkey.vmcp.tests.kept import alone

DOWNLOAD_S = 900


def repository(tree: pathlib.Path, furnished: t.Sequence[str], wanted: t.Sequence[str], target: pathlib.Path) -> None:
    """Makes C(target) a link to the repository for hosts made from C(tree); apt takes it as C(deb [trusted=yes] URL ./)."""
    name = hashlib.sha256(" ".join([tree.name, *sorted(furnished), *sorted(wanted)]).encode()).hexdigest()[:12]
    kept = tree.parent / f"debian-{name}"
    with alone(tree.parent):
        if not kept.exists():
            unfinished = pathlib.Path(tempfile.mkdtemp(prefix="unfinished-", dir=tree.parent))
            try:
                _download(tree, wanted, unfinished)
                _index(unfinished)
                unfinished.chmod(0o755)
                unfinished.rename(kept)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    target.symlink_to(kept)


def _download(tree: pathlib.Path, wanted: t.Sequence[str], into: pathlib.Path) -> None:
    """By this machine's apt, which can reach Debian, with the tree's list of what is installed; the tree itself is not touched."""
    for directory in ("lists/partial", "archives/partial"):
        (into / directory).mkdir(parents=True)
    options = {
        "Dir::State::status": tree / "var/lib/dpkg/status",
        "Dir::State::lists": into / "lists",
        "Dir::Cache::archives": into / "archives",
        "Dir::Etc::sourcelist": tree / "etc/apt/sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::trustedparts": tree / "etc/apt/trusted.gpg.d",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": "true",
    }
    words = [f"-o{key}={value}" for key, value in options.items()]
    for command in (["update"], ["install", "--download-only", "--yes", *wanted]):
        done = subprocess.run(
            ["apt-get", "-qq", *words, *command],
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_S,
            check=False,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )
        if done.returncode != 0:
            raise HostUnavailable(f"apt-get {command[0]} of {', '.join(wanted)} failed: {(done.stderr or done.stdout).strip()[-300:]}")
    for archive in (into / "archives").glob("*.deb"):
        archive.rename(into / archive.name.replace("%3a", "_"))
    shutil.rmtree(into / "archives")
    shutil.rmtree(into / "lists")


def _index(directory: pathlib.Path) -> None:
    entries = []
    for archive in sorted(directory.glob("*.deb")):
        fields = subprocess.run(["dpkg-deb", "--field", str(archive)], capture_output=True, text=True, timeout=60, check=True).stdout.strip()
        body = archive.read_bytes()
        entries.append(f"{fields}\nFilename: ./{archive.name}\nSize: {len(body)}\nSHA256: {hashlib.sha256(body).hexdigest()}\n")
    text = "\n".join(entries).encode()
    (directory / "Packages").write_bytes(text)
    (directory / "Packages.gz").write_bytes(gzip.compress(text))
    digest = hashlib.sha256(text).hexdigest()
    (directory / "Release").write_text(f"Suite: fleet\nDate: Sun, 01 Jan 2023 00:00:00 UTC\nSHA256:\n {digest} {len(text)} Packages\n")
