# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the host, as root: C(fetch_kernel.py PACKAGE TARGET) downloads a kernel's package and unpacks it to C(TARGET), with the kernel as C(TARGET/vmlinuz).

The package is not installed. Everything happens beside the target, which appears whole or not at all. Standard library, apt and dpkg only.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

TIMEOUT_S = 900
# x86: the boot protocol's magic number at its offset in a bzImage. arm64: that of an Image. ELF: a vmlinux.
MAGIC_NUMBERS = ((0x202, b"HdrS"), (0x38, b"ARMd"), (0, b"\x7fELF"))


def run(*command: str, cwd: pathlib.Path) -> None:
    ended = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True, timeout=TIMEOUT_S)
    if ended.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{ended.stderr[-2000:]}")


def is_kernel(path: pathlib.Path) -> bool:
    with path.open("rb") as stream:
        head = stream.read(1024)
    # Some distributions compress arm64's Image once more.
    return head[:2] == b"\x1f\x8b" or any(head[offset : offset + len(magic)] == magic for offset, magic in MAGIC_NUMBERS)


def main(package: str, target: pathlib.Path) -> None:
    os.umask(0o022)
    work = pathlib.Path(tempfile.mkdtemp(prefix=".fetching-", dir=target.parent))
    try:
        # apt would otherwise drop to a user who cannot write here, and say so at length.
        run("apt-get", "-o", "APT::Sandbox::User=root", "-o", "DPkg::Lock::Timeout=300", "download", package, cwd=work)
        archives = list(work.glob("*.deb"))
        run("dpkg-deb", "--extract", str(archives[0]), "unpacked", cwd=work)
        unpacked = work / "unpacked"
        kernels = sorted(unpacked.glob("boot/vmlinu[xz]-*"))
        if not kernels:
            sys.exit(f"The package {package} holds no kernel (no /boot/vmlinuz-*). Name another one in vmcp_kernel_packages.")
        if not is_kernel(kernels[0]):
            sys.exit(f"{kernels[0].name} of the package {package} is not a kernel that a VMM could boot.")
        kernels[0].rename(unpacked / "vmlinuz")
        # Ubuntu's is readable for root alone, and VMMs are not root.
        (unpacked / "vmlinuz").chmod(0o644)
        unpacked.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
