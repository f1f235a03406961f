# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a module of ours reaches a host: thin. Ansible sends with each task all that a module imports, compressed anew and compiled anew; of ours that would be
more than twice what a ping sends. So a module imports little by name, and finds its core on the host (C(module_utils/runtime)) by the hash of the code here.

A host that has not got that code says so at once, having done nothing. Then an archive of the code goes there, once, and the task runs again.
"""

from __future__ import annotations

import io
import pathlib
import tempfile
import typing as t
import zipfile

from ansible import constants
from ansible.plugins.action import ActionBase

from ansible_collections.unkey.vmcp.plugins.module_utils.call import CODE_MISSING, CODE_OPTION
from ansible_collections.unkey.vmcp.plugins.module_utils.runtime_hash import contents, runtime_hash

PACKAGE = "ansible_collections/unkey/vmcp/plugins/module_utils"
# Read here, once: Ansible loads this file in the process from which it forks one for each task of each host.
_CODE = contents(pathlib.Path(__file__).resolve().parents[1] / "module_utils")
_HASH = runtime_hash(_CODE)


class ActionModule(ActionBase):
    """Runs the module of the same name."""

    _supports_check_mode = True
    _supports_async = True
    _requires_connection = True

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """The module's result."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        in_background = bool(self._task.async_val) and not self._connection.has_native_async
        # A job in the background cannot be asked first, nor told afterwards.
        done = self._execute(task_vars, in_background, archive=self._bring() if in_background else None)
        if done.pop(CODE_MISSING, False):
            done = self._execute(task_vars, in_background, archive=self._bring())
        result.update(done)
        if not in_background:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _execute(self, task_vars: dict[str, t.Any] | None, in_background: bool, archive: str | None) -> dict[str, t.Any]:
        code = {"hash": _HASH, **({"archive": archive} if archive else {})}
        done: dict[str, t.Any] = self._execute_module(module_args={**self._task.args, CODE_OPTION: code}, task_vars=task_vars, wrap_async=in_background)
        return done

    def _bring(self) -> str:
        """Sends the archive into the task's temporary directory on the host, which goes with the task. Its path there."""
        shell = self._connection._shell
        if shell.tmpdir is None:
            self._make_tmp_path()
        there: str = shell.join_path(shell.tmpdir, "vmcp-code.zip")
        with tempfile.NamedTemporaryFile(dir=constants.DEFAULT_LOCAL_TMP, suffix=".zip") as here:
            here.write(archive_of(_CODE))
            here.flush()
            self._transfer_file(here.name, there)
        self._fixup_perms2((shell.tmpdir, there))
        return there


def archive_of(code: t.Mapping[str, bytes]) -> bytes:
    """A zip from which Python can import, also unpacked."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in code.items():
            archive.writestr(f"{PACKAGE}/{path}", content)
    return packed.getvalue()
