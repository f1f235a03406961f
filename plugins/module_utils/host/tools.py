# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the distribution's tools (mkfs, qemu-img, lvm …) with a deadline, and makes one readable error of what they say. Standard library only."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import signal
import subprocess
import typing as t

from ..errors import DeadlineExceeded, FailedPrecondition, Violation

# PATH of a module is what sshd or sudo left of it.
_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
# For what reads or writes a whole disk.
LONG_S = 3600.0
SHORT_S = 60.0
# Who works on what guests have written. Owns nothing.
NOBODY = 65534
# Enough for e2fsck on a disk of many TiB.
_MEMORY_BYTES = 4 << 30
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
# Program -> the package that has it, as Debian and Red Hat call it, where that is not its own name.
PACKAGES = {
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "resize2fs": "e2fsprogs",
    "dumpe2fs": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "mkswap": "util-linux",
    "blkid": "util-linux",
    "qemu-img": "qemu-utils (Debian) or qemu-img (Red Hat)",
    "lvcreate": "lvm2",
    "lvextend": "lvm2",
    "lvremove": "lvm2",
    "lvs": "lvm2",
    "mksquashfs": "squashfs-tools",
    "apt-get": "apt, so this distribution's packages cannot be fetched: use 'url' or 'path'",
    "apt-cache": "apt, so this distribution's packages cannot be fetched: use 'url' or 'path'",
    "dpkg-deb": "dpkg",
    "rpmkeys": "rpm",
    "rpm2cpio": "rpm",
}


def find(tool: str) -> t.Optional[str]:
    return shutil.which(tool, path=os.pathsep.join((*_PATH, os.environ.get("PATH", ""))))


def lacks(field: str, tools: t.Iterable[str]) -> list[Violation]:
    """For each of the tools that is not on this host, by the package that has it."""
    missing = dict.fromkeys(PACKAGES[tool] for tool in tools if find(tool) is None)
    return [Violation(field, f"needs a tool of the package {package}, which this host lacks. Install it.") for package in missing]


def run(
    tool: str,
    *words: str,
    doing: str,
    timeout_s: float = LONG_S,
    codes: t.Sequence[int] = (0,),
    pass_fds: t.Sequence[int] = (),
    user: t.Optional[int] = None,
) -> str:
    """What the tool prints. C(doing) completes the sentence "Cannot …". C(codes): exit codes that are no failure. C(user): for what is not to be trusted:
    the uid (and gid) that it runs as where we are root, without a way back and with bounded memory. Only then is it ended with us: LVM must not be cut off.

    FailedPrecondition with the tool's last words, DeadlineExceeded when it does not end."""
    binary = find(tool)
    if binary is None:
        raise FailedPrecondition(f"Cannot {doing}: this host lacks {tool}. Install the package {PACKAGES[tool]}.")
    environment = {"PATH": os.pathsep.join(_PATH), "LC_ALL": "C", "MTOOLS_SKIP_CHECK": "1"}
    try:
        done = subprocess.run(
            [binary, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            env=environment,
            check=False,
            pass_fds=pass_fds,
            **(bounds(Limits(memory=_MEMORY_BYTES, user=user)) if user is not None else {}),
        )
    except subprocess.TimeoutExpired as exc:
        raise DeadlineExceeded(f"Cannot {doing}: {tool} did not end within {timeout_s:.0f} s. Look at the host's disks and run the task again.") from exc
    except OSError as exc:
        raise FailedPrecondition(f"Cannot {doing}: {binary} does not run ({exc.strerror}). Install the package {PACKAGES[tool]} again.") from exc
    if done.returncode not in codes:
        said = [line for line in _printable(done.stderr or done.stdout).split("\n") if line.strip()]
        why = " | ".join(line.strip() for line in said[-3:])[:600].rstrip(".") or f"exit code {done.returncode}"
        raise FailedPrecondition(f"Cannot {doing}: {tool} says: {why}.", details={"tool": tool, "exit_code": done.returncode})
    return _printable(done.stdout)


class Limits(t.NamedTuple):
    """Of one run. C(memory): address space in bytes. C(file): bytes of the largest file. C(user): uid (and gid) to run as where we are root, without a way
    back: others cannot change theirs."""

    memory: int = resource.RLIM_INFINITY
    file: int = resource.RLIM_INFINITY
    user: t.Optional[int] = None


def bounds(limits: Limits) -> dict[str, t.Any]:
    """Options of subprocess for a program that is bounded so, and ends with us. Not by setpriv and prlimit: hosts may lack them."""
    libc = ctypes.CDLL(None, use_errno=True)

    # What runs before the program takes no lock that another thread could hold: there are none.
    def confine() -> None:
        for which, most in ((resource.RLIMIT_AS, limits.memory), (resource.RLIMIT_FSIZE, limits.file), (resource.RLIMIT_CORE, 0)):
            hard = resource.getrlimit(which)[1]
            if most != resource.RLIM_INFINITY and (hard == resource.RLIM_INFINITY or most < hard):
                resource.setrlimit(which, (most, most))
        if limits.user is not None:
            libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    if limits.user is None:
        return {"preexec_fn": confine}
    drop = {"user": limits.user, "group": limits.user, "extra_groups": []} if os.geteuid() == 0 else {}
    return {"preexec_fn": confine, "cwd": "/", **drop}


def _printable(body: bytes) -> str:
    return "".join(c for c in body.decode("utf-8", "replace") if c in "\n\t" or c.isprintable())
