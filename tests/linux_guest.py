# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Linux guest for tests on real VMMs: the kernel and busybox of the distribution's packages, fetched and not installed."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import lzma
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import typing as t

_META_PACKAGES = ("linux-image-cloud-amd64", "linux-image-virtual", "linux-image-amd64")
# With what they depend on; those built into the kernel are not found, and not missed.
_MODULES = ("virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net", "virtio_balloon", "virtio-rng", "evdev", "button", "i6300esb")
# What the guest says and does. Facts come first, so that whoever has seen the greeting has seen them.
_INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
for module in $(/bin/busybox cat /modules/order); do /bin/busybox insmod /modules/$module; done
echo "cpus $(/bin/busybox nproc)"
/bin/busybox head -n 1 /proc/meminfo
for disk in /sys/block/vd*; do
    [ -e $disk ] || continue
    echo "disk ${disk##*/} serial=$(/bin/busybox cat $disk/serial) sectors=$(/bin/busybox cat $disk/size) ro=$(/bin/busybox cat $disk/ro)"
done
for nic in /sys/class/net/eth*; do
    [ -e $nic ] || continue
    echo "nic ${nic##*/} mac=$(/bin/busybox cat $nic/address) mtu=$(/bin/busybox cat $nic/mtu)"
done
for name in /sys/class/input/event*/device/name; do
    [ -e $name ] || continue
    case $(/bin/busybox cat $name) in "Power Button")
        event=${name#/sys/class/input/}
        # Opened here: from now on the kernel keeps what is pressed, also while the reader is only being started.
        exec 3</dev/input/${event%%/*}
        (/bin/busybox head -c 1 <&3 >/dev/null; echo goodbye; /bin/busybox poweroff -f) &
    esac
done
echo "cmdline $(/bin/busybox cat /proc/cmdline)"
echo "@GREETING@"
[ ! -e /script ] || /bin/busybox sh /script
case $(/bin/busybox cat /proc/cmdline) in
    *then=poweroff*) /bin/busybox poweroff -f ;;
    *then=reboot*) /bin/busybox reboot -f ;;
    *then=panic*) echo c >/proc/sysrq-trigger ;;
esac
while :; do /bin/busybox sleep 3600; done
"""


class GuestUnavailable(Exception):
    """A Linux guest cannot be made here; the text says why, for a test's skip reason."""


@dataclasses.dataclass(frozen=True)
class LinuxGuest:
    kernel: pathlib.Path
    initrd: pathlib.Path


def cache_directory() -> pathlib.Path:
    """Where what the tests download is kept between runs: C(VMCP_TEST_CACHE), else in the user's cache."""
    chosen = os.environ.get("VMCP_TEST_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(chosen) if chosen else pathlib.Path(base) / "unkey-vmcp-tests"


def linux_guest(cache: pathlib.Path, greeting: str = "hello from linux") -> LinuxGuest:
    """The distribution's kernel for virtual machines and an initramfs of busybox, fetched (not installed) by apt into C(cache) once.

    The guest prints what hardware it sees and C(greeting), and powers off when its power button is pressed; C(then=poweroff), C(then=reboot)
    or C(then=panic) on the kernel's command line make it do that at once. Raises GuestUnavailable."""
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _linux_guest(cache, greeting)


def with_script(guest: LinuxGuest, script: str, path: pathlib.Path, *, modules: t.Sequence[str] = (), files: t.Collection[pathlib.Path] = ()) -> LinuxGuest:
    """The same guest, which runs a script of busybox's shell after its greeting: written to C(path). The kernel unpacks archives one behind the other.

    C(modules): further modules of its kernel, loaded before. C(files): of this machine, which the guest has under the same paths."""
    first = guest.initrd.read_bytes()
    found: dict[str, bytes] = {}
    for module in modules:
        _collect_module(cache_directory() / "packages", module, found)
    # Those with others that they depend on may be there already, which insmod says and nobody minds.
    load = "".join(f"/bin/busybox insmod /modules/{name} 2>/dev/null\n" for name in found)
    entries = [_newc("script", 0o100755, (load + script).encode()), *(_newc(f"modules/{name}", 0o100644, data) for name, data in found.items())]
    directories = {parent for file in files for parent in file.parents}
    entries += [_newc(str(directory).lstrip("/"), 0o040755) for directory in sorted(directories) if str(directory) != "/"]
    entries += [_newc(str(file).lstrip("/"), 0o100755, file.read_bytes()) for file in sorted(files)]
    path.write_bytes(first + bytes(-len(first) % 4) + b"".join(entries) + _newc("TRAILER!!!", 0))
    return dataclasses.replace(guest, initrd=path)


def libraries_of(program: pathlib.Path) -> set[pathlib.Path]:
    """What a dynamically linked program needs to run, itself included."""
    said = subprocess.run(["ldd", str(program)], capture_output=True, text=True, timeout=30, check=False).stdout
    return {program, *(pathlib.Path(word) for word in re.findall(r"(/\S+) \(0x", said))}


def _linux_guest(cache: pathlib.Path, greeting: str) -> LinuxGuest:
    tree = cache / "packages"
    if not (cache / "complete").exists():
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir(parents=True)
        _unpack([*_kernel_packages(), "busybox-static"], tree)
        (cache / "complete").touch()
    kernels = sorted((tree / "boot").glob("vmlinuz-*"))
    if not kernels:
        raise GuestUnavailable(f"the kernel package in {tree} holds no /boot/vmlinuz-*")
    initrd = cache / f"initrd-{hashlib.sha256((_INIT + greeting).encode()).hexdigest()[:12]}"
    if not initrd.exists():
        partial = initrd.with_name(f"{initrd.name}.partial")
        partial.write_bytes(_initramfs(tree, greeting))
        partial.replace(initrd)
    return LinuxGuest(kernels[-1], initrd)


def _kernel_packages() -> list[str]:
    """The kernel's package, and the one with its modules where the distribution keeps them apart (Ubuntu)."""
    image = _image_package()
    shown = _run(["apt-cache", "show", "--no-all-versions", image], pathlib.Path("/"), check=False)
    modules = re.search(r"^Depends:.*?(linux-modules-[\w.+-]+)", shown, re.MULTILINE)
    return [image, *([modules.group(1)] if modules else [])]


def _image_package() -> str:
    for meta in _META_PACKAGES:
        shown = _run(["apt-cache", "show", "--no-all-versions", meta], pathlib.Path("/"), check=False)
        found = re.search(r"^Depends:.*?(linux-image-[\w.+-]+)", shown, re.MULTILINE)
        if found:
            return found.group(1)
    raise GuestUnavailable("apt knows none of " + ", ".join(_META_PACKAGES) + " (run 'apt-get update' on a Debian or Ubuntu host)")


def _unpack(packages: list[str], tree: pathlib.Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        _run(["apt-get", "download", "-q", *packages], pathlib.Path(scratch))
        for archive in pathlib.Path(scratch).glob("*.deb"):
            _run(["dpkg-deb", "-x", str(archive), str(tree)], pathlib.Path(scratch))


def _run(argv: list[str], cwd: pathlib.Path, check: bool = True) -> str:
    try:
        done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    except FileNotFoundError as exc:
        raise GuestUnavailable(f"{argv[0]} is not installed: the Linux guest is made from Debian or Ubuntu packages") from exc
    if check and done.returncode:
        raise GuestUnavailable(f"{' '.join(argv)} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _initramfs(tree: pathlib.Path, greeting: str) -> bytes:
    busybox = next((path for path in (tree / "bin/busybox", tree / "usr/bin/busybox") if path.exists()), None)
    if busybox is None:
        raise GuestUnavailable(f"the package busybox-static in {tree} holds no busybox")
    entries = [_newc(name, 0o040755) for name in ("bin", "dev", "proc", "sys", "modules")]
    # The kernel opens the console before anything mounts /dev.
    entries += [_newc("dev/console", 0o020600, device=(5, 1)), _newc("bin/busybox", 0o100755, busybox.read_bytes())]
    modules: dict[str, bytes] = {}
    for module in _MODULES:
        _collect_module(tree, module, modules)
    entries += [_newc(f"modules/{name}", 0o100644, data) for name, data in modules.items()]
    entries.append(_newc("modules/order", 0o100644, "\n".join(modules).encode() + b"\n"))
    entries.append(_newc("init", 0o100755, _INIT.replace("@GREETING@", greeting).encode()))
    return b"".join(entries) + _newc("TRAILER!!!", 0)


def _collect_module(tree: pathlib.Path, module: str, into: dict[str, bytes]) -> None:
    """Puts a module behind those that it depends on."""
    path = next(tree.glob(f"**/kernel/**/{module}.ko*"), None) or next(tree.glob(f"**/kernel/**/{module.replace('_', '-')}.ko*"), None)
    if path is None or f"{module}.ko" in into:
        return
    data = _module_bytes(path)
    depends = re.search(rb"\0depends=([^\0]*)", data)
    for needed in depends.group(1).decode().split(",") if depends else ():
        _collect_module(tree, needed, into)
    into[f"{module}.ko"] = data


def _module_bytes(path: pathlib.Path) -> bytes:
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    if path.suffix == ".ko":
        return path.read_bytes()
    raise GuestUnavailable(f"cannot unpack the kernel module {path.name}")


def _newc(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """One member of a cpio archive in the format that Linux unpacks as its initramfs (Documentation/driver-api/early-userspace/buffer-format)."""
    path = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
