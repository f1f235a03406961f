# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks in every format, good ones and hostile ones."""

from __future__ import annotations

import gzip
import hashlib
import os
import pathlib
import struct
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.fakes.http_files import FileServer
from ansible_collections.unkey.vmcp.tests.integration.images.conftest import Images, run

CONTENT = os.urandom(200_000) + bytes(3 << 20) + os.urandom(1 << 20)
CONTENT += bytes(-len(CONTENT) % 512)


def raw(images: Images) -> pathlib.Path:
    path = images.top / "disk.raw"
    path.write_bytes(CONTENT)
    return path


def in_format(images: Images, form: str, *options: str) -> pathlib.Path:
    path = images.top / f"in.{form}"
    run("qemu-img", "convert", "-f", "raw", "-O", form, *options, str(raw(images)), str(path))
    return path


@pytest.mark.parametrize("form", ["raw", "qcow2", "vmdk", "vdi", "vhdx", "vpc"])
def test_every_format_becomes_raw(images: Images, form: str) -> None:
    image = images.make(path=str(in_format(images, form)))
    stored = pathlib.Path(image["path"]).read_bytes()
    assert stored[: len(CONTENT)] == CONTENT and not any(stored[len(CONTENT) :])
    assert image["format"] == "raw" and image["size_bytes"] == len(stored) and image["facts"]["source_format"] == form
    assert image["stored_bytes"] < len(CONTENT) - (2 << 20)


def test_options_of_formats(images: Images) -> None:
    for index, (form, options) in enumerate([("qcow2", ["-c"]), ("vmdk", ["-o", "subformat=streamOptimized"]), ("vpc", ["-o", "subformat=fixed"])]):
        path = in_format(images, form, *options).rename(images.top / f"{index}.img")
        assert pathlib.Path(images.make(name=f"x{index}", path=str(path))["path"]).read_bytes()[: len(CONTENT)] == CONTENT


@pytest.mark.parametrize("form", ["qcow2", "vhdx"])
def test_what_backends_take_as_it_is(images: Images, form: str) -> None:
    path = in_format(images, form)
    image = images.make(path=str(path), format=form)
    assert image["format"] == form and image["size_bytes"] == len(CONTENT)
    assert pathlib.Path(image["path"]).read_bytes() == path.read_bytes()
    other = images.make(name="y", path=str(raw(images)), format=form)
    assert run("qemu-img", "compare", "-f", form, "-F", "raw", other["path"], str(raw(images))).startswith("Images are identical")


def test_a_compressed_qcow2_from_a_server(images: Images, server: FileServer) -> None:
    file = server.add("/d.qcow2.gz", gzip.compress(in_format(images, "qcow2").read_bytes()))
    sums = server.add("/SHA256SUMS", f"{file.digest.partition(':')[2]}  d.qcow2.gz\n".encode())
    options: dict[str, t.Any] = {"url": f"{server.url}/d.qcow2.gz", "checksum": f"{server.url}/SHA256SUMS"}
    image = images.make(**options)
    assert image["facts"] == {"source_format": "qcow2", "compression": "gzip"}
    assert pathlib.Path(image["path"]).read_bytes() == CONTENT
    assert len(server.gets("/d.qcow2.gz")) == 1 and len(server.gets("/SHA256SUMS")) == 1
    # Asked for, the list tells of a newer file.
    assert not images.ask(**options, refresh=True)["changed"]
    assert len(server.gets("/d.qcow2.gz")) == 1
    newer = server.add("/d.qcow2.gz", gzip.compress(b"n" * 1024))
    sums.body = f"{newer.digest.partition(':')[2]} *d.qcow2.gz\n".encode()
    assert not images.ask(**options)["changed"]
    predicted = images.ask(**options, refresh=True, act=False)
    assert predicted["changed"] and predicted["reason"] == "the list of checksums names another one"
    result = images.ask(**options, refresh=True)
    assert result["changed"] and pathlib.Path(result["image"]["path"]).read_bytes() == b"n" * 1024


