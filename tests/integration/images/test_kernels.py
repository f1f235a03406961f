# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernels: packed by the tests, and the distribution's own."""

from __future__ import annotations

import os
import pathlib
import platform
import subprocess

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging import kernel
from ansible_collections.unkey.vmcp.tests import kernels
from ansible_collections.unkey.vmcp.tests.fakes.http_files import FileServer
from ansible_collections.unkey.vmcp.tests.integration.images.conftest import Images, tool

PACKAGE = {"x86_64": "linux-image-cloud-amd64", "aarch64": "linux-image-cloud-arm64"}.get(platform.machine(), "")


def place(images: Images, name: str = "x") -> pathlib.Path:
    return pathlib.Path(images.layout.kernels, name)


@pytest.mark.parametrize("how", [*kernels.BY_PYTHON, *kernels.BY_PROGRAM])
def test_a_bzimage_becomes_a_vmlinux_under_its_version(images: Images, server: FileServer, how: str) -> None:
    if how in kernels.BY_PROGRAM:
        tool(kernels.BY_PROGRAM[how][0])
    wanted = kernels.vmlinux(config=kernels.CONFIG)
    server.add("/bzImage", kernels.bzimage(wanted, how))
    image = images.make(kind="kernel", url=f"{server.url}/bzImage")
    assert pathlib.Path(image["path"]).read_bytes() == wanted and image["format"] == "elf"
    facts = image["facts"]
    assert (facts["version"], facts["pvh"], facts["packed"]) == (kernels.VERSION, True, f"bzimage {how}")
    assert facts["needs"]["ext4"] == "built_in" and facts["needs_initrd_for"] == ["virtio_blk"]
    directory = place(images) / kernels.VERSION
    assert facts["kernel_path"] == f"{directory}/vmlinux" and (directory / "vmlinux").read_bytes() == wanted
    assert kernel.describe(str(directory / "vmlinuz"), "vmlinuz").format == "bzimage"
    assert (place(images) / "current").readlink() == pathlib.Path(kernels.VERSION)
    assert os.stat(directory / "vmlinux").st_mode & 0o777 == 0o444 and os.stat(directory).st_mode & 0o777 == 0o755


def test_versions_side_by_side(images: Images) -> None:
    path = images.top / "vmlinux"
    first: str = ""
    for version in ("6.1.0-1", "6.1.0-2"):
        path.write_bytes(kernels.vmlinux(version))
        result = images.ask(kind="kernel", path=str(path))
        first = first or result["image"]["facts"]["kernel_path"]
        assert (place(images) / "current").readlink() == pathlib.Path(version)
    assert sorted(entry.name for entry in place(images).iterdir()) == ["6.1.0-1", "6.1.0-2", "current"]
    # Another build of the same version does not change what a VM may be running from.
    path.write_bytes(kernels.vmlinux("6.1.0-2", pvh=False))
    result = images.ask(kind="kernel", path=str(path))
    assert result["image"]["facts"]["kernel_path"] == f"{place(images)}/6.1.0-2-{result['image']['digest'][7:15]}/vmlinux"
    assert (place(images) / "6.1.0-2" / "vmlinux").read_bytes() == kernels.vmlinux("6.1.0-2")
    # A VM that names any of them keeps all.
    vm = images.layout.vm("web")
    os.makedirs(vm.dir)
    pathlib.Path(vm.definition).write_text(f'{{"config": {{"boot": {{"kernel_path": "{first}"}}}}}}')
    assert "is used by vm:web" in images.refused("failed_precondition", state="absent")
    pathlib.Path(vm.definition).unlink()
    assert images.ask(state="absent")["changed"] and not place(images).exists()


def test_published_files_that_were_lost_are_made_again(images: Images) -> None:
    path = images.top / "vmlinux"
    path.write_bytes(kernels.vmlinux())
    image = images.make(kind="kernel", path=str(path))
    os.unlink(image["facts"]["kernel_path"])
    result = images.ask(kind="kernel", path=str(path))
    assert result["reason"] == "its published files are gone" and os.path.isfile(image["facts"]["kernel_path"])


