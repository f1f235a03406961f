# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs nft and ip: what they are told and what they answer, both as JSON. Standard library only; on the path of every new interface.

nft is given whole transactions: all of one is there, or nothing of it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import typing as t

from ...errors import DeadlineExceeded, FailedPrecondition, Internal

COMMAND_TIMEOUT_S = 30.0
# Where distributions keep them, also for a task whose PATH is a user's.
_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_ENVIRONMENT = {"PATH": _PATH, "LC_ALL": "C"}
_PACKAGES = {"nft": "nftables", "ip": "iproute2", "dnsmasq": "dnsmasq-base (dnsmasq on the Red Hat family)"}


# The commands of one transaction, and for how many seconds it may take.
Tell = t.Callable[[t.Sequence[t.Mapping[str, t.Any]], float], object]


class RefusedError(Exception):
    """A program said no; its text is what it said. Never leaves C(host.network)."""


def program(name: str) -> str:
    """The path of a program. FailedPrecondition, naming its package, where it is missing."""
    path = shutil.which(name, path=_PATH)
    if path is None:
        raise FailedPrecondition(
            f"The program {name} is missing on this host, and networks need it. Install the package {_PACKAGES.get(name, name)}, "
            "or apply the role unkey.vmcp.vmcp_host, which does."
        )
    return path


def is_there(name: str) -> bool:
    return shutil.which(name, path=_PATH) is not None


def run(words: t.Sequence[str], given: str = "", timeout_s: float = COMMAND_TIMEOUT_S, *, fails: bool = False) -> str:
    """What a program prints. RefusedError when it fails, unless the caller looks at what it says (C(fails)); DeadlineExceeded when it does not end."""
    with _begun(words) as process:
        return _said(process, words[0], given, timeout_s, fails=fails)


@contextlib.contextmanager
def _begun(words: t.Sequence[str]) -> t.Iterator[subprocess.Popen[bytes]]:
    """A program that waits for its input. Whatever becomes of us, it does not stay."""
    pipe = subprocess.PIPE
    with subprocess.Popen([program(words[0]), *words[1:]], stdin=pipe, stdout=pipe, stderr=pipe, env=_ENVIRONMENT) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _said(process: subprocess.Popen[bytes], name: str, given: str, timeout_s: float, *, fails: bool = False) -> str:
    try:
        out, err = process.communicate(given.encode(), max(0.1, timeout_s))
    except subprocess.TimeoutExpired as exc:
        raise DeadlineExceeded(f"{name} did not end within {timeout_s:.0f} s. Look at the host's load and kernel log, and run the task again.") from exc
    if process.returncode != 0 and not fails:
        said = " ".join((err or out).decode("utf-8", "replace").split())
        raise RefusedError(said or f"{name} ended with code {process.returncode}")
    return out.decode("utf-8", "replace")


def agrees(words: t.Sequence[str]) -> bool:
    """Whether a program that is asked something ends with 0; one that is not there does not."""
    if not is_there(words[0]):
        return False
    try:
        run(words)
    except RefusedError:
        return False
    return True


@contextlib.contextmanager
def nft_at_hand() -> t.Iterator[Tell]:
    """A program that begins at once, which takes it longer than to carry out commands: the caller has something to do meanwhile. Without a command the
    kernel is told nothing. What is called raises RefusedError when the kernel takes none of it."""
    words = ["nft", "-j", "-f", "-"]
    with _begun(words) as process:
        yield lambda commands, timeout_s: commands and _said(process, words[0], json.dumps({"nftables": list(commands)}), timeout_s)


def nft_file(text: str, timeout_s: float = COMMAND_TIMEOUT_S) -> None:
    """One transaction in nft's own language, the same that the host loads when it boots."""
    run(["nft", "-f", "-"], text, timeout_s)


def nft_list(*words: str, timeout_s: float = COMMAND_TIMEOUT_S) -> list[dict[str, t.Any]]:
    """What C(nft list …) knows: dicts of one key, the kind of the thing; [] where there is none. C(words) may begin with options."""
    options = [word for word in words if word.startswith("-")]
    try:
        said = run(["nft", "-j", *options, "list", *(word for word in words if not word.startswith("-"))], timeout_s=timeout_s)
    except RefusedError as exc:
        if "No such file or directory" in str(exc):
            return []
        raise FailedPrecondition(f"nft cannot list the host's rules: {exc}. Run the task with become: true, and look whether nf_tables is loaded.") from exc
    try:
        return [entry for entry in json.loads(said)["nftables"] if "metainfo" not in entry]
    except (ValueError, KeyError, TypeError) as exc:
        raise Internal(f"nft answered with what is no JSON ({exc}). Install a version from 1.0 on, built with JSON.") from exc
