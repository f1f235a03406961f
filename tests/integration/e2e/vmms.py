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

import pytest

from ansible_collections.unkey.vmcp.tests.fakes import ch_remote, cloudhypervisor, firecracker
from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground
from ansible_collections.unkey.vmcp.tests.venvs import VenvUnavailable, python_for_others

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
    return None if backend == "qemu" else _kvm_lack()


def _kvm_lack() -> str | None:
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError as exc:
        return f"/dev/kvm does not open: {exc.strerror}"
    return None


def why_not_started(found: Vmm) -> str | None:
    """Why no VM of this VMM can be started here; None when one can. A fake needs no KVM, but the modules rightly refuse to start it without."""
    if found.real:
        return None
    if found.backend == "qemu":
        return found.why
    lack = _kvm_lack()
    if lack is None and os.geteuid() == 0:
        # Started by root, a VMM runs under a uid of its own, and the fakes are files of the checkout.
        lack = why_not_for_others()
    return f"{found.backend} is {found.why}, and not started, because {lack}" if lack else None


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
    # Started by root, they run under a uid of their own.
    python = python_for_others() if os.geteuid() == 0 and why_not_for_others() is None else sys.executable
    for fake in (firecracker, cloudhypervisor, ch_remote):
        fake.install(directory, python)
    return str(directory)


def forget_fakes() -> None:
    if _fakes.cache_info().currsize:
        shutil.rmtree(_fakes())


BACKENDS = ("qemu", "firecracker", "cloudhypervisor")


def why_not_for_others() -> str | None:
    """Why another user can run no Ansible and no fake; None when one can."""
    try:
        python_for_others()
    except VenvUnavailable as exc:
        return str(exc)
    return None


_used: dict[str, Vmm] = {}


def use(name: str, ground: Playground, *, start: bool = True) -> Vmm:
    """One VMM, found on the playground's PATH from here on. C(start): the test starts VMs; else it is content with less."""
    found = vmm(name)
    lack = why_not_started(found) if start else None
    if lack:
        pytest.skip(lack)
    _used[name] = found
    print(f"{name}: {found.why}")
    ground.path = (*found.path, *ground.path)
    return found


def used() -> list[Vmm]:
    """Those that tests have used so far."""
    return [_used[name] for name in sorted(_used)]
