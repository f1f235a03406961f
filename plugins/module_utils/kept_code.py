# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's code as a host keeps it for later tasks: C(/var/cache/vmcp/code/VERSION-HASH-PYTHON/), root's; C(~/.cache/vmcp/code) of others.

A task sends so little then that it costs not much more than a ping, and nothing is compiled again. It is a cache: what is missing is brought again, and
removing it harms nothing. Standard library only.
"""

from __future__ import annotations

import os
import sys
import time
import typing as t

from .model.words import COLLECTION_VERSION

SYSTEM_CACHE = "/var/cache/vmcp/code"
# Code of other versions that was not brought for so long is removed when new code is kept. A task that still runs from it would be a day old.
OLD_AFTER_S = 7 * 24 * 3600
# Nothing that anybody could send by accident; what is larger is not our archive.
MAX_BYTES = 32 << 20


def find(digest: str) -> t.Optional[str]:
    """The directory to be looked into, or None. What others than root and we could write is not taken."""
    for base in _caches():
        place = _place(base, digest)
        try:
            status = os.lstat(place)
        except OSError:
            continue
        if status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o022:
            return place
    return None


def keep(archive: str, digest: str, tell: t.Callable[[str], object]) -> str:
    """Unpacks the archive into our own cache, compiles it, and returns where it is; where that cannot be, the archive itself, from which Python can import
    too. Concurrent tasks do no harm to each other: the first to finish wins."""
    base = _caches()[-1]
    try:
        place = _unpack(archive, base, digest)
    except OSError as exc:
        tell(f"The collection's code could not be kept in {base} ({exc.strerror or exc}), so each task on this host brings it again.")
        return archive
    _remove_old(base, os.path.basename(place))
    return place


def _caches() -> list[str]:
    """Where to look, in order; the last one is ours to write."""
    if os.geteuid() == 0:
        return [SYSTEM_CACHE]
    return [SYSTEM_CACHE, os.path.expanduser("~/.cache/vmcp/code")]


def _place(base: str, digest: str) -> str:
    return f"{base}/{COLLECTION_VERSION}-{digest}-{sys.implementation.cache_tag}"


def _unpack(archive: str, base: str, digest: str) -> str:
    import compileall
    import py_compile
    import tempfile
    import zipfile

    os.makedirs(base, mode=0o755, exist_ok=True)
    place = _place(base, digest)
    work = tempfile.mkdtemp(prefix=".new-", dir=base)
    try:
        with zipfile.ZipFile(archive) as packed:
            if sum(member.file_size for member in packed.infolist()) > MAX_BYTES:
                raise OSError(27, f"{archive} unpacks to more than {MAX_BYTES} bytes")
            packed.extractall(work)
        # Its name says what it was made from, so no import looks at the sources again.
        compileall.compile_dir(work, quiet=2, stripdir=work, prependdir=place, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
        _open_to_readers(work)
        try:
            os.rename(work, place)
        except OSError:
            # Another task was quicker, and its code is the same.
            if not os.path.lexists(place):
                raise
    finally:
        _remove(work)
    return place


def _open_to_readers(top: str) -> None:
    """Whatever the umask: others may import from it too, and only its owner may write."""
    for directory, _names, files in os.walk(top):
        os.chmod(directory, 0o755)
        for name in files:
            os.chmod(f"{directory}/{name}", 0o644)


def _remove_old(base: str, used: str) -> None:
    before = time.time() - OLD_AFTER_S
    for name in os.listdir(base):
        try:
            is_old = name != used and os.lstat(f"{base}/{name}").st_mtime < before
        except FileNotFoundError:
            continue
        if is_old:
            _remove(f"{base}/{name}")


def _remove(path: str) -> None:
    import shutil

    shutil.rmtree(path, ignore_errors=True)
