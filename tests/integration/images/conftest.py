# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(vmcp_image) without Ansible around it, with the host's own tools, on directories of the test's own."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import subprocess
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.call import Call
from ansible_collections.unkey.vmcp.plugins.module_utils.errors import VmcpError
from ansible_collections.unkey.vmcp.plugins.module_utils.host.images import ImageStore
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.image import run_image
from ansible_collections.unkey.vmcp.tests.fakes.http_files import FileServer

Tree = dict[str, t.Any]


@dataclasses.dataclass
class Images:
    top: pathlib.Path

    @property
    def layout(self) -> Layout:
        return Layout(str(self.top / "s"), str(self.top / "r"))

    @property
    def store(self) -> ImageStore:
        return ImageStore(self.layout)

    def ask(self, *, act: bool = True, **options: t.Any) -> Tree:
        """The result as Ansible would get it, a failure too."""
        given = {"name": "x", "state_dir": self.layout.state_dir, "run_dir": self.layout.run_dir, "retries": 1, "proxy": "", **options}
        call = Call(options=given, act=act, environ={}, uid=os.geteuid(), warn=print, require_libraries=lambda: None)
        try:
            outcome = run_image(call)
        except VmcpError as exc:
            return {"failed": True, **exc.as_result()}
        return {**outcome.result, "diff": outcome.diff}

    def make(self, **options: t.Any) -> Tree:
        """The image. It is made, and the same again is nothing."""
        result = self.ask(**options)
        assert not result.get("failed") and result["changed"], result
        again = self.ask(**options)
        assert not again.get("failed") and not again["changed"], again
        assert again["image"] == result["image"]
        return t.cast("Tree", result["image"])

    def refused(self, code: str, **options: t.Any) -> str:
        """What a refusal says. Nothing of what was under way is left."""
        before = self.files()
        result = self.ask(**options)
        assert result.get("failed") and result["code"] == code, result
        assert self.files() == before
        return str(result["msg"])

    def files(self) -> set[str]:
        """All files of images, those under way too."""
        return {str(path.relative_to(self.top)) for path in pathlib.Path(self.layout.images).rglob("*") if not path.is_dir()}


@pytest.fixture
def images(tmp_path: pathlib.Path) -> Images:
    return Images(tmp_path)


@pytest.fixture
def server() -> t.Iterator[FileServer]:
    with FileServer() as running:
        yield running


@pytest.fixture
def small(tmp_path: pathlib.Path) -> t.Iterator[pathlib.Path]:
    """A file system of 8 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(path)], check=False).returncode != 0:
        pytest.skip("a small file system takes root and the right to mount")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def tool(name: str) -> str:
    """A program that ./test installs."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"the program {name} is not installed")
    return found


def run(*words: str, **more: t.Any) -> str:
    ended = subprocess.run([tool(words[0]), *words[1:]], check=True, capture_output=True, text=True, **more)
    return ended.stdout
