# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the file of the controller that C(src) names to the host, when the host does not have its content.

The module is told the file's digest first. It answers with what there is to say, or that it needs the file; in check mode it never needs it.
"""

from __future__ import annotations

import hashlib
import os
import typing as t

from ansible.errors import AnsibleError

from ansible_collections.unkey.vmcp.plugins.plugin_utils.delivery import ActionModule as Delivery

_CHUNK_BYTES = 1 << 20
_UPLOADED, _NEEDED = "uploaded", "upload_needed"


class ActionModule(Delivery):
    """Runs the module, and again with the file where that is needed."""

    TRANSFERS_FILES = True
    _file = ""

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """The module's result."""
        source = self._task.args.get("src")
        if source and self._task.args.get("state") != "absent":
            try:
                self._file = self._find_needle("files", source)
                self._task.args[_UPLOADED] = {"name": os.path.basename(self._file), "size": os.path.getsize(self._file), "digest": _digest(self._file)}
            except (AnsibleError, OSError) as exc:
                return {"failed": True, "code": "not_found", "violations": [], "msg": f"src: {source} cannot be read on the controller: {exc}"}
        return super().run(tmp, task_vars)

    def _execute(self, task_vars: dict[str, t.Any] | None, in_background: bool, archive: str | None) -> dict[str, t.Any]:
        # A job in the background cannot answer that it needs the file.
        if self._file and in_background:
            self._send()
        done = super()._execute(task_vars, in_background, archive)
        if self._file and done.pop(_NEEDED, False):
            self._send()
            done = super()._execute(task_vars, in_background, archive)
        return done

    def _send(self) -> None:
        """Into the task's temporary directory on the host, which goes with the task."""
        shell = self._connection._shell
        if shell.tmpdir is None:
            self._make_tmp_path()
        there = shell.join_path(shell.tmpdir, "vmcp-image")
        self._transfer_file(self._file, there)
        self._fixup_perms2((shell.tmpdir, there))
        self._task.args[_UPLOADED] = {**self._task.args[_UPLOADED], "path": there}


def _digest(path: str) -> str:
    total = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            total.update(chunk)
    return f"sha256:{total.hexdigest()}"
