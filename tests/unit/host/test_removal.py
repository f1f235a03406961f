# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""In what order the files of a VM go: a removal may be cut off between any two."""

from __future__ import annotations

import os
import pathlib

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.removal import Removal


def test_what_says_that_there_was_a_process_goes_first(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the record of a process and without that of its supervisor, a task would wait for a word that nobody is left to say."""
    layout = Layout(str(tmp_path / "s"), str(tmp_path / "r"))
    vm = layout.vm("web")
    for directory in (vm.dir, vm.run):
        os.makedirs(directory)
    for path in (vm.pid, vm.supervisor, vm.supervisor_lock, vm.up, vm.definition):
        pathlib.Path(path).write_text("")
    gone: list[str] = []
    for name in ("unlink", "remove"):
        real = getattr(os, name)

        def noted(path: str, *words: object, real=real, **more: object) -> None:
            gone.append(os.path.basename(path))
            real(path, *words, **more)

        monkeypatch.setattr(os, name, noted)
    removal = Removal(layout, ["web"], lambda names: None)
    removal.clear(["web"], keep_data=False)
    assert removal.finish() == {"web": True}
    assert gone[0] == "pid" and gone.count("pid") == 1 and "supervisor" in gone
    assert not os.path.exists(vm.run)
