# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernels by name and version, for people and for host.json: C(/opt/vmcp/kernels/NAME/VERSION/). Standard library only.

C(vmlinux) (arm64: C(Image)) is what every backend boots; beside it are, where the source had them, C(vmlinuz) (as distributed), C(config), and C(modules), to
make an initrd of. C(NAME/current) leads to the newest made. A version's directory appears whole and is never changed: another build of the same version
gets one of its own. Root's, readable for all: VMMs are not root.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import typing as t

from .files import os_errors, remove, sync_dir
from .images import WORK, digest_file
from .trees import ensure_dir, remove_tree
from .writing import sync_file_system

if t.TYPE_CHECKING:
    from .layout import Layout

CURRENT = "current"


def place(layout: Layout, name: str, version: str) -> str:
    return f"{layout.kernels}/{name}/{version}"


def publish(layout: Layout, name: str, version: str, digest: str, files: t.Mapping[str, str], modules: str = "") -> str:
    """The directory. C(files): name there to path on the host, the kernel first; C(digest): that of the kernel. C(modules): a directory; that of a task's
    own is moved where that can be, any other one copied."""
    parent = f"{layout.kernels}/{name}"
    for directory in (os.path.dirname(layout.kernels), layout.kernels, parent):
        if not os.path.isdir(directory):
            ensure_dir(directory, 0o755)
    main = next(iter(files))
    target = place(layout, name, version)
    if os.path.isfile(f"{target}/{main}") and digest_file(f"{target}/{main}") != digest:
        target = f"{target}-{digest.partition(':')[2][:8]}"
    if not os.path.isfile(f"{target}/{main}"):
        _build(target, files, modules)
    _point(parent, os.path.basename(target))
    return target


def _build(target: str, files: t.Mapping[str, str], modules: str) -> None:
    parent, base = os.path.split(target)
    temporary = f"{parent}/.{base}.tmp"
    remove_tree(temporary)
    remove_tree(target)
    with os_errors(f"write {target}"):
        try:
            os.mkdir(temporary, 0o755)
            for name, source in files.items():
                shutil.copyfile(source, f"{temporary}/{name}", follow_symlinks=False)
                os.chmod(f"{temporary}/{name}", 0o444)
            if modules:
                _bring_tree(modules, f"{temporary}/modules")
            if not sync_file_system(temporary):
                os.sync()
            os.rename(temporary, target)
            sync_dir(parent)
        except OSError:
            remove_tree(temporary)
            raise


def _bring_tree(source: str, target: str) -> None:
    if f"/{WORK}/" in source:
        try:
            os.rename(source, target)
            return
        except OSError as exc:
            if exc.errno != errno.EXDEV:
                raise
    shutil.copytree(source, target, symlinks=True)


def _point(parent: str, version: str) -> None:
    link = f"{parent}/{CURRENT}"
    with os_errors(f"write {link}"):
        if os.path.islink(link) and os.readlink(link) == version:
            return
        temporary = f"{parent}/.{CURRENT}.tmp"
        remove(temporary)
        os.symlink(version, temporary)
        os.rename(temporary, link)
        sync_dir(parent)


def file_name(kernel_format: str) -> str:
    """What the kernel is called there, by its format."""
    return {"elf": "vmlinux", "arm64-image": "Image"}.get(kernel_format, "vmlinuz")


def directory_name(version: str, digest: str) -> str:
    """The version, or what stands for it where it is not known or could be no name."""
    return version if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,120}", version) and version != CURRENT else digest.partition(":")[2][:12]


def files_of(directory: str) -> dict[str, str]:
    """The files of a version that was published, the kernel first."""
    names = ("vmlinux", "Image", "vmlinuz", "config")
    return {name: f"{directory}/{name}" for name in names if os.path.isfile(f"{directory}/{name}")}


def modules_of(directory: str) -> str:
    return f"{directory}/modules" if os.path.isdir(f"{directory}/modules") else ""


def remove_all(layout: Layout, name: str) -> None:
    """All versions. The caller knows that nobody uses them."""
    remove_tree(f"{layout.kernels}/{name}")
