# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(vmcp_image) and C(vmcp_image_info) as users run them."""

from __future__ import annotations

import gzip
import os
import pathlib
import subprocess
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.fakes.http_files import FileServer
from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground, task

CONTENT = os.urandom(1 << 20) + bytes(1 << 20)


@pytest.fixture
def server() -> t.Iterator[FileServer]:
    with FileServer() as running:
        yield running


def test_an_image_from_a_server(ground: Playground, server: FileServer) -> None:
    file = server.add("/disk.raw.gz", gzip.compress(CONTENT))
    server.add("/other.raw", CONTENT[::-1])
    image = {"name": "disk", "url": f"{server.url}/disk.raw.gz", "checksum": file.digest, "proxy": ""}
    results = ground.play(
        [
            task("check", "vmcp_image", check=True, **image),
            task("make", "vmcp_image", **image, headers={"Authorization": "Bearer hunter2-hunter2"}),
            task("again", "vmcp_image", **image),
            task("check again", "vmcp_image", check=True, **image),
            task("wrong", "vmcp_image", **{**image, "url": f"{server.url}/other.raw", "checksum": "sha256:" + "0" * 64}),
            task("gone", "vmcp_image", **{**image, "name": "gone", "url": f"{server.url}/gone", "checksum": None}),
            task("all that is wrong", "vmcp_image", name="Disk", path="x", package="y"),
            task("info", "vmcp_image_info", verify=True),
            task("no such info", "vmcp_image_info", name="dusk"),
            task("check removal", "vmcp_image", check=True, name="disk", state="absent"),
            task("remove", "vmcp_image", name="disk", state="absent"),
            task("remove again", "vmcp_image", name="disk", state="absent"),
        ]
    )
    check = results.ok("check")
    assert check["changed"] and not check.touched and [step["action"] for step in check["steps"]] == ["fetch", "make", "publish"]
    assert "url" not in check.get("image", {}) and check["diff"]["before"] == {}
    made = results.ok("make")
    assert made["changed"] and made["image"]["digest"] == made["diff"]["after"]["digest"]
    assert "hunter2" not in results.output and server.gets("/disk.raw.gz")[0].headers["Authorization"] == "Bearer hunter2-hunter2"
    for name in ("again", "check again"):
        assert not results.ok(name)["changed"] and not results[name].touched
    assert server.gets("/disk.raw.gz") and len(server.gets("/disk.raw.gz")) == 1
    assert "not sha256:0000" in results.refused("wrong", "failed_precondition")["msg"]
    assert "404 Not Found" in results.refused("gone", "not_found")["msg"]
    assert {violation["field"] for violation in results.refused("all that is wrong", "invalid_argument")["violations"]} >= {"name", "package"}
    (listed,) = results.ok("info")["images"]
    assert listed["intact"] and listed["digest"] == made["image"]["digest"] and results["info"]["stored_bytes"] < len(CONTENT)
    assert "Did you mean 'disk'" in results.refused("no such info", "not_found")["msg"]
    assert results.ok("check removal")["actions"] == ["remove"] and not results["check removal"].touched
    assert results.ok("remove")["changed"] and not results.ok("remove again")["changed"]


def test_a_file_of_the_controller_travels_once(ground: Playground) -> None:
    file = ground.top / "files" / "disk.raw"
    file.parent.mkdir()
    file.write_bytes(CONTENT)
    sent = ground.top / "ansible" / "tmp"
    results = ground.play(
        [
            task("check", "vmcp_image", check=True, name="one", src="disk.raw"),
            task("make", "vmcp_image", name="one", src="disk.raw"),
            task("again", "vmcp_image", name="one", src="disk.raw"),
            task("another name", "vmcp_image", name="two", src="disk.raw"),
            task("in the background", "vmcp_image", name="three", src="disk.raw", format="qcow2") | {"async": 600, "poll": 1},
            task("none", "vmcp_image", name="one", src="nothing.raw"),
            {"name": "change it", "ansible.builtin.copy": {"content": "x" * 4096, "dest": str(file)}},
            task("changed", "vmcp_image", name="one", src="disk.raw"),
        ],
        ANSIBLE_ASYNC_DIR=str(ground.top / "async"),
    )
    assert results.ok("check")["actions"] == ["transfer", "make", "publish"] and not results["check"].touched
    made = results.ok("make")
    assert pathlib.Path(made["image"]["path"]).read_bytes() == CONTENT or made["changed"]
    assert "upload_needed" not in made and made["actions"] == ["transfer", "make", "publish"]
    assert not results.ok("again")["changed"]
    # Its content is there: nothing is transferred.
    assert results.ok("another name")["actions"] == ["adopt", "publish"]
    assert results.ok("in the background")["image"]["format"] == "qcow2"
    assert "nothing.raw cannot be read on the controller" in results.refused("none", "not_found")["msg"]
    assert results.ok("changed")["changed"]
    # What ran in the background clears up after itself, in its own time.
    deadline = time.monotonic() + 120
    while (left := list(sent.rglob("vmcp-image"))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


@pytest.mark.skipif(os.geteuid() != 0, reason="owners of files can be kept by root alone")
def test_a_directory_of_the_controller_becomes_a_root_file_system(ground: Playground) -> None:
    tree = ground.top / "files" / "machine"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc" / "motd").write_text("one\n")
    (tree / "etc" / "tool").write_text("#!/bin/sh\n")
    (tree / "etc" / "tool").chmod(0o750)
    (tree / "etc" / "link").symlink_to("motd")
    os.chown(tree / "etc" / "tool", 12, 34)
    image = {"name": "machine", "kind": "rootfs", "src": "machine"}
    results = ground.play(
        [
            task("check", "vmcp_image", check=True, **image),
            task("make", "vmcp_image", **image),
            {"name": "touch", "ansible.builtin.file": {"path": str(tree / "etc" / "motd"), "state": "touch"}},
            task("again", "vmcp_image", **image),
            task("as a disk", "vmcp_image", name="disk", src="machine/"),
            {"name": "change", "ansible.builtin.copy": {"content": "two\n", "dest": str(tree / "etc" / "motd")}},
            task("changed", "vmcp_image", **image),
        ]
    )
    assert results.ok("check")["actions"] == ["transfer", "make", "publish"] and not results["check"].touched
    made = results.ok("make")
    assert not results.ok("again")["changed"], "times are no content"
    assert [found["field"] for found in results.refused("as a disk", "invalid_argument")["violations"]] == ["src"]
    assert "Set kind: rootfs" in results["as a disk"]["msg"]
    path = results.ok("changed")["image"]["path"]
    assert results["changed"]["changed"] and path != made["image"]["path"]
    said = {name: asked(path, f"stat /etc/{name}") for name in ("motd", "tool", "link")}
    assert asked(path, "cat /etc/motd") == "two\n" and 'Fast link dest: "motd"' in said["link"]
    assert "User:    12   Group:    34" in said["tool"] and "Mode:  0750" in said["tool"] and "User:     0   Group:     0" in said["motd"]


def asked(path: str, question: str) -> str:
    return subprocess.run(["debugfs", "-R", question, path], check=True, capture_output=True, text=True).stdout
