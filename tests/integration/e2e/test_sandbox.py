# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox as a user gets it who asks for nothing, read off the processes of real VMMs; and what opting out takes away."""

from __future__ import annotations

import json
import os
import pathlib
import stat
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import GREETING, Playground, Tree, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: others have no uids to give")]

# As /proc/PID/status has it: no filter, and a filter of system calls.
NO_FILTER, FILTER = "0", "2"


def status(pid: int) -> dict[str, str]:
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _colon, value in (line.partition(":") for line in lines)}


def filters(pid: int) -> dict[str, str]:
    """By name of the thread, for a VMM filters each of them for itself."""
    found = {}
    for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
        told = dict(line.split(":", 1) for line in (thread / "status").read_text().splitlines() if ":" in line)
        found[told["Name"].strip()] = told["Seccomp"].strip()
    return found


def words(pid: int) -> list[str]:
    return pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def sockets(ground: Playground, name: str) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in pathlib.Path(ground.run_dir, name, "vmm").iterdir() if stat.S_ISSOCK(path.lstat().st_mode)}


def is_landlocked(ground: Playground, name: str) -> bool:
    return bool(json.loads(ground.vm_file(name, "ch.json").read_text()).get("landlock_enable"))


def vm(title: str, backend: Vmm, kernel: str, **options: t.Any) -> Tree:
    given = {"name": title, "state": "running", "backend": backend.backend, "memory": "128M", "kernel": kernel}
    return task(title, **given, wait_for=[{"console": GREETING}], **options)


def test_by_default_and_without(ground: Playground, backend: Vmm, guest: t.Callable[..., str]) -> None:
    if not backend.real:
        pytest.skip(f"{backend.backend} is {backend.why}: it has no sandbox")
    kernel = guest("halt")
    without = {"security": {"jail": False, "seccomp": False}}
    vsock = {} if backend.backend == "qemu" else {"config": {"vsock": {"cid": 7}}}
    results = ground.play([vm("first", backend, kernel, **vsock), vm("second", backend, kernel), vm("bare", backend, kernel, **without)])
    first, second, bare = (results.ok(name)["vm"] for name in ("first", "second", "bare"))
    assert first["uid"] != second["uid"] and min(first["uid"], second["uid"], bare["uid"]) >= 70000, "each has a uid of its own"
    for seen in (first, second, bare):
        told = status(seen["pid"])
        assert (told["Uid"].split(), told["Gid"].split()) == ([str(seen["uid"])] * 4, [str(seen["uid"])] * 4)
        assert {told[key] for key in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {"0" * 16}
        assert told["NoNewPrivs"] == "1"
        mode = pathlib.Path(ground.run_dir, seen["name"], "vmm").stat()
        assert (mode.st_uid, mode.st_mode & 0o777) == (seen["uid"], 0o700)
        found = sockets(ground, seen["name"])
        assert "api.sock" in found and set(found.values()) == {0o600}, found
    for seen in (first, second):
        # The first thread of a Cloud Hypervisor does nothing but wait for the others, and has no filter.
        assert {told for name, told in filters(seen["pid"]).items() if name != "cloud-hyperviso"} == {FILTER}, filters(seen["pid"])
    assert set(filters(bare["pid"]).values()) == {NO_FILTER}
    SPECIFIC[backend.backend](ground, first["pid"], bare["pid"])


def firecracker(ground: Playground, jailed: int, bare: int) -> None:
    assert os.stat(f"/proc/{jailed}/root").st_ino != os.stat("/").st_ino, "the jailer gave it a root of its own"
    assert not pathlib.Path(f"/proc/{jailed}/root/etc").exists()
    assert pathlib.Path(f"/proc/{bare}/root/etc").exists() and "--no-seccomp" in words(bare)


def cloudhypervisor(ground: Playground, jailed: int, bare: int) -> None:
    assert (is_landlocked(ground, "first"), is_landlocked(ground, "bare")) == (True, False)
    assert [words(pid)[words(pid).index("--seccomp") + 1] for pid in (jailed, bare)] == ["true", "false"]


def qemu(ground: Playground, jailed: int, bare: int) -> None:
    assert words(jailed)[words(jailed).index("-sandbox") + 1].startswith("on,") and "-sandbox" not in words(bare)


SPECIFIC = {"firecracker": firecracker, "cloudhypervisor": cloudhypervisor, "qemu": qemu}
