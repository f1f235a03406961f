# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM's overlay grows while the VM is shut down, by the uid that owns it, to whom the image need not be readable."""

from __future__ import annotations

import os
import pathlib
import subprocess

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition
from ansible_collections.unkey.vmcp.plugins.module_utils.host import clones, tools
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout, VmLayout

MIB = 1 << 20


@pytest.fixture
def vm(tmp_path: pathlib.Path) -> VmLayout:
    if tools.find("qemu-img") is None:
        pytest.skip("qemu-img is not installed")
    made = Layout(str(tmp_path / "s"), str(tmp_path / "r")).vm("web")
    os.makedirs(made.data)
    return made


def overlay(vm: VmLayout, image: pathlib.Path) -> dict[str, str]:
    image.write_bytes(b"image".ljust(MIB, b"\0"))
    image.chmod(0o600)
    chosen = {"file": "root.qcow2", "format": "qcow2", "backing": str(image), "backing_format": "raw"}
    uid = 71234 if os.geteuid() == 0 else None
    clones.make(vm, chosen, (str(image), "raw", MIB), 2 * MIB, uid, clones.Overlays(), sync=False)
    return chosen


def test_an_overlay_grows(vm: VmLayout, tmp_path: pathlib.Path) -> None:
    chosen = overlay(vm, tmp_path / "image")
    owner = os.stat(f"{vm.data}/root.qcow2").st_uid
    assert clones.grow(vm, chosen, 8 * MIB) and not clones.grow(vm, chosen, 4 * MIB)
    assert clones.observed_size(vm, chosen) == 8 * MIB and os.stat(f"{vm.data}/root.qcow2").st_uid == owner


def test_one_that_was_made_to_lead_elsewhere_is_refused(vm: VmLayout, tmp_path: pathlib.Path) -> None:
    chosen = overlay(vm, tmp_path / "image")
    with pytest.raises(FailedPrecondition, match="reads from another file"):
        clones.grow(vm, {**chosen, "backing": "/somewhere/else"}, 8 * MIB)


def test_an_image_in_another_format_is_converted_by_nobody(vm: VmLayout, tmp_path: pathlib.Path) -> None:
    raw, image = tmp_path / "raw", tmp_path / "image.qcow2"
    raw.write_bytes(b"image".ljust(MIB, b"\0"))
    subprocess.run([tools.find("qemu-img") or "", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(image)], check=True)
    image.chmod(0o444)
    uid = 71234 if os.geteuid() == 0 else None
    made = clones.make(vm, {"file": "root.raw", "format": "raw"}, (str(image), "qcow2", MIB), 2 * MIB, uid, clones.Overlays(), sync=False)
    assert made.method == "convert" and pathlib.Path(vm.data, "root.raw").read_bytes() == raw.read_bytes() + bytes(MIB)
    assert os.stat(f"{vm.data}/root.raw").st_uid == (uid or os.geteuid()) and os.listdir(vm.data) == ["root.raw"]
