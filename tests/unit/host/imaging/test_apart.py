# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What reads archives from elsewhere has no rights on the host: tried from inside such a process."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import DeadlineExceeded, FailedPrecondition, Internal, NotFound, VmcpError
from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging.apart import FIRST_UID, CannotError, Task, apart
from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging.work import Work, opened
from ansible_collections.unkey.vmcp.tests.conftest import ROOT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up, and uids to give")


def write_product(work: Work) -> None:
    with open(work.path("product"), "wb") as stream:
        stream.write(b"made")


@pytest.fixture(autouse=True)
def _there_can_be_one(work: Work) -> None:
    def nothing(inside: Work) -> dict[str, t.Any]:
        write_product(inside)
        return {}

    try:
        apart(nothing, work, "product", [])
    except CannotError as exc:
        pytest.skip(str(exc))


def tried(what: t.Callable[[], object]) -> str:
    try:
        what()
    except OSError as exc:
        return type(exc).__name__
    return "done"


def test_it_has_no_rights_but_in_its_own_directory(work: Work, tmp_path: pathlib.Path) -> None:
    secret, given, kept = tmp_path / "secret", tmp_path / "archive", os.open("/dev/null", os.O_RDONLY)
    secret.write_text("of root")
    secret.chmod(0o600)
    given.write_bytes(b"archive")
    given.chmod(0o600)
    with open(given, "rb") as source:

        def task(inside: Work) -> dict[str, t.Any]:
            write_product(inside)
            os.chown(inside.path("product"), 1000, 2000)
            with opened(source.fileno()) as stream:
                read = stream.read().decode()
            return {
                "uid": os.geteuid(),
                "owner": os.stat(inside.path("product")).st_uid,
                "read": read,
                "secret": tried(lambda: open(secret, "rb")),
                "planted": tried(lambda: open("/etc/vmcp-planted", "wb")),
                "beside": tried(lambda: open("../vmcp-planted", "wb")),
                "device": tried(lambda: os.mknod("null", 0o020666, os.makedev(1, 3))),
                "signal": tried(lambda: os.kill(parent, 0)),
                "lock": tried(lambda: os.fstat(kept)),
                "answer": tried(lambda: os.write(1, b"forged")),
            }

        parent = os.getpid()
        said, path = apart(task, work, "product", [source.fileno()])
    os.close(kept)
    refused = dict.fromkeys(("secret", "planted", "beside", "device", "signal"), "PermissionError")
    assert said == {"uid": 0, "owner": 1000, "read": "archive", "lock": "OSError", "answer": "done", **refused}
    status = os.stat(path)
    assert path == work.path("product") and (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (0, 0, 0o600)
    assert os.listdir(work.dir) == ["product"], "its directory has gone"


def test_its_files_belong_to_nobody_on_the_host(work: Work) -> None:
    seen: list[int] = []

    def task(inside: Work) -> dict[str, t.Any]:
        write_product(inside)
        os.chown(inside.path("product"), 5, 5)
        inside.beat("looking", 7)(3)
        return {}

    def tell(doing: str, done: int, total: int) -> None:
        assert (doing, done, total) == ("looking", 3, 7)
        seen.append(os.stat(work.path("apart/product")).st_uid)

    apart(task, dataclasses.replace(work, tell=tell), "product", [])
    assert seen == [FIRST_UID + 5]


def fails(error: BaseException) -> Task:
    def task(_inside: Work) -> dict[str, t.Any]:
        raise error

    return task


def killed(_inside: Work) -> dict[str, t.Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def linked(inside: Work) -> dict[str, t.Any]:
    os.symlink("/etc/passwd", inside.path("product"))
    return {}


@pytest.mark.parametrize(
    ("task", "kind", "message"),
    [
        (fails(FailedPrecondition("too large", details={"size": 5})), FailedPrecondition, "^too large$"),
        (fails(NotFound("not there")), NotFound, "^not there$"),
        (fails(ValueError("a bug")), Internal, "ValueError: a bug"),
        (fails(SystemExit(0)), Internal, "SystemExit"),
        (killed, FailedPrecondition, "was ended"),
        (linked, VmcpError, "product"),
    ],
)
def test_what_goes_wrong_is_told(work: Work, task: Task, kind: type[VmcpError], message: str) -> None:
    before = os.stat("/etc/passwd")
    os.unlink(work.path("product"))
    with pytest.raises(kind, match=message) as caught:
        apart(task, work, "product", [])
    assert caught.value.details in ({}, {"size": 5}) and os.listdir(work.dir) == [] and os.stat("/etc/passwd").st_mode == before.st_mode


def sleeper(inside: Work) -> dict[str, t.Any]:
    process = subprocess.Popen(["sleep", "600"])
    inside.tell("pid", process.pid, 0)
    process.wait()
    return {}


def test_it_ends_at_the_deadline(work: Work) -> None:
    with pytest.raises(DeadlineExceeded, match="Raise 'timeout'"):
        apart(sleeper, dataclasses.replace(work, deadline=time.monotonic() - 60), "product", [])


def test_nothing_that_it_has_started_outlives_it(work: Work) -> None:
    started: list[int] = []

    def tell(_doing: str, pid: int, _total: int) -> None:
        started.append(pid)
        raise DeadlineExceeded("enough")

    with pytest.raises(DeadlineExceeded, match="enough"):
        apart(sleeper, dataclasses.replace(work, tell=tell), "product", [])
    until = time.monotonic() + 60
    while is_alive(started[0]):
        assert time.monotonic() < until, "what it has started goes on"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False


_INSIDE_OF_ONE = """
import sys, time
sys.path.insert(0, sys.argv[1])
from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging import rootfs
from ansible_collections.unkey.vmcp.plugins.module_utils.host.imaging.work import Work
from ansible_collections.unkey.vmcp.plugins.module_utils.model.image_additions import Additions
work = Work(sys.argv[2], 64 << 20, time.monotonic() + 60, 60)
print(rootfs.make(rootfs.Recipe("a.tar", "ext4", None, "", "seed", Additions(), archive=sys.argv[3]), "product", work))
"""


def test_a_host_without_uids_to_give_does_it_itself(work: Work, tmp_path: pathlib.Path) -> None:
    """As in a container that has but one uid."""
    (tmp_path / "motd").write_text("hello")
    subprocess.run(["tar", "-C", str(tmp_path), "-cf", str(tmp_path / "a.tar"), "motd"], check=True)
    words = ["unshare", "--user", "--map-root-user", sys.executable, "-c", _INSIDE_OF_ONE, str(ROOT), work.dir, str(tmp_path / "a.tar")]
    said = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "'unprivileged': False" in said.stdout, said
    assert os.listdir(work.dir) == ["product"] and os.path.getsize(work.path("product")) > 1 << 20
