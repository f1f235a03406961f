# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The installed runtime: C(/opt/vmcp/runtime/VERSION-HASH/), made by the role vmcp_host.

It holds the libraries of requirements.txt and a byte-compiled copy of these module_utils, so that a task neither misses a library
nor compiles what it was sent. It is used only when every file that was sent is the same in it; else what was sent is run as it is, with the libraries of
a runtime for the same version where the interpreter has none of its own.

Ansible starts an interpreter for each task, with a zip. Mitogen for Ansible has none: it runs task after task in one interpreter, and what a task has
imported is there for the next. Standard library only.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import json
import os
import sys
import typing as t

from .model.words import COLLECTION_VERSION

RUNTIME_DIR = "/opt/vmcp/runtime"
_PACKAGE = __name__.rpartition(".")[0]
# What the bootstrap holds on to: the same before and after C(forget_stand_ins).
_KEPT = ("argument_specs", "bootstrap", "call", "errors", "runtime")


def use_runtime(base: str = RUNTIME_DIR) -> t.Optional[str]:
    """Puts the matching runtime's libraries on sys.path and its module_utils first in our package's path. Returns its directory, None where none matches.

    Must run before anything but C(bootstrap), C(errors) and this file is imported: those three are compared too and are the same on both sides."""
    try:
        candidates = sorted(d for d in os.listdir(base) if d.startswith(f"{COLLECTION_VERSION}-"))
    except OSError:
        return None
    if not candidates:
        return None
    sent = _sent_files()
    for candidate in candidates:
        directory = f"{base}/{candidate}"
        if _matches(directory, sent):
            sys.path.insert(0, f"{directory}/lib")
            for name, module in list(sys.modules.items()):
                # Packages that are loaded already keep looking where they came from unless told.
                if name == _PACKAGE or (name.startswith(f"{_PACKAGE}.") and hasattr(module, "__path__")):
                    module.__path__ = [f"{directory}/lib/{name.replace('.', '/')}", *module.__path__]
            return directory
    _use_libraries([f"{base}/{candidate}" for candidate in candidates])
    return None


def _use_libraries(directories: t.Sequence[str]) -> None:
    """Makes the libraries of the first of these runtimes that is for this Python importable, after everything else, where the interpreter has none.

    Their versions are right, since the version of the collection is. Its copy of module_utils stays out of sight: our package is loaded already."""
    if not _is_installed("pydantic"):
        for directory in directories:
            if _fits(_manifest(directory)):
                sys.path.append(f"{directory}/lib")
                break


def _is_installed(library: str) -> bool:
    # Not importlib.util.find_spec: Mitogen says of everything that it could fetch it from the controller.
    return importlib.machinery.PathFinder.find_spec(library) is not None


def forget_stand_ins() -> None:
    """An earlier task in this interpreter (Mitogen) may have loaded the models without the libraries, before the role vmcp_host installed them: then
    they are loaded anew. After C(use_runtime)."""
    loaded = sys.modules.get(f"{_PACKAGE}.thirdparty_pydantic")
    if loaded is None or loaded.HAS_PYDANTIC:
        return
    importlib.invalidate_caches()
    if not _is_installed("pydantic"):
        return
    kept = {f"{_PACKAGE}.{name}" for name in _KEPT}
    for name in [name for name in sys.modules if name.startswith(f"{_PACKAGE}.") and name not in kept]:
        del sys.modules[name]


def matching_elsewhere(base: str = RUNTIME_DIR) -> t.Optional[str]:
    """An interpreter of this host, other than ours, for which a runtime of this version is installed; None when there is none."""
    try:
        candidates = sorted(d for d in os.listdir(base) if d.startswith(f"{COLLECTION_VERSION}-"))
    except OSError:
        return None
    for candidate in candidates:
        manifest = _manifest(f"{base}/{candidate}")
        interpreter = (manifest or {}).get("interpreter")
        if isinstance(interpreter, str) and os.access(interpreter, os.X_OK) and os.path.realpath(interpreter) != os.path.realpath(sys.executable):
            return interpreter
    return None


def _manifest(directory: str) -> t.Optional[dict[str, t.Any]]:
    """RUNTIME.json: C({python: "3.11", interpreter: path, files: {path below module_utils: CRC-32}}). None when there is no trustworthy one: a runtime that
    others could write is no runtime of ours."""
    try:
        status = os.stat(directory)
        with open(f"{directory}/RUNTIME.json", encoding="utf-8") as stream:
            manifest = json.load(stream)
    except (OSError, ValueError):
        return None
    if status.st_uid != 0 or status.st_mode & 0o022 or not isinstance(manifest, dict):
        return None
    return manifest


def _fits(manifest: t.Optional[dict[str, t.Any]]) -> bool:
    """Whether it is a runtime for this Python."""
    return manifest is not None and manifest.get("python") == f"{sys.version_info[0]}.{sys.version_info[1]}"


def _matches(directory: str, sent: t.Mapping[str, int]) -> bool:
    """Same Python minor version, and every file sent has the same checksum in the runtime."""
    manifest = _manifest(directory)
    if manifest is None or not _fits(manifest):
        return False
    files = manifest.get("files")
    return bool(sent) and isinstance(files, dict) and all(files.get(path) == checksum for path, checksum in sent.items())


def _sent_files() -> dict[str, int]:
    """CRC-32 of each file of ours that Ansible sent, by path below module_utils; {} when not run from Ansible's zip (a checkout under test, Mitogen).

    The checksums stand in the zip's directory, so nothing is unpacked to know them."""
    archive = getattr(globals().get("__loader__"), "archive", None)
    if not archive:
        return {}
    import zipfile

    prefix = f"{_PACKAGE.replace('.', '/')}/"
    with zipfile.ZipFile(archive) as sent:
        # Ansible sends packages' __init__.py, in our package all empty, in a form of its own.
        return {
            i.filename[len(prefix) :]: i.CRC
            for i in sent.infolist()
            if i.filename.startswith(prefix) and not i.filename.endswith("/__init__.py") and i.filename != f"{prefix}__init__.py"
        }
