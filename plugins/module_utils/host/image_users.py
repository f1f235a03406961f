# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who needs the content of an image. Standard library only.

Two ways lead to content: a clone of it, which is recorded (C(images/.users)) by whoever makes it, and a path in a VM's definition or in host.json, which is
looked for there. A record speaks of its user only while that user is there: a VM that was removed by other means holds nothing.
"""

from __future__ import annotations

import json
import os
import re
import typing as t

from ..errors import Internal
from ..model.words import NAME_PATTERN
from .files import listed, os_errors, read_text, remove, write_atomic
from .layout import HOST_JSON
from .processes import start_time
from .trees import ensure_dir

if t.TYPE_CHECKING:
    from ..model.image import Image
    from .layout import Layout

_USER = re.compile(rf"(?P<what>vm|disk):(?P<name>{NAME_PATTERN})")


class Users:
    """Changes are made under C(Layout.images_lock)."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._dir = f"{layout.images}/.users"

    def of(self, image: Image) -> list[str]:
        """Of the content, and of any version of the kernel that was published under the image's name."""
        published = self._mentions(f"{self._layout.kernels}/{image.name}/") if image.kind == "kernel" else []
        return sorted({*self.of_digest(image.digest), *published})

    def of_digest(self, digest: str) -> list[str]:
        entry = digest.replace(":", "-")
        recorded = [user for user in listed(f"{self._dir}/{entry}") if self._is_there(f"{self._dir}/{entry}/{user}", user)]
        return sorted({*recorded, *self._mentions(f"/.content/{entry}")})

    def add(self, digest: str, user: str) -> None:
        if not _USER.fullmatch(user):
            raise Internal(f"{user!r} is no user of an image: vm:NAME or disk:NAME.")
        directory = f"{self._dir}/{digest.replace(':', '-')}"
        ensure_dir(self._dir, 0o700)
        ensure_dir(directory, 0o700)
        write_atomic(f"{directory}/{user}", f"{os.getpid()} {start_time(os.getpid())}\n")

    def drop(self, user: str, digest: t.Optional[str]) -> None:
        for entry in listed(self._dir):
            if digest is None or entry == digest.replace(":", "-"):
                with os_errors(f"release {entry}"):
                    remove(f"{self._dir}/{entry}/{user}")

    def tidy(self) -> None:
        """Removes records of users that are gone, and empty directories."""
        for entry in listed(self._dir):
            directory = f"{self._dir}/{entry}"
            with os_errors(f"tidy {directory}"):
                for user in listed(directory):
                    if _USER.fullmatch(user) and not self._is_there(f"{directory}/{user}", user):
                        remove(f"{directory}/{user}")
                if not listed(directory):
                    os.rmdir(directory)

    def _is_there(self, record: str, user: str) -> bool:
        """Whether the user has its directory, or the task that recorded it, which makes that, still runs."""
        match = _USER.fullmatch(user)
        if match is None:
            return False
        directory = self._layout.vms if match["what"] == "vm" else f"{self._layout.state_dir}/disks"
        if os.path.lexists(f"{directory}/{match['name']}"):
            return True
        try:
            words = read_text(record, max_bytes=256).split()
        except FileNotFoundError:
            return False
        return len(words) == 2 and words[0].isdigit() and str(start_time(int(words[0]))) == words[1]

    def _mentions(self, text: str) -> list[str]:
        """VMs and defaults of the host in whose files the text stands. By the text: also in one that this version cannot read."""
        # As JSON spells it.
        spelled = json.dumps(text)[1:-1]
        found = []
        for name in listed(self._layout.vms):
            vm = self._layout.vm(name)
            if any(spelled in self._text(path) for path in (vm.definition, vm.definition_next, vm.booted)):
                found.append(f"vm:{name}")
        if self._layout.is_system and spelled in self._text(HOST_JSON):
            found.append(f"host defaults ({HOST_JSON})")
        return found

    @staticmethod
    def _text(path: str) -> str:
        try:
            return read_text(path)
        except (FileNotFoundError, NotADirectoryError):
            return ""
