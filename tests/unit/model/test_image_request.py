# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import InvalidArgument
from ansible_collections.unkey.vmcp.plugins.module_utils.model.image_reading import read_image_request

DIGEST = "sha256:" + "ab" * 32
UPLOADED = {"name": "x", "size": 3, "digest": DIGEST}


def violations(**options: t.Any) -> dict[str, str]:
    with pytest.raises(InvalidArgument) as failure:
        read_image_request({"name": "x", **options})
    return {violation.field: violation.message for violation in failure.value.violations}


def test_what_is_not_said_has_a_meaning() -> None:
    request = read_image_request({"name": "x", "url": "https://h/x.qcow2"})
    assert (request.kind, request.format, request.unpack, request.max_size) == ("disk", "raw", True, 64 << 30)
    assert read_image_request({"name": "x", "kind": "kernel", "package": "linux-image-amd64"}).format == "vmlinux"
    assert not read_image_request({"name": "x", "kind": "initrd", "path": "/initrd"}).unpack


def test_a_file_url_is_a_path() -> None:
    request = read_image_request({"name": "x", "url": "file:///srv/a%20b.img"})
    assert (request.source_type, request.source) == ("path", "/srv/a b.img")


def test_checksums() -> None:
    url = {"url": "https://h/x"}
    assert read_image_request({"name": "x", **url, "checksum": DIGEST.upper().replace("SHA", "sha")}).checksum.digest == DIGEST
    for text in ("https://h/SHA256SUMS", "sha256:https://h/SHA256SUMS"):
        assert read_image_request({"name": "x", **url, "checksum": text}).checksum.url == "https://h/SHA256SUMS"
    assert "64 hexadecimal digits" in violations(**url, checksum="sha256:12")["checksum"]
    assert "named by its digest" in violations(kind="rootfs", container="docker://x", checksum=DIGEST)["checksum"]


@pytest.mark.parametrize(
    ("options", "field", "message"),
    [
        ({}, "url", "nothing is given: say by exactly one of url, path, src where the disk comes from"),
        ({"url": "https://h/x", "path": "/x"}, "path", "url and path are given"),
        ({"package": "linux-image"}, "package", "cannot be where a disk comes from"),
        ({"url": "ftp://h/x"}, "url", "http, https or file"),
        ({"url": "http:///x"}, "url", "http, https or file"),
        ({"url": "https://user:secret@h/x"}, "url", "Authorization header"),
        ({"url": "https://h/a b"}, "url", "urlencode"),
        ({"url": "file://other/x"}, "url", "a file of this host"),
        ({"path": "x.img"}, "path", "For a file of the controller use 'src'"),
        ({"src": "x.img"}, "src", "action plugin"),
        ({"kind": "rootfs", "container": "debian:12"}, "container", "docker://NAME"),
        ({"kind": "rootfs", "container": "oci:layout"}, "container", "absolute path"),
        ({"kind": "kernel", "package": "-o Dir=/x"}, "package", "name of a package"),
        ({"path": "/x", "format": "vmlinux"}, "format", "raw or qcow2 or vhdx for a disk"),
        ({"kind": "kernel", "path": "/x", "source_format": "raw"}, "source_format", "disks only"),
        ({"path": "/x", "max_size": "lots"}, "max_size", "is not a size"),
        ({"path": "/x", "max_size": 0}, "max_size", "more than nothing"),
        ({"path": "/x", "hostname": "web"}, "hostname", "kind: rootfs only"),
        ({"kind": "rootfs", "path": "/x", "hostname": "a b"}, "hostname", "host name"),
        ({"kind": "rootfs", "path": "/x", "filesystem": "squashfs", "size": "1G"}, "size", "squashfs"),
        ({"kind": "rootfs", "path": "/x", "label": "a" * 17}, "label", "16 bytes"),
        ({"kind": "rootfs", "path": "/x", "init": "sh"}, "init", "begins with #!"),
        ({"kind": "rootfs", "path": "/x", "init": "container"}, "init", "source is a container image"),
        ({"kind": "rootfs", "path": "/x", "files": [{"path": "/a/../b", "content": ""}]}, "files[0].path", "without '..'"),
        ({"kind": "rootfs", "path": "/x", "files": [{"path": "/a"}]}, "files[0]", "either content or source"),
        ({"kind": "rootfs", "path": "/x", "files": [{"path": "/a", "content": "", "mode": 644.5}]}, "files[0].mode", "octal"),
        ({"kind": "rootfs", "path": "/x", "files": [{"path": "/a", "content": "", "user": 1}]}, "files[0].user", "known are"),
        ({"kind": "rootfs", "path": "/x", "ssh_keys": {"root": ["a\nb"]}}, "ssh_keys.root", "one line each"),
        ({"kind": "rootfs", "path": "/x", "ssh_keys": {"a/b": ["k"]}}, "ssh_keys", "no user's name"),
        ({"path": "/x", "headers": {"A": "b\r\nC: d"}}, "headers", "is no header"),
        ({"path": "/x", "proxy": "h:1"}, "proxy", "http URL"),
        ({"path": "/x", "retries": -1}, "retries", "at least 0"),
        ({"name": "A", "path": "/x"}, "name", "must be 1 to 63"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(options: dict[str, t.Any], field: str, message: str) -> None:
    assert message in violations(**options)[field]


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert set(violations(name="A", path="x", checksum="1", max_size="x", hostname="h")) == {"name", "path", "checksum", "max_size", "hostname"}


def test_what_is_recorded_holds_no_secrets() -> None:
    files = [{"path": "/etc/secret", "content": "hunter2"}]
    request = read_image_request({"name": "x", "kind": "rootfs", "src": "x", "uploaded": UPLOADED, "files": files, "headers": {"Authorization": "hunter2"}})
    assert "hunter2" not in repr(request.given())
    assert request.given()["source"] == DIGEST


def test_nothing_is_needed_to_remove_an_image() -> None:
    assert read_image_request({"name": "x", "state": "absent"}).state == "absent"
