# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import gzip
import pathlib
import shutil

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition
from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging import kernel, kernel_config
from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging.work import Work
from ansible_collections.unkey.vmcp.tests import kernels


def program(how: str) -> str:
    return kernels.BY_PROGRAM[how][0] if how in kernels.BY_PROGRAM else "python"


def params(*names: str) -> list[object]:
    """What Python itself cannot pack needs a program; ./test installs them for the integration tests."""
    missing = {how for how in names if how in kernels.BY_PROGRAM and not shutil.which(program(how))}
    return [pytest.param(how, marks=pytest.mark.skipif(how in missing, reason=f"the program {program(how)} is not installed")) for how in names]


def extract(work: Work, content: bytes) -> tuple[kernel.Kernel, bytes]:
    path, target = pathlib.Path(work.path("given")), pathlib.Path(work.path("target"))
    path.write_bytes(content)
    found = kernel.extract(str(path), str(target), work, "given")
    left = {file.name for file in pathlib.Path(work.dir).iterdir()} - {"given", "target", "stderr"}
    assert not left
    return found, target.read_bytes()


@pytest.mark.parametrize("how", params(*kernels.BY_PYTHON, *kernels.BY_PROGRAM, "none"))
def test_a_bzimage_of_every_compression(work: Work, how: str) -> None:
    # The build appends relocations to the ELF.
    wanted = kernels.vmlinux() + b"relocations" * 100
    found, content = extract(work, kernels.bzimage(wanted, how))
    assert content == wanted
    assert found == kernel.Kernel("elf", "x86_64", kernels.VERSION, True, f"bzimage {how}".removesuffix(" none"))


@pytest.mark.parametrize("how", params("gzip", "zstd", "xz"))
def test_arm64_images(work: Work, how: str) -> None:
    wanted = kernels.arm64_image()
    expected = kernel.Kernel("arm64-image", "aarch64", kernels.VERSION, False)
    assert extract(work, wanted) == (expected, wanted)
    found, content = extract(work, kernels.compress(wanted, how))
    assert content == wanted and found.packed == how
    found, content = extract(work, kernels.zboot(wanted, how))
    assert content == wanted and found.packed == f"efi-zboot {how}"
    found, content = extract(work, gzip.compress(kernels.zboot(wanted, how)))
    assert content == wanted and found.packed == f"gzip efi-zboot {how}"


def test_what_is_a_vmlinux_already(work: Work) -> None:
    wanted = kernels.vmlinux(pvh=False)
    assert extract(work, wanted) == (kernel.Kernel("elf", "x86_64", kernels.VERSION, False), wanted)
    assert extract(work, gzip.compress(wanted))[0].packed == "gzip"


def test_a_kernel_is_described_as_it_is(work: Work) -> None:
    path = pathlib.Path(work.path("k"))
    path.write_bytes(kernels.bzimage(kernels.vmlinux(), "gzip"))
    assert kernel.describe(str(path), "k") == kernel.Kernel("bzimage", "x86_64", kernels.VERSION, False, "bzimage")
    path.write_bytes(kernels.zboot(kernels.arm64_image(), "gzip"))
    assert kernel.describe(str(path), "k").packed == "efi-zboot"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>" * 1000, "is no kernel: neither an ELF"),
        (b"", "is no kernel"),
        (gzip.compress(b"text" * 1000), "is no kernel"),
        (kernels.bzimage(kernels.vmlinux(), "gzip", protocol=0x204), "before 2.6.26"),
        (kernels.bzimage(kernels.vmlinux(), "gzip")[:9500], "ends too early: its kernel of .* is cut off"),
        (kernels.bzimage(b"text" * 1000, "gzip"), "holds .* is no kernel"),
        (kernels.bzimage(b"text" * 1000, "none"), "compressed by something unknown"),
        (kernels.vmlinux(machine=243), "another machine"),
        (kernels.vmlinux()[:100], "ELF that ends too early"),
        (b"\x7fELF\x01\x01" + bytes(100), "not one of 64 bits"),
        (kernels.bzimage(bytes(kernels.vmlinux()) + bytes(9 << 20), "gzip"), "more than max_size allows"),
    ],
)
def test_what_is_no_kernel(work: Work, content: bytes, message: str) -> None:
    with pytest.raises(FailedPrecondition, match=message):
        extract(work, content)


@pytest.mark.parametrize("position", [40, 300, -1200])
def test_a_damaged_kernel(work: Work, position: int) -> None:
    image = bytearray(kernels.bzimage(kernels.vmlinux(), "xz"))
    start = 16 * 512 + 777
    at = start + position if position > 0 else len(image) + position
    image[at : at + 8] = bytes(byte ^ 0xFF for byte in image[at : at + 8])
    try:
        found, content = extract(work, bytes(image))
    except FailedPrecondition as exc:
        assert "damaged" in exc.msg
    else:
        # Behind the payload lies nothing that matters.
        assert content == kernels.vmlinux() and found.version == kernels.VERSION


def test_what_a_kernel_has_built_in(work: Work) -> None:
    path = pathlib.Path(work.path("k"))
    path.write_bytes(b"IKCFG_ST of a program" + kernels.vmlinux(config=kernels.CONFIG))
    needs = kernel_config.needs(kernel_config.embedded(str(path)))
    assert needs["ext4"] == needs["pvh"] == needs["virtio_rng"] == "built_in"
    assert needs["virtio_blk"] == "module" and needs["virtio_net"] == "missing"
    path.write_bytes(kernels.vmlinux())
    assert kernel_config.embedded(str(path)) == ""


def test_a_configuration_beside_a_kernel(tmp_path: pathlib.Path) -> None:
    (tmp_path / f"config-{kernels.VERSION}").write_text(kernels.CONFIG)
    (tmp_path / "vmlinux-5.10.config").write_text("CONFIG_EXT4_FS=m\n")
    (tmp_path / "config-6").write_text("no configuration")
    assert kernel_config.beside(str(tmp_path / "bzImage"), kernels.VERSION) == kernels.CONFIG
    assert kernel_config.beside(str(tmp_path / "vmlinux-5.10"), "") == "CONFIG_EXT4_FS=m\n"
    assert kernel_config.beside(str(tmp_path / "vmlinuz-6"), "") == ""
