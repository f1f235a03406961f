# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the host, as root: C(quickstart_initramfs.py KERNEL_DIRECTORY INIT TARGET) makes the quickstart's initramfs.

It holds busybox, fetched (not installed) from the distribution's package busybox-static, the init file, and the kernel's modules for the power button
where those are not built in. Standard library, apt and dpkg only.
"""

from __future__ import annotations

import gzip
import lzma
import pathlib
import subprocess
import sys
import tempfile

TIMEOUT_S = 300
MODULES = ("button", "evdev")
DIRECTORY, FILE, DEVICE = 0o040755, 0o100755, 0o020600


def run(*command: str, cwd: pathlib.Path) -> bytes:
    ended = subprocess.run(command, cwd=cwd, check=False, capture_output=True, timeout=TIMEOUT_S)
    if ended.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{ended.stderr.decode(errors='replace')[-2000:]}")
    return ended.stdout


def busybox() -> bytes:
    with tempfile.TemporaryDirectory(prefix="vmcp-quickstart-") as name:
        work = pathlib.Path(name)
        run("apt-get", "-o", "APT::Sandbox::User=root", "-o", "DPkg::Lock::Timeout=300", "download", "busybox-static", cwd=work)
        run("dpkg-deb", "--extract", str(next(work.glob("*.deb"))), "unpacked", cwd=work)
        found = [path for path in (work / "unpacked/bin/busybox", work / "unpacked/usr/bin/busybox") if path.exists()]
        if not found:
            sys.exit("The package busybox-static holds no busybox.")
        return found[0].read_bytes()


def module(path: pathlib.Path) -> bytes:
    content = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(content)
    if path.suffix == ".gz":
        return gzip.decompress(content)
    if path.suffix == ".zst":
        return run("zstd", "--decompress", "--stdout", str(path), cwd=path.parent)
    return content


def cpio(entries: dict[str, tuple[int, bytes]], console: tuple[int, int] = (5, 1)) -> bytes:
    """The format that the kernel unpacks ("newc"). Without times or owners: the same content makes the same file."""
    out = bytearray()
    for inode, (name, (mode, content)) in enumerate([*entries.items(), ("TRAILER!!!", (0, b""))], start=1):
        device = console if mode == DEVICE else (0, 0)
        fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name) + 1, 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        out += b"\0" * (-len(out) % 4) + content
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


def main(kernel: pathlib.Path, init: pathlib.Path, target: pathlib.Path) -> None:
    entries: dict[str, tuple[int, bytes]] = {name: (DIRECTORY, b"") for name in ("bin", "dev", "modules", "proc", "sys")}
    # Until devtmpfs is mounted the kernel needs a console to give to init.
    entries["dev/console"] = (DEVICE, b"")
    entries["bin/busybox"] = (FILE, busybox())
    entries["init"] = (FILE, b"#!/bin/busybox sh\n" + init.read_bytes())
    for name in MODULES:
        for path in sorted(kernel.rglob(f"{name}.ko*"))[:1]:
            entries[f"modules/{name}.ko"] = (FILE, module(path))
    partial = target.with_name(f".{target.name}.partial")
    partial.write_bytes(gzip.compress(cpio(entries), mtime=0))
    partial.replace(target)


if __name__ == "__main__":
    main(*(pathlib.Path(argument) for argument in sys.argv[1:4]))
