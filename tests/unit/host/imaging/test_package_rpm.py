# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernels from RPM packages. dnf, rpmkeys and rpm2cpio are stand-ins that answer as theirs do, by their manuals: no Red Hat was at hand. cpio is real."""

from __future__ import annotations

import os
import pathlib
import platform
import subprocess

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition, NotFound
from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging import package, package_rpm, tools
from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging.work import Work

RELEASE = f"6.12.0-55.el10.{platform.machine()}"
DNF = r"""#!/bin/sh
echo "$*" >> "$(dirname "$0")/asked"
case $* in
    *repoquery*kernel-core\ kernel) printf 'kernel 6.12.0-55.el10\nkernel-core 6.12.0-55.el10\n' ;;
    *repoquery*) ;;
    *download*) for word; do case $word in --destdir=*) cp "$(dirname "$0")/payload.rpm" "${word#*=}/" ;; esac; done ;;
    *makecache*) ;;
    *) echo "Unknown command" >&2; exit 2 ;;
esac
"""
RPMKEYS = r"""#!/bin/sh
for file; do :; done
[ ! -e "$(dirname "$0")/unsigned" ] || { echo "$file: digests SIGNATURES NOT OK"; exit 1; }
echo "$file: digests signatures OK"
"""
# The payload of the stand-in's package is a cpio archive as it is.
RPM2CPIO = '#!/bin/sh\nexec cat "$1"\n'


@pytest.fixture
def rpm(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A directory of such programs, first of those beyond the system's."""
    if tools.is_there("dnf"):
        pytest.skip("this machine has a dnf of its own, which would be asked in the stand-in's place")
    if not tools.is_there("cpio"):
        pytest.skip("cpio is not installed")
    directory = tmp_path / "programs"
    directory.mkdir()
    for name, text in (("dnf", DNF), ("rpmkeys", RPMKEYS), ("rpm2cpio", RPM2CPIO)):
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    tree = tmp_path / "tree"
    place = tree / "lib" / "modules" / RELEASE
    place.mkdir(parents=True)
    (place / "vmlinuz").write_bytes(b"kernel")
    (place / "config").write_text("CONFIG_VIRTIO_BLK=m\n")
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    with open(directory / "payload.rpm", "wb") as stream:
        subprocess.run(["cpio", "--create", "--format=newc", "--quiet"], input=names.encode(), stdout=stream, cwd=tree, check=True)
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{directory}")
    return directory


def test_the_kernel_is_in_the_package_that_the_named_one_depends_on(rpm: pathlib.Path, work: Work) -> None:
    assert package_rpm.resolve("kernel", work) == ("kernel-core", "6.12.0-55.el10")
    assert f"--arch={platform.machine()}" in (rpm / "asked").read_text()
    with pytest.raises(NotFound, match="dnf knows no package 'nothing'"):
        package_rpm.resolve("nothing", work)
    package_rpm.update_lists(work)


def test_it_is_fetched_checked_and_unpacked(rpm: pathlib.Path, work: Work) -> None:
    directory = pathlib.Path(work.path("package"))
    directory.mkdir()
    package_rpm.download("kernel-core", "6.12.0-55.el10", str(directory), work)
    assert f"kernel-core-6.12.0-55.el10.{platform.machine()}" in (rpm / "asked").read_text()
    found = package.unpack(str(directory / "payload.rpm"), "kernel-core", "6.12.0-55.el10", work)
    assert pathlib.Path(found.kernel).read_bytes() == b"kernel" and found.kernel.endswith(f"/{RELEASE}/vmlinuz")
    assert pathlib.Path(found.config).read_text() == "CONFIG_VIRTIO_BLK=m\n" and found.modules == os.path.dirname(found.kernel)
    assert not os.path.exists(work.path("payload"))


def test_one_that_nobody_trusted_has_signed_is_refused(rpm: pathlib.Path, work: Work) -> None:
    (rpm / "unsigned").touch()
    directory = pathlib.Path(work.path("package"))
    directory.mkdir()
    with pytest.raises(FailedPrecondition, match=r"SIGNATURES NOT OK.*import the distribution's key"):
        package_rpm.download("kernel-core", "6.12.0-55.el10", str(directory), work)


def test_a_package_that_leads_elsewhere_has_no_kernel(tmp_path: pathlib.Path) -> None:
    modules = tmp_path / "lib" / "modules"
    (modules / "6").mkdir(parents=True)
    (modules / "6" / "vmlinuz").symlink_to("/etc/passwd")
    (modules / "7").symlink_to("/")
    assert package.look(str(tmp_path), "x", "1").kernel == ""