def test_a_kernel_as_it_came(images: Images) -> None:
    path = images.top / "bzImage"
    path.write_bytes(kernels.bzimage(kernels.vmlinux(), "xz"))
    (images.top / f"config-{kernels.VERSION}").write_text(kernels.CONFIG)
    image = images.make(kind="kernel", path=str(path), format="original")
    assert image["format"] == "bzimage" and image["facts"]["kernel_path"].endswith("/vmlinuz") and image["facts"]["needs"]["pvh"] == "built_in"
    image = images.make(name="y", kind="kernel", path=str(path))
    assert image["format"] == "elf" and image["facts"]["kernel_path"].endswith("/vmlinux")


def test_an_arm64_kernel(images: Images, server: FileServer) -> None:
    server.add("/vmlinuz", kernels.zboot(kernels.arm64_image(), "gzip"))
    image = images.make(kind="kernel", url=f"{server.url}/vmlinuz")
    assert image["format"] == "arm64-image" and image["facts"]["architecture"] == "aarch64"
    assert pathlib.Path(image["facts"]["kernel_path"]).name == "Image"


def test_a_kernel_under_a_second_name(images: Images, server: FileServer) -> None:
    file = server.add("/vmlinuz", kernels.bzimage(kernels.vmlinux(), "gzip"))
    for name in ("one", "two"):
        image = images.make(name=name, kind="kernel", url=f"{server.url}/vmlinuz", checksum=file.digest)
        assert image["facts"]["kernel_path"] == f"{place(images, name)}/{kernels.VERSION}/vmlinux" and os.path.isfile(image["facts"]["kernel_path"])
        assert (place(images, name) / kernels.VERSION / "vmlinuz").read_bytes() == file.body
    assert len(server.gets("/vmlinuz")) == 1
    images.ask(name="one", state="absent")
    assert os.path.isfile(image["facts"]["kernel_path"]) and os.path.isfile(image["path"])


def test_what_is_no_kernel_leaves_nothing(images: Images, server: FileServer) -> None:
    server.add("/k", b"<html>" * 200)
    assert "k is no kernel: neither an ELF" in images.refused("failed_precondition", kind="kernel", url=f"{server.url}/k")
    assert not place(images).exists()


@pytest.fixture
def debian() -> None:
    tool("apt-get")
    tool("dpkg-deb")
    if not PACKAGE or subprocess.run(["apt-cache", "show", PACKAGE], capture_output=True, check=False).returncode != 0:
        pytest.skip(f"apt knows no package {PACKAGE or 'for this machine'}")


def test_the_kernel_of_a_package(images: Images, debian: None) -> None:
    predicted = images.ask(kind="kernel", package=PACKAGE, act=False)
    assert [step["action"] for step in predicted["steps"]] == ["download_package", "make", "publish"] and os.listdir(images.top) == []
    image = images.make(kind="kernel", package=PACKAGE)
    facts = image["facts"]
    directory = pathlib.Path(facts["published"])
    assert image["source"]["origin"]["package"] == f"linux-image-{facts['version']}"
    assert directory == place(images) / facts["version"]
    assert {entry.name for entry in directory.iterdir()} == {pathlib.Path(facts["kernel_path"]).name, "vmlinuz", "config", "modules"}
    assert list((directory / "modules").rglob("virtio_blk.ko*"))
    assert facts["needs"]["virtio_blk"] in ("module", "built_in") and facts["needs"]["serial"] == "built_in"
    if platform.machine() == "x86_64":
        assert (facts["format"], facts["pvh"]) == ("elf", True)
    assert not images.ask(kind="kernel", package=PACKAGE, refresh=True)["changed"]
    # The package that was named is as good as the one that it depends on.
    assert images.make(name="y", kind="kernel", package=image["source"]["origin"]["package"])["digest"] == image["digest"]


def test_packages_that_are_none(images: Images, debian: None) -> None:
    assert "holds no kernel" in images.refused("failed_precondition", kind="kernel", package="base-files")
