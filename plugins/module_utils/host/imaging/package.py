# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernels from the distribution's packages: fetched and unpacked by apt and dpkg, which check them; nothing is installed. Where there is dnf and no apt, by
C(package_rpm)."""

from __future__ import annotations

import os
import re
import typing as t

from ...errors import FailedPrecondition, NotFound
from ...model.image_request import Reach
from ..files import os_errors, remove
from ..trees import ensure_dir, remove_tree
from . import package_rpm, tools
from .http import proxy_environ
from .work import Work

_DEPENDS = re.compile(r"(?m)^\s*\|?Depends: (linux-(?:image|modules)-\S*[0-9]\S*)")
_KERNEL = re.compile(r"vmlinu[xz]-(.+)")
# Beside the modules, as Red Hat's family has it, without its version in its name.
_BESIDE = "vmlinuz"


class KernelPackage(t.NamedTuple):
    """C(kernel), C(config), C(modules): paths in the unpacked package, empty when it has none. C(name), C(version): the package's own."""

    name: str
    version: str
    kernel: str
    config: str
    modules: str


def resolve(name: str, work: Work) -> tuple[str, str]:
    """C((package, version)) that holds the kernel: a package without a kernel of its own is followed to the one that it depends on. NotFound when apt knows
    none of that name. Reads apt's lists and fetches nothing."""
    if _is_rpm():
        return package_rpm.resolve(name, work)
    version = _candidate(name, work)
    if not re.search(r"-[0-9]", name):
        said = tools.run(["apt-cache", "depends", "--important", name], work, f"asking for the package {name}")
        match = _DEPENDS.search(said)
        if match:
            return match[1], _candidate(match[1], work)
    return name, version


def _candidate(name: str, work: Work) -> str:
    said = tools.run(["apt-cache", "policy", name], work, f"asking for the package {name}")
    match = re.search(r"(?m)^\s*Candidate: (\S+)", said)
    if match is None or match[1] == "(none)":
        raise NotFound(f"apt knows no package {name!r}. Run 'apt-get update' (become: true), or name one that 'apt-cache search linux-image' shows.")
    return match[1]


def _is_rpm() -> bool:
    return not tools.is_there("apt-cache") and tools.is_there("dnf")


def update_lists(work: Work, reach: Reach) -> None:
    if _is_rpm():
        package_rpm.update_lists(work)
        return
    tools.run(["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", "update"], work, "updating apt's lists", environ=_environ(reach))


def download(package: str, version: str, work: Work, reach: Reach) -> str:
    """The package's file below C(work.dir)."""
    directory = work.path("package")
    remove_tree(directory)
    ensure_dir(directory, 0o700)
    if _is_rpm():
        package_rpm.download(package, version, directory, work)
    else:
        # apt would otherwise drop to a user who cannot write here, and say so at length.
        argv = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "-o", "DPkg::Lock::Timeout=300", "download", f"{package}={version}"]
        tools.run(argv, work, f"fetching the package {package}", cwd=directory, environ=_environ(reach))
    archives = [name for name in os.listdir(directory) if name.endswith((".deb", ".rpm"))]
    if len(archives) != 1:
        raise FailedPrecondition(f"{len(archives)} files were fetched for the package {package}, not one.")
    work.refuse_over(os.path.getsize(f"{directory}/{archives[0]}"), f"The package {package}")
    return f"{directory}/{archives[0]}"


def _environ(reach: Reach) -> dict[str, str]:
    return {"DEBIAN_FRONTEND": "noninteractive", **proxy_environ(reach)}


def unpack(archive: str, name: str, version: str, work: Work) -> KernelPackage:
    """FailedPrecondition for a package without a kernel."""
    directory = work.path("unpacked")
    remove_tree(directory)
    if archive.endswith(".rpm"):
        ensure_dir(directory, 0o700)
        package_rpm.extract(archive, directory, name, work)
    else:
        tools.run(["dpkg-deb", "--extract", archive, directory], work, f"unpacking the package {name}", limits=tools.Limits(file=work.max_size))
    remove(archive)
    found = look(directory, name, version)
    if not found.kernel:
        raise FailedPrecondition(f"The package {name} holds no kernel (no /boot/vmlinuz-*, no /lib/modules/*/vmlinuz). Name another one.")
    return found


def look(directory: str, name: str, version: str) -> KernelPackage:
    """What an unpacked package has. Links are not followed out of it: only plain files and directories count."""
    boot = f"{directory}/boot"
    with os_errors(f"list {boot}"):
        names = sorted(os.listdir(boot)) if os.path.isdir(boot) and not os.path.islink(boot) else []
    files = [n for n in names if os.path.isfile(f"{boot}/{n}") and not os.path.islink(f"{boot}/{n}")]
    match = next((found for n in files if (found := _KERNEL.fullmatch(n))), None)
    if match is None:
        return _look_beside_modules(directory, name, version)
    kernel = match[0]
    config = f"{boot}/config-{match[1]}"
    modules = next((m for m in (f"{directory}/lib/modules/{match[1]}", f"{directory}/usr/lib/modules/{match[1]}") if os.path.isdir(m)), "")
    return KernelPackage(name, version, f"{boot}/{kernel}", config if os.path.isfile(config) else "", modules)


def _look_beside_modules(directory: str, name: str, version: str) -> KernelPackage:
    """The package with the kernel has few modules there, or none: they are in others."""
    for modules in (f"{directory}/lib/modules", f"{directory}/usr/lib/modules"):
        with os_errors(f"list {modules}"):
            names = sorted(os.listdir(modules)) if os.path.isdir(modules) and not os.path.islink(modules) else []
        for release in names:
            place = f"{modules}/{release}"
            if os.path.islink(place) or not _is_file(f"{place}/{_BESIDE}"):
                continue
            config = f"{place}/config"
            return KernelPackage(name, version, f"{place}/{_BESIDE}", config if _is_file(config) else "", place)
    return KernelPackage(name, version, "", "", "")


def _is_file(path: str) -> bool:
    return os.path.isfile(path) and not os.path.islink(path)
