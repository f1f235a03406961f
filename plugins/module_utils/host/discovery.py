# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VMMs are installed, in which versions. Standard library only.

C(/opt/vmcp/BACKEND/VERSION/) with a link C(current) is where the roles put them (a leading dot: half done); a backend that has nothing there is looked for
on PATH. What a binary is, it says itself (C(--version)); a directory's name is not believed.
"""

from __future__ import annotations

import dataclasses
import os
import re
import struct
import subprocess
import typing as t

from ..backends.port import Installed
from ..errors import FailedPrecondition, NotFound
from ..model.words import BACKENDS
from .layout import OPT_DIR

VERSION_TIMEOUT_S = 10.0
# PATH of a module is what sshd or sudo left of it; these are where packages and people put VMMs.
EXTRA_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/usr/libexec")
_ROLE = "Apply the role unkey.vmcp.vmcp_{}, or install it by hand"
_PT_INTERP = 3


@dataclasses.dataclass(frozen=True)
class _Kind:
    """How the binaries of a backend are called and what they say. C(version): the first group is the version that we use."""

    binaries: tuple[str, ...]
    version: re.Pattern[str]
    helpers: tuple[str, ...] = ()
    accelerators: bool = False


_KINDS = {
    # v53.0.0 is the release v53.0. Firecracker adds log lines to its answer, QEMU a copyright.
    "cloudhypervisor": _Kind(("cloud-hypervisor", "cloud-hypervisor-static"), re.compile(r"cloud-hypervisor v?(\d+\.\d+)"), ("ch-remote",)),
    "firecracker": _Kind(("firecracker",), re.compile(r"Firecracker v?(\d+\.\d+\.\d+)"), ("jailer",)),
    "qemu": _Kind((f"qemu-system-{os.uname().machine}", "qemu-kvm"), re.compile(r"QEMU emulator version (\d+\.\d+\.\d+)"), accelerators=True),
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """A binary that was found and is of no use. C(message) says why and what to do."""

    backend: str
    path: str
    message: str


@dataclasses.dataclass(frozen=True)
class Discovery:
    installed: tuple[Installed, ...]
    problems: tuple[Problem, ...]

    def require(self, backend: str, version: str | None = None) -> Installed:
        """The version asked for, or the current one. NotFound names the versions that are there; FailedPrecondition says why a binary is of no use."""
        there = [i for i in self.installed if i.backend == backend]
        wanted = version.removeprefix("v") if version else None
        for candidate in there:
            if candidate.version == wanted or (wanted is None and candidate.current):
                return candidate
        if there:
            raise NotFound(
                f"{backend} {wanted} is not installed; installed are: {', '.join(i.version for i in there)}. Choose one of them, or install that version."
            )
        problems = [p.message for p in self.problems if p.backend == backend]
        if problems:
            raise FailedPrecondition(" ".join(problems))
        kind = _KINDS[backend]
        raise NotFound(f"{backend} is not installed: no {kind.binaries[0]} below {OPT_DIR}/{backend} or on PATH. {_ROLE.format(backend)}.")


def discover(backends: t.Sequence[str] = BACKENDS, *, opt_dir: str = OPT_DIR, path: str | None = None) -> Discovery:
    """Looks for all versions of C(backends). C(path): the directories instead of PATH and our own."""
    directories = (path if path is not None else os.pathsep.join((os.environ.get("PATH", ""), *EXTRA_PATH))).split(os.pathsep)
    installed: list[Installed] = []
    problems: list[Problem] = []
    for backend in backends:
        for binary, beside, current in _candidates(backend, opt_dir, [d for d in directories if d]):
            found = _examine(backend, binary, beside, current)
            if isinstance(found, Problem):
                problems.append(found)
            else:
                installed.append(found)
    return Discovery(tuple(installed), tuple(problems))


def _candidates(backend: str, opt_dir: str, directories: list[str]) -> list[tuple[str, list[str], bool]]:
    """Resolved binary, directories in which its helpers may be, whether it is the current one."""
    names = _KINDS[backend].binaries
    base = f"{opt_dir}/{backend}"
    try:
        versions = sorted((v for v in os.listdir(base) if v != "current" and not v.startswith(".")), key=_version_key, reverse=True)
    except OSError:
        # Not there, or not ours to read: then PATH decides.
        versions = []
    found = [(f"{base}/{version}", binary) for version in versions if (binary := _first(names, [f"{base}/{version}"]))]
    if found:
        current = os.path.realpath(f"{base}/current")
        if current not in [os.path.realpath(directory) for directory, binary in found]:
            current = os.path.realpath(found[0][0])
        return [(os.path.realpath(binary), [directory], os.path.realpath(directory) == current) for directory, binary in found]
    on_path = _first(names, directories)
    if on_path is None:
        return []
    return [(os.path.realpath(on_path), [os.path.dirname(os.path.realpath(on_path)), os.path.dirname(on_path), *directories], True)]


def _first(names: t.Sequence[str], directories: t.Sequence[str]) -> str | None:
    return next((f"{directory}/{name}" for name in names for directory in directories if os.path.isfile(f"{directory}/{name}")), None)


def _examine(backend: str, binary: str, beside: list[str], current: bool) -> Installed | Problem:
    kind = _KINDS[backend]
    if not os.access(binary, os.X_OK):
        return Problem(backend, binary, f"{binary} is not executable. Run chmod +x on it, or install it again.")
    said = _run([binary, "--version"])
    if isinstance(said, str) and (match := kind.version.search(said)):
        helpers = {name: os.path.realpath(found) for name in kind.helpers if (found := _first((name, f"{name}-static"), beside)) and os.access(found, os.X_OK)}
        return Installed(
            backend=backend,
            version=match[1],
            binary=binary,
            helpers=helpers,
            features=(*_accelerators(binary), *_machine(binary)) if kind.accelerators else (),
            static=is_static(binary),
            current=current,
        )
    why = f"it answered {said.strip()[:200]!r} to --version" if isinstance(said, str) else f"it cannot be run ({said})"
    return Problem(backend, binary, f"{binary} is no usable {backend}: {why}. {_ROLE.format(backend)}.")


def _run(command: list[str]) -> str | OSError | subprocess.TimeoutExpired:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=VERSION_TIMEOUT_S,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            cwd="/",
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return exc
    return done.stdout.decode("utf-8", "replace")


def _accelerators(binary: str) -> tuple[str, ...]:
    """What the build can, not what the host allows: C(kvm), C(tcg)."""
    said = _run([binary, "-accel", "help"])
    return tuple(line.strip() for line in said.splitlines()[1:] if line.strip().isalnum()) if isinstance(said, str) else ()


def _machine(binary: str) -> tuple[str, ...]:
    """What this build's C(q35) stands for, as C(q35=NAME). Distributions have names of their own (C(pc-q35-rhel9.4.0))."""
    said = _run([binary, "-machine", "help"])
    match = re.search(r"^q35\s.*\(alias of ([A-Za-z0-9._-]+)\)", said, re.MULTILINE) if isinstance(said, str) else None
    return (f"q35={match[1]}",) if match else ()


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def is_static(path: str) -> bool:
    """Whether an ELF file needs no interpreter (PT_INTERP). The jailer's root directory has no dynamic loader. False for what is no ELF file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _has_no_interpreter(fd)
    except struct.error:
        return False
    finally:
        os.close(fd)


def _has_no_interpreter(fd: int) -> bool:
    head = os.pread(fd, 64, 0)
    if head[:4] != b"\x7fELF":
        return False
    order = "<" if head[5] == 1 else ">"
    if head[4] == 2:
        (offset,) = struct.unpack_from(order + "Q", head, 32)
        size, count = struct.unpack_from(order + "HH", head, 54)
    else:
        (offset,) = struct.unpack_from(order + "I", head, 28)
        size, count = struct.unpack_from(order + "HH", head, 42)
    table = os.pread(fd, size * count, offset)
    return all(struct.unpack_from(order + "I", table, size * index)[0] != _PT_INTERP for index in range(count))
