# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the file or directory of the controller that C(src) names to the host, when the host does not have its content. A directory travels as one archive.

The module is told the file's digest first. It answers with what there is to say, or that it needs the file; in check mode it never needs it.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import typing as t

from ansible import constants
from ansible.errors import AnsibleError

from ansible_collections.unkey.vmcp.plugins.plugin_utils.delivery import ActionModule as Delivery
from ansible_collections.unkey.vmcp.plugins.plugin_utils.packing import Sink, pack

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
                if os.path.isdir(self._file) and self._task.args.get("kind") != "rootfs":
                    return _refused("invalid_argument", f"{source} is a directory, which only a root file system is made of. Set kind: rootfs, or name a file.")
                self._task.args[_UPLOADED] = _described(self._file)
            except (AnsibleError, OSError) as exc:
                return _refused("not_found", f"{source} cannot be read on the controller: {exc}. Correct the path, or put the file there.")
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
        if os.path.isdir(self._file):
            with tempfile.NamedTemporaryFile(prefix="vmcp-", dir=constants.DEFAULT_LOCAL_TMP) as archive:
                pack(self._file, t.cast("t.BinaryIO", archive))
                archive.flush()
                self._transfer_file(archive.name, there)
        else:
            self._transfer_file(self._file, there)
        self._fixup_perms2((shell.tmpdir, there))
        self._task.args[_UPLOADED] = {**self._task.args[_UPLOADED], "path": there}


def _refused(code: str, why: str) -> dict[str, t.Any]:
    return {"failed": True, "code": code, "violations": [{"field": "src", "message": why}], "msg": f"src: {why}"}


def _described(path: str) -> dict[str, t.Any]:
    """What the module is told of it before it travels."""
    sink = Sink(hashlib.sha256())
    if os.path.isdir(path):
        pack(path, t.cast("t.BinaryIO", sink))
        name = os.path.basename(path.rstrip("/")) + ".tar"
    else:
        name = os.path.basename(path)
        with open(path, "rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                sink.write(chunk)
    return {"name": name, "size": sink.size, "digest": f"sha256:{sink.digest.hexdigest()}"}