def test_checksums_of_sha512(images: Images, server: FileServer) -> None:
    """Debian lists its cloud images by these alone."""
    server.add("/d.raw", CONTENT)
    wanted = hashlib.sha512(CONTENT).hexdigest()
    server.add("/SHA512SUMS", f"{wanted}  d.raw\n".encode())
    options: dict[str, t.Any] = {"url": f"{server.url}/d.raw", "checksum": f"{server.url}/SHA512SUMS"}
    assert images.make(**options)["source"]["checksum"] == f"sha512:{wanted}"
    assert not images.ask(**options, refresh=True)["changed"]
    images.make(name="y", path=str(raw(images)), checksum=f"sha512:{wanted}")
    for source in ({"url": f"{server.url}/d.raw"}, {"path": str(raw(images))}):
        assert f"has the checksum sha512:{wanted}, not" in images.refused("failed_precondition", name="z", checksum="sha512:" + "0" * 128, **source)
    assert len(server.gets("/d.raw")) == 2


def test_a_server_says_whether_its_file_is_another(images: Images, server: FileServer) -> None:
    file = server.add("/d", bytes(4096), etag='"1"')
    images.make(url=f"{server.url}/d")
    assert not images.ask(url=f"{server.url}/d", refresh=True)["changed"]
    file.body, file.etag = b"x" * 4096, '"2"'
    assert images.ask(url=f"{server.url}/d", refresh=True)["reason"] == "its server has another one"
    assert len(server.gets("/d")) == 2


def test_the_same_content_is_fetched_once_for_all_names(images: Images, server: FileServer) -> None:
    file = server.add("/d", CONTENT)
    one = images.make(name="one", url=f"{server.url}/d", checksum=file.digest)
    result = images.ask(name="two", url="http://127.0.0.1:1/mirror/d", checksum=file.digest)
    assert result["actions"] == ["adopt", "publish"] and result["image"]["path"] == one["path"]
    assert len(server.gets("/d")) == 1
    # Another format is another image.
    assert images.ask(name="three", url=f"{server.url}/d", checksum=file.digest, format="qcow2")["image"]["path"] != one["path"]
    assert sum(".content" in name for name in images.files()) == 2
    for name in ("one", "two", "three"):
        assert images.ask(name=name, state="absent")["changed"]
    assert images.files() == set()


def test_wrong_bytes_leave_the_old_image(images: Images, server: FileServer) -> None:
    file = server.add("/d", CONTENT)
    old = images.make(url=f"{server.url}/d", checksum=file.digest)
    server.add("/new", b"other" * 1000)
    message = images.refused("failed_precondition", url=f"{server.url}/new", checksum="sha256:" + "0" * 64)
    assert "not sha256:000" in message
    found = images.store.require("x")
    assert found.path == old["path"] and pathlib.Path(found.path).read_bytes() == CONTENT
    path = images.top / "file"
    path.write_bytes(b"x" * 1024)
    assert "has the checksum" in images.refused("failed_precondition", path=str(path), checksum="sha256:" + "0" * 64)


def test_check_mode_touches_nothing(images: Images, server: FileServer) -> None:
    server.add("/d", CONTENT)
    result = images.ask(url=f"{server.url}/d", checksum=f"{server.url}/SHA256SUMS", act=False)
    assert result["changed"] and [step["action"] for step in result["steps"]] == ["fetch", "make", "publish"]
    assert not server.requests and os.listdir(images.top) == []
    assert result["diff"]["after"]["source"] == f"{server.url}/d"


def test_a_source_that_changes_is_taken_again(images: Images) -> None:
    path = raw(images)
    images.make(path=str(path))
    path.write_bytes(b"new!" * 1024)
    result = images.ask(path=str(path))
    assert result["reason"] == "its source has changed" and pathlib.Path(result["image"]["path"]).read_bytes() == b"new!" * 1024
    assert sum(".content" in name for name in images.files()) == 1
    path.unlink()
    assert "There is no" in images.refused("not_found", path=str(path))
    # Known by its checksum, it need not be there.
    assert not images.ask(path=str(path), checksum=result["image"]["source"]["digest"])["changed"]


def test_odd_sizes_are_made_whole(images: Images) -> None:
    path = images.top / "odd"
    path.write_bytes(b"x" * 1000)
    assert images.make(path=str(path))["size_bytes"] == 1024


# --- hostile ones ---------------------------------------------------------------------------------------
def secret(images: Images) -> pathlib.Path:
    path = images.top / "secret.raw"
    path.write_bytes(b"SECRET" + bytes(1 << 20))
    return path


def test_a_backing_file_is_refused(images: Images) -> None:
    for form in ("qcow2", "vmdk"):
        path = images.top / f"evil.{form}"
        base = secret(images) if form == "qcow2" else in_format(images, "vmdk")
        run("qemu-img", "create", "-f", form, "-b", str(base), "-F", "raw" if form == "qcow2" else form, str(path))
        message = images.refused("failed_precondition", path=str(path))
        assert ("has a backing file" if form == "qcow2" else "has a parent") in message and "Make it whole" in message
        assert "SECRET" not in message


