# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks as thin volumes of LVM. The device mapper is missing where these tests are at home, so stand-ins for LVM's programs, which take the words that its
manuals name, make volumes of loop devices. What is done to the volumes is real."""

from __future__ import annotations

import os
import pathlib
import subprocess
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.call import Call
from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition
from ansible_collections.unkey.vmcp.plugins.module_utils.host import tools
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.disk import run_disk
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.disk_info import run_disk_info

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="volumes are made by root")

Tree = dict[str, t.Any]
MIB = 1 << 20
GROUP = f"vmcptest{os.getpid()}"

# A file of the volume's size for each, a loop device on it, and the link by which LVM names it.
LVM = r"""#!/bin/sh
set -eu
here=$(dirname "$0") tool=$(basename "$0") name= size= origin= target= pool=
echo "$tool $*" >>"$here/asked"
while [ $# -gt 0 ]; do
    case $1 in
    -n) name=$2; shift ;;
    -V | -L) size=${2%b}; shift ;;
    -T) pool=$2; shift ;;
    -o) shift ;;
    -s) origin=yes ;;
    -q | -f | -kn | --noheadings) ;;
    -*) echo "$tool: unknown option $1" >&2; exit 3 ;;
    *) target=$1 ;;
    esac
    shift
done
group=${pool:-$target} file="$here/${target#*/}"
group=/dev/${group%/*}
case $tool in
lvs) [ -e "$file" ] || { echo "Failed to find logical volume \"$target\"" >&2; exit 5; }; echo "  $target" ;;
lvcreate)
    file="$here/$name"
    [ ! -e "$file" ] || { echo "Logical Volume \"$name\" already exists" >&2; exit 5; }
    if [ -n "$origin" ]; then cp --sparse=always "$here/${target#*/}" "$file"; else truncate -s "$size" "$file"; fi
    ln -s "$(losetup --find --show "$file")" "$group/$name" ;;
lvextend) truncate -s "$size" "$file"; losetup -c "$(readlink "$group/${target#*/}")" ;;
lvremove) losetup -d "$(readlink "$group/${target#*/}")"; rm "$group/${target#*/}" "$file" ;;
esac
"""


@pytest.fixture
def lvm(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[pathlib.Path]:
    """The directory of the stand-ins, and of what they make."""
    if tools.find("lvcreate") is not None:
        pytest.skip("this machine has an lvm2 of its own, which would be asked in the stand-in's place")
    if subprocess.run(["losetup", "--find"], capture_output=True, check=False).returncode != 0:
        pytest.skip("there are no loop devices on this machine")
    directory, group = tmp_path / "lvm", pathlib.Path("/dev", GROUP)
    directory.mkdir()
    for name in ("lvcreate", "lvextend", "lvremove", "lvs"):
        (directory / name).write_text(LVM)
        (directory / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{directory}")
    group.mkdir()
    yield directory
    for link in group.iterdir():
        subprocess.run(["losetup", "-d", os.readlink(link)], check=False)
        link.unlink()
    group.rmdir()


class Disks:
    def __init__(self, top: pathlib.Path) -> None:
        self.given = {"state_dir": str(top / "s"), "run_dir": str(top / "r")}

    def ask(self, *, act: bool = True, **options: t.Any) -> Tree:
        call = Call(options={**self.given, **options}, act=act, environ={}, uid=os.geteuid(), warn=print, require_libraries=lambda: None)
        return run_disk(call).result

    def volume(self, *, act: bool = True, **options: t.Any) -> Tree:
        return self.ask(act=act, format="lvm", volume_group=GROUP, thin_pool="pool", **options)

    def info(self) -> list[Tree]:
        call = Call(options=dict(self.given), act=True, environ={}, uid=os.geteuid(), warn=print, require_libraries=lambda: None)
        return t.cast("list[Tree]", run_disk_info(call).result["disks"])


@pytest.fixture
def disks(tmp_path: pathlib.Path) -> Disks:
    return Disks(tmp_path)


def device_bytes(path: str) -> int:
    with open(path, "rb") as stream:
        return stream.seek(0, os.SEEK_END)


def test_a_volume_from_its_making_to_its_end(disks: Disks, lvm: pathlib.Path) -> None:
    wanted: Tree = {"name": "data", "size": "16M", "filesystem": {"type": "ext4", "label": "data", "grow": True}}
    assert disks.volume(act=False, **wanted)["changed"] and not (lvm / "asked").exists(), "a check asks nobody"
    made = disks.volume(**wanted)
    path = f"/dev/{GROUP}/vmcp-data"
    assert made["disk"]["path"] == path and device_bytes(path) == 16 * MIB and not disks.volume(**wanted)["changed"]
    found = disks.info()[0]
    assert (found["filesystem"]["type"], found["filesystem"]["label"], found["size_bytes"]) == ("ext4", "data", 16 * MIB)
    grown = disks.volume(**{**wanted, "size": "32M"})
    assert grown["actions"] == ["grow", "grow_filesystem"] and device_bytes(path) == 32 * MIB
    said = subprocess.run(["dumpe2fs", "-h", path], capture_output=True, text=True, check=True).stdout
    blocks = {key: int(value) for key, _colon, value in (line.partition(":") for line in said.splitlines()) if key in ("Block count", "Block size")}
    assert blocks["Block count"] * blocks["Block size"] == 32 * MIB
    with pytest.raises(FailedPrecondition, match="is not shrunk"):
        disks.volume(**{**wanted, "size": "16M"}, force=True)
    assert disks.ask(name="data", state="absent")["changed"] and not os.path.lexists(path) and not (lvm / "vmcp-data").exists()
    assert not disks.ask(name="data", state="absent")["changed"]


def test_a_clone_in_the_same_group_is_a_snapshot(disks: Disks, lvm: pathlib.Path) -> None:
    disks.volume(name="base", size="8M")
    with open(f"/dev/{GROUP}/vmcp-base", "r+b") as stream:
        stream.write(b"of the base")
    clone = disks.volume(name="clone", source={"disk": "base"}, size="16M")["disk"]
    assert clone["method"] == "snapshot" and device_bytes(clone["path"]) == 16 * MIB
    with open(clone["path"], "rb") as stream:
        assert stream.read(11) == b"of the base"
    assert f"lvcreate -q -s -kn -n vmcp-clone {GROUP}/vmcp-base" in (lvm / "asked").read_text()


@pytest.mark.parametrize("readable", [True, False])
def test_a_file_is_written_to_a_volume(disks: Disks, lvm: pathlib.Path, tmp_path: pathlib.Path, readable: bool) -> None:
    raw, source = tmp_path / "source.raw", tmp_path / "source.qcow2"
    raw.write_bytes(b"of a file".ljust(4 * MIB, b"\0"))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(source)], check=True)
    source.chmod(0o644 if readable else 0o600)
    made = disks.volume(name="data", source={"path": str(source), "format": "qcow2"}, size="8M")["disk"]
    assert made["method"] == "copy"
    with open(made["path"], "rb") as stream:
        assert stream.read(9) == b"of a file"
    assert os.stat(made["path"]).st_uid == 0, "the volume was lent to nobody, and taken back"


def test_a_volume_of_somebody_elses_is_left_alone(disks: Disks, lvm: pathlib.Path) -> None:
    (lvm / "vmcp-data").write_bytes(b"theirs")
    with pytest.raises(FailedPrecondition, match="which is none of ours"):
        disks.volume(name="data", size="8M")
    assert (lvm / "vmcp-data").read_bytes() == b"theirs"
