# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import json
import os
import pathlib
import platform
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition, NotFound
from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging import oci
from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging.tree import Tree
from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging.work import Work
from ansible_collections.unkey.vmcp.plugins.module_utils.model.image_request import Reach
from ansible_collections.unkey.vmcp.tests.archives import directory, entry, layout, link, tar

REACH = Reach(proxy="", headers={}, validate_certs=True, ca_path=None, retries=0, idle_s=5, deadline_s=60)
MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def unpack(path: pathlib.Path, work: Work, tag: str = "") -> set[str]:
    tree = Tree(work.path("tree"), work, "the image")
    image = oci.read(str(path), tag, "the image")
    oci.check(image, "the image")
    oci.unpack(image.layers, tree, work, "the image")
    return {os.path.relpath(f"{where}/{name}", tree.root) for where, names, files in os.walk(tree.root) for name in (*names, *files)}


def test_layers_go_over_each_other(tmp_path: pathlib.Path, work: Work) -> None:
    layout(
        tmp_path / "l",
        tar(directory("usr/bin"), link("bin", "usr/bin"), entry("etc/a", b"1"), entry("etc/b", b"1"), entry("opt/x/y", b"1"), entry("opt/z", b"1")),
        tar(entry("etc/.wh.b"), entry("etc/a", b"2"), entry("bin/sh", b"2"), mode="w:gz"),
        tar(entry("opt/new", b"3"), entry("opt/x/late", b"3"), entry("opt/.wh..wh..opq"), entry("opt/after", b"3"), entry("etc/.wh.none")),
    )
    names = unpack(tmp_path / "l", work)
    assert names == {"usr", "usr/bin", "usr/bin/sh", "bin", "etc", "etc/a", "opt", "opt/new", "opt/x", "opt/x/late", "opt/after"}
    assert pathlib.Path(work.path("tree"), "etc/a").read_bytes() == b"2"


def test_the_image_is_found_by_its_tag_and_architecture(tmp_path: pathlib.Path, work: Work) -> None:
    path = tmp_path / "l"
    one = layout(path, tar(entry("one")), tag="one", config={"Cmd": ["/one"]})
    layout(path, tar(entry("two")), tag="two")
    assert oci.read(str(path), "one", "i").digest == one
    assert oci.read(str(path), "one", "i").config == {"Cmd": ["/one"]}
    with pytest.raises(FailedPrecondition, match=r"holds several images \(one, two\). Add :TAG"):
        oci.read(str(path), "", "i")
    with pytest.raises(NotFound, match="no image 'three'"):
        oci.read(str(path), "three", "i")
    both = tmp_path / "m"
    layout(both, tar(entry("other")), architecture="riscv64", os="linux")
    with pytest.raises(NotFound, match=f"no image for {MACHINE}"):
        oci.read(str(both), "", "i")
    mine = layout(both, tar(entry("mine")), architecture=MACHINE, os="linux")
    assert oci.read(str(both), "", "i").digest == mine


def test_an_index_in_the_index(tmp_path: pathlib.Path, work: Work) -> None:
    path = tmp_path / "l"
    digest = layout(path, tar(entry("mine")), architecture=MACHINE, os="linux")
    inner = (path / "index.json").read_bytes()
    name = hashlib.sha256(inner).hexdigest()
    (path / "blobs/sha256" / name).write_bytes(inner)
    (path / "index.json").write_text(json.dumps({"manifests": [{"digest": f"sha256:{name}"}]}))
    assert oci.read(str(path), "", "i").digest == digest


def test_an_archive_of_a_layout(tmp_path: pathlib.Path, work: Work) -> None:
    path = tmp_path / "l"
    layout(path, tar(entry("a", b"1")), tag="v1")
    entries = [entry(str(file.relative_to(path)), file.read_bytes()) for file in path.rglob("*") if file.is_file()]
    archive = tmp_path / "image.tar"
    archive.write_bytes(tar(*entries, entry("../planted", b"x"), link("blobs/sha256/" + "0" * 64, "/etc/passwd")))
    where, tag = oci.bring(f"oci-archive:{archive}:v1", REACH, work)
    assert tag == "v1" and unpack(pathlib.Path(where), work, tag) == {"a"}
    assert not os.path.lexists(f"{where}/blobs/sha256/{'0' * 64}")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path, blobs: (path / "index.json").write_text("{"), "no JSON document"),
        (lambda path, blobs: (path / "index.json").write_text("[]"), "no JSON object"),
        (lambda path, blobs: (path / "index.json").write_text('{"manifests": [{"digest": "sha256:../../../etc/passwd"}]}'), "is no SHA-256 digest"),
        (lambda path, blobs: blobs["layer"].write_bytes(b"other"), "is damaged: its part"),
        (lambda path, blobs: blobs["layer"].unlink(), "lacks its part"),
    ],
)
def test_damaged_images_are_refused(tmp_path: pathlib.Path, work: Work, spoil: t.Callable[..., object], message: str) -> None:
    path = tmp_path / "l"
    body = tar(entry("a", b"1"))
    layout(path, body)
    layer = next(file for file in (path / "blobs/sha256").iterdir() if file.read_bytes() == body)
    spoil(path, {"layer": layer})
    with pytest.raises(FailedPrecondition, match=message):
        unpack(path, work)


def test_no_layout(tmp_path: pathlib.Path) -> None:
    with pytest.raises(NotFound, match=r"is no OCI layout: it has no index\.json"):
        oci.read(str(tmp_path), "", "i")


@pytest.mark.parametrize(("rest", "path", "tag"), [("/a", "/a", ""), ("/a:b", "/a", "b"), ("/a:b/c", "/a:b/c", ""), ("/a:sha256:b", "/a:sha256", "b")])
def test_references(rest: str, path: str, tag: str) -> None:
    assert oci.split(rest) == (path, tag)