def test_a_qcow2_with_an_external_data_file_is_refused(images: Images) -> None:
    path = images.top / "evil.qcow2"
    run("qemu-img", "create", "-f", "qcow2", "-o", f"data_file={images.top}/data,data_file_raw=on", str(path), "1M")
    assert "has an external data file" in images.refused("failed_precondition", path=str(path))
    assert "has an external data file" in images.refused("failed_precondition", path=str(path), format="qcow2")


def test_an_encrypted_qcow2_is_refused(images: Images) -> None:
    path = in_format(images, "qcow2")
    body = bytearray(path.read_bytes())
    struct.pack_into(">I", body, 32, 2)
    path.write_bytes(body)
    assert "is encrypted" in images.refused("failed_precondition", path=str(path))


@pytest.mark.parametrize("extent", ['FLAT "{secret}" 0', 'VMFS "{secret}"', 'SPARSE "{secret}"\nRW 2048 FLAT "{secret}" 0'])
def test_a_vmdk_with_extents_elsewhere_is_refused(images: Images, extent: str) -> None:
    text = f'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\nRW 2048 {extent}\n'.format(secret=secret(images))
    path = images.top / "evil.vmdk"
    path.write_text(text)
    assert "data are in other files" in images.refused("failed_precondition", path=str(path))
    # The same words in the descriptor that is in the image itself.
    body = bytearray(in_format(images, "vmdk").read_bytes())
    offset = struct.unpack_from("<Q", body, 28)[0] * 512
    inner = text.replace("monolithicFlat", "monolithicSparse").encode()
    body[offset : offset + 1024] = inner.ljust(1024, b"\0")
    path.write_bytes(body)
    assert "extents in other files" in images.refused("failed_precondition", path=str(path))


def test_a_vdi_and_a_vhd_that_build_on_others_are_refused(images: Images) -> None:
    path = in_format(images, "vdi")
    body = bytearray(path.read_bytes())
    struct.pack_into("<I", body, 0x4C, 4)
    path.write_bytes(body)
    assert "VDI that builds on another" in images.refused("failed_precondition", path=str(path))
    path = in_format(images, "vpc")
    body = bytearray(path.read_bytes())
    for footer in (0, len(body) - 512):
        struct.pack_into(">I", body, footer + 60, 4)
    path.write_bytes(body)
    assert "differencing VHD" in images.refused("failed_precondition", path=str(path))


def test_a_disk_that_is_larger_than_allowed_is_refused(images: Images) -> None:
    path = images.top / "huge.qcow2"
    run("qemu-img", "create", "-f", "qcow2", str(path), "100T")
    assert "The disk in" in images.refused("failed_precondition", path=str(path))
    assert "more than max_size allows (1MiB)" in images.refused("failed_precondition", path=str(raw(images)), max_size="1M")
    sparse = images.top / "sparse"
    with sparse.open("wb") as stream:
        stream.truncate(1 << 40)
    assert "1TiB, more than max_size allows" in images.refused("failed_precondition", path=str(sparse))


def test_damaged_images_do_not_pass(images: Images) -> None:
    path = images.top / "torn"
    for form in ("qcow2", "vmdk", "vdi", "vhdx", "vpc"):
        body = in_format(images, form).read_bytes()
        for length in (600, 70_000, len(body) // 2):
            path.write_bytes(body[:length])
            images.refused("failed_precondition", path=str(path))
    path.write_bytes(b"QFI\xfb\0\0\0\7" + bytes(1000))
    assert "a qcow2 image of version 7" in images.refused("failed_precondition", path=str(path))


def test_a_web_page_is_no_disk(images: Images, server: FileServer) -> None:
    server.add("/login", b"<!DOCTYPE html><title>Log in</title>" + bytes(1000))
    assert "is a web page, not an image" in images.refused("failed_precondition", url=f"{server.url}/login")


def test_a_file_that_is_called_raw_is_read_as_raw(images: Images) -> None:
    """Whoever says what it is gets what is said: nothing is guessed then."""
    path = in_format(images, "qcow2")
    assert pathlib.Path(images.make(path=str(path), source_format="raw")["path"]).read_bytes()[:4] == b"QFI\xfb"
    assert "is no qcow2 image" in images.refused("failed_precondition", name="y", path=str(raw(images)), source_format="qcow2")
