# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The VMMs of the end-to-end tests: real where they can be, else the strict fakes on PATH. Decided once, and said at the end of the test run."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import shutil
import sys
import tempfile
import typing as t

from ansible_collections.unkey.vmcp.tests.fakes import ch_remote, cloudhypervisor, firecracker

_NEEDED = {"qemu": (f"qemu-system-{os.uname().machine}",), "firecracker": ("firecracker", "jailer"), "cloudhypervisor": ("cloud-hypervisor", "ch-remote")}


@dataclasses.dataclass(frozen=True)
class Vmm:
    """C(path): directories that come before PATH. C(options): what tasks need with it (a fake cannot be jailed). C(why): a sentence for the test's output."""

    backend: str
    real: bool
    why: str
    path: tuple[str, ...] = ()
    options: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)

    @property
    def id(self) -> str:
        return f"{self.backend}-{'real' if self.real else 'fake'}"


def _lack(backend: str) -> str | None:
    """Why the real VMM cannot be run; None when it can."""
    missing = [name for name in _NEEDED[backend] if shutil.which(name) is None]
    if missing:
        return f"there is no {' and no '.join(missing)} on PATH"
    if backend == "qemu":
        return None
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError as exc:
        return f"/dev/kvm does not open: {exc.strerror}"
    return None


@functools.cache
def vmm(backend: str) -> Vmm:
    lack = _lack(backend)
    if lack is None:
        return Vmm(backend, True, f"the real {shutil.which(_NEEDED[backend][0])}")
    if backend == "qemu":
        return Vmm(backend, False, f"nothing, because {lack}")
    directory = _fakes()
    return Vmm(backend, False, f"the fake of tests/fakes, because {lack}", (directory,), {"security": {"jail": False}})


@functools.cache
def _fakes() -> str:
    """A directory with the fakes under the names of the real ones, for this run of pytest."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="vmcp-fakes-"))
    directory.chmod(0o755)
    for fake in (firecracker, cloudhypervisor, ch_remote):
        fake.install(directory)
    return str(directory)


def forget_fakes() -> None:
    if _fakes.cache_info().currsize:
        shutil.rmtree(_fakes())


BACKENDS = ("qemu", "firecracker", "cloudhypervisor")


def why_not_for_others() -> str | None:
    """Why another user cannot run our Ansible; None when it can."""
    for path in (pathlib.Path(sys.executable).resolve(), pathlib.Path(sys.executable).parent, pathlib.Path(__file__).resolve()):
        for part in (path, *path.parents):
            if not part.stat().st_mode & (0o001 if part.is_dir() else 0o004):
                return f"{part} is closed to other users"
    return None
