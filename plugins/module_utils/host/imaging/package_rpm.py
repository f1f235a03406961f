# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernels from packages of Red Hat's family: found and fetched by dnf, checked by rpmkeys, unpacked by rpm2cpio and cpio; nothing is installed.

Commands and options are those that dnf 4 and dnf 5 share. See C(package) for who calls, and for the same of Debian's family."""

from __future__ import annotations

import os
import platform

from ...errors import FailedPrecondition, NotFound
from ..files import os_errors, remove
from . import tools
from .work import Work

# A package without files that depends on the one with the kernel: kernel, kernel-core.
_CORE = "-core"
# dnf only checks what it installs. An unsigned package has good digests, too; only this asks for a signature of somebody whom rpm knows.
_CHECK = ("rpmkeys", "--define", "_pkgverify_level signature", "--define", "_pkgverify_flags 0x0", "--checksig")


def resolve(name: str, work: Work) -> tuple[str, str]:
    """As C(package.resolve)."""
    wanted = [name] if name.endswith(_CORE) else [name + _CORE, name]
    argv = ["dnf", "-q", "repoquery", "--latest-limit=1", f"--arch={platform.machine()}", "--qf", "%{name} %{evr}\\n", *wanted]
    said = tools.run(argv, work, f"asking for the package {name}")
    found = dict(line.split(" ", 1) for line in said.splitlines() if line.count(" ") == 1)
    for candidate in wanted:
        if candidate in found:
            return candidate, found[candidate]
    raise NotFound(f"dnf knows no package {name!r} for {platform.machine()}. Name one that 'dnf list \"kernel*\"' shows, or enable its repository.")


def update_lists(work: Work) -> None:
    tools.run(["dnf", "-q", "makecache", "--refresh"], work, "updating dnf's lists")


def download(package: str, version: str, directory: str, work: Work) -> None:
    """Into the empty directory. FailedPrecondition for a package that nobody has signed whom the host trusts."""
    argv = ["dnf", "-q", "-y", "download", f"--destdir={directory}", f"{package}-{version}.{platform.machine()}"]
    tools.run(argv, work, f"fetching the package {package}", cwd=directory)
    for name in sorted(os.listdir(directory)):
        try:
            tools.run([*_CHECK, name], work, f"checking the package {package}", cwd=directory)
        except FailedPrecondition as exc:
            # rpm says the reason to its output, in a line for each signature.
            keys = "rpm --import /etc/pki/rpm-gpg/RPM-GPG-KEY-..."
            raise FailedPrecondition(f"{exc.msg} The host's rpm does not trust it: import the distribution's key first ({keys}).", details=exc.details) from exc


def extract(archive: str, directory: str, name: str, work: Work) -> None:
    doing, cpio = f"unpacking the package {name}", work.path("payload")
    limits = tools.Limits(file=work.max_size)
    with os_errors(f"write {cpio}"), open(cpio, "w+b") as payload:
        tools.run(["rpm2cpio", archive], work, doing, limits=limits, stdout=payload)
        payload.seek(0)
        argv = ["cpio", "--extract", "--make-directories", "--preserve-modification-time", "--no-absolute-filenames", "--quiet"]
        tools.run(argv, work, doing, limits=limits, stdin=payload, cwd=directory)
    remove(cpio)
