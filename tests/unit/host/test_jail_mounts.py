# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a launch file says of its VM's jail, to those who mount it without a shell."""

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import FileUse, Isolation, LaunchSpec
from ansible_collections.unkey.vmcp.plugins.module_utils.host import jail_mounts, launchfile
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout, VmLayout

JAILED = Isolation(uid=70001, jail=True, seccomp=True)


@pytest.fixture
def vm(tmp_path: pathlib.Path) -> VmLayout:
    made = Layout(str(tmp_path / "s"), str(tmp_path / "r")).vm("web")
    pathlib.Path(made.dir).mkdir(parents=True)
    return made


def said(vm: VmLayout, isolation: Isolation = JAILED, jailer: str | None = "/opt/jailer", **fields: object) -> jail_mounts.Jail | None:
    spec = LaunchSpec(argv=("/opt/firecracker-1.16",), jailer=jailer, **fields)
    text = launchfile.render(vm, spec, isolation, shutdown_timeout_s=1)
    pathlib.Path(vm.launch).write_text(text, encoding="utf-8", errors="surrogateescape")
    return jail_mounts.read(vm)


def test_all_that_is_mounted(vm: VmLayout) -> None:
    odd = "/srv/it's \udcff a kernel"
    files = (FileUse(odd, "kernel"), FileUse("/srv/disk", "disk", writable=True), FileUse("root.raw", "own", writable=True))
    assert said(vm, files=files, documents={"d.json": "{}"}, document_uses={"doc": "d.json"}, vmm_log_in_sandbox="/files/vmm.log") == jail_mounts.Jail(
        uid=70001,
        root="jail/firecracker-1.16/web/root",
        files=(("kernel", odd, False), ("disk", "/srv/disk", True), ("doc", vm.document("d.json"), False)),
        own=(("own", "root.raw"),),
        log="vmm.log",
    )


@pytest.mark.parametrize(
    "more",
    [{"jailer": None}, {"isolation": Isolation(uid=None, jail=False, seccomp=True)}, {"files": (FileUse("vars.fd", "vars", seed="/usr/share/vars.fd"),)}],
    ids=["no jailer", "no uid", "a file that is made from another"],
)
def test_nothing_is_said_where_it_is_more_than_mounts(vm: VmLayout, more: dict[str, object]) -> None:
    assert said(vm, **more) is None


def test_launch_files_of_earlier_releases_say_nothing(vm: VmLayout) -> None:
    said(vm)
    text = pathlib.Path(vm.launch).read_text()
    pathlib.Path(vm.launch).write_text("".join(line for line in text.splitlines(keepends=True) if not line.startswith("# jail: ")))
    assert jail_mounts.read(vm) is None
