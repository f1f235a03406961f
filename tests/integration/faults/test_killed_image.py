# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(vmcp_image) killed before each single thing that it does to the host, and run again: the name stands for the old content or for the new, whole; the
next run ends where this one would have; and after a removal nothing is left."""

from __future__ import annotations

import gzip
import itertools
import os
import pathlib
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.host.images import ImageStore, digest_file
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.tests.fakes.http_files import FileServer
from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground, Tree
from ansible_collections.unkey.vmcp.tests.integration.faults.built_module import BuiltModule, build

OLD, NEW = b"old" + bytes(1 << 17), os.urandom(3 << 16) + bytes(1 << 17)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[BuiltModule]:
    made = build(tmp_path_factory.mktemp("vmcp_image"), "vmcp_image")
    yield made
    made.stop()


@pytest.fixture
def image(built: BuiltModule, ground: Playground) -> BuiltModule:
    built.options = {**ground.dirs, "name": "x", "proxy": ""}
    return built


@pytest.fixture
def server() -> t.Iterator[FileServer]:
    with FileServer() as running:
        yield running


def files(ground: Playground) -> set[str]:
    return {str(path.relative_to(ground.state)) for path in pathlib.Path(ground.state, "images").rglob("*") if not path.is_dir()}


def content(ground: Playground) -> bytes | None:
    """What the name stands for, which is whole."""
    store = ImageStore(Layout(ground.state, ground.run_dir))
    found = store.find("x")
    if found is None:
        return None
    assert digest_file(found.path) == found.digest
    return pathlib.Path(found.path).read_bytes()


def test_an_image_killed_at_every_point(ground: Playground, image: BuiltModule, server: FileServer) -> None:
    old, new = server.add("/old", OLD + bytes(-len(OLD) % 512)), server.add("/new.gz", gzip.compress(NEW))
    before: Tree = {"url": f"{server.url}/old", "checksum": old.digest}
    after: Tree = {"url": f"{server.url}/new.gz", "checksum": new.digest}
    replacing = removing = True
    for at in itertools.count(1):
        image.run(**before).ok()
        if replacing:
            replacing = image.run(**after, kill_at=at).killed
        assert content(ground) in (old.body, NEW), f"after a kill at point {at}"
        image.run(**after).ok()
        assert content(ground) == NEW
        assert not image.run(**after).ok()["changed"]
        assert len(files(ground)) == 2, f"after a kill at point {at}: {files(ground)}"
        if removing:
            removing = image.run(state="absent", kill_at=at).killed
        assert content(ground) in (NEW, None)
        image.run(state="absent").ok()
        assert files(ground) == set(), f"after a kill at point {at}"
        if not (replacing or removing):
            break
    assert at > 20, "the points were seen"


def test_a_download_goes_on_where_the_killed_one_was(ground: Playground, image: BuiltModule, server: FileServer) -> None:
    file = server.add("/d", NEW, etag='"1"')
    count = len(image.run(url=f"{server.url}/d", kill_at=10_000).seen)
    image.run(state="absent").ok()
    resumed = 0
    for at in range(1, count + 1):
        image.run(url=f"{server.url}/d", kill_at=at)
        server.requests.clear()
        image.run(url=f"{server.url}/d").ok()
        assert content(ground) == file.body
        resumed += any("Range" in request.headers for request in server.requests)
        image.run(state="absent").ok()
    assert resumed, "some were cut off after a part had come"
