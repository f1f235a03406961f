# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a task's code and libraries come from on the host. A task brings a few small files (those that a module imports by name); the core is there already:

1. in the installed runtime, C(/opt/vmcp/runtime/VERSION-HASH/), made by the role vmcp_host: libraries and code, compiled;
2. where there is none, in the code that an earlier task kept (C(kept_code)), compiled; the libraries are the interpreter's own, or lent by a runtime of the
   same version;
3. else in the archive that the action plugin brings when a task answers that it has no code.

HASH is that of the code on the controller (C(runtime_hash)), so that nothing else is ever run. Ansible starts an interpreter for each task. Mitogen for
Ansible has one for task after task, and what a task has imported is there for the next. Standard library only.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import json
import os
import sys
import typing as t

from . import kept_code
from .model.words import COLLECTION_VERSION

RUNTIME_DIR = "/opt/vmcp/runtime"
_PACKAGE = __name__.rpartition(".")[0]
# What the bootstrap holds on to: the same before and after C(forget_stand_ins).
_KEPT = ("argument_specs", "bootstrap", "call", "errors", "kept_code", "runtime")


def find_code(digest: str, archive: t.Optional[str], keep: bool, tell: t.Callable[[str], object], base: str = RUNTIME_DIR) -> bool:
    """Puts the code of this hash first in our package's path, and its libraries on sys.path. False: it is not on this host.

    C(archive): a zip that came with the task; C(keep): it may be kept on the host for later tasks (not in check mode). C(tell) hears why it could not be.
    Must run before more of the core is imported than the module itself imports."""
    runtime = f"{base}/{COLLECTION_VERSION}-{digest}"
    manifest = _manifest(runtime)
    if manifest is not None:
        if _fits(manifest):
            sys.path.insert(0, f"{runtime}/lib")
        _look_in(f"{runtime}/lib")
    else:
        kept = kept_code.find(digest)
        if kept is None and archive:
            kept = kept_code.keep(archive, digest, tell) if keep else archive
        if kept is None:
            return False
        _look_in(kept)
    return True


def lend_libraries(base: str = RUNTIME_DIR) -> None:
    """Makes the libraries of a runtime for this Python importable, after everything else, where the interpreter has none.

    Their versions are right, since the version of the collection is. Its copy of our code stays out of sight: our package has its path already."""
    if is_installed("pydantic"):
        return
    for directory in _runtimes(base):
        if _fits(_manifest(directory)):
            sys.path.append(f"{directory}/lib")
            break


def _look_in(place: str) -> None:
    """Packages that are loaded already keep looking where they came from unless told."""
    for name, module in list(sys.modules.items()):
        if (name == _PACKAGE or name.startswith(f"{_PACKAGE}.")) and hasattr(module, "__path__"):
            directory = f"{place}/{name.replace('.', '/')}"
            if directory not in module.__path__:
                module.__path__ = [directory, *module.__path__]


def is_installed(library: str) -> bool:
    """Whether it could be imported; it is not, which would take its time. C(library): a module, or one in a package (C(qemu.qmp))."""
    package = library.rpartition(".")[0]
    path: t.Optional[t.Sequence[str]] = None
    if package:
        found = importlib.machinery.PathFinder.find_spec(package)
        path = list(found.submodule_search_locations or ()) if found else []
    # Not importlib.util.find_spec: Mitogen says of everything that it could fetch it from the controller.
    return importlib.machinery.PathFinder.find_spec(library, path) is not None


def forget_stand_ins() -> None:
    """An earlier task in this interpreter (Mitogen) may have loaded the models without the libraries, before the role vmcp_host installed them: then
    they are loaded anew. After C(find_code)."""
    loaded = sys.modules.get(f"{_PACKAGE}.thirdparty_pydantic")
    if loaded is None or loaded.HAS_PYDANTIC:
        return
    importlib.invalidate_caches()
    if not is_installed("pydantic"):
        return
    kept = {f"{_PACKAGE}.{name}" for name in _KEPT}
    for name in [name for name in sys.modules if name.startswith(f"{_PACKAGE}.") and name not in kept]:
        del sys.modules[name]


def matching_elsewhere(base: str = RUNTIME_DIR) -> t.Optional[str]:
    """An interpreter of this host, other than ours, for which a runtime of this version is installed; None when there is none."""
    for directory in _runtimes(base):
        interpreter = (_manifest(directory) or {}).get("interpreter")
        if isinstance(interpreter, str) and os.access(interpreter, os.X_OK) and os.path.realpath(interpreter) != os.path.realpath(sys.executable):
            return interpreter
    return None


def _runtimes(base: str) -> list[str]:
    """Of this version of the collection."""
    try:
        return sorted(f"{base}/{name}" for name in os.listdir(base) if name.startswith(f"{COLLECTION_VERSION}-"))
    except OSError:
        return []


def _manifest(directory: str) -> t.Optional[dict[str, t.Any]]:
    """RUNTIME.json: C({python: "3.11", interpreter: path}). None when there is no trustworthy one: a runtime that others could write is no runtime of ours."""
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
