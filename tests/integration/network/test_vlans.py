# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""VLANs, on the kernel of a Linux guest that stands for the host: the machines on which this is built have none."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.contract.qemu_process import BINARY, needs_qemu
from ansible_collections.unkey.vmcp.tests.integration.network import vlans_inside
from ansible_collections.unkey.vmcp.tests.linux_guest import GuestUnavailable, cache_directory, libraries_of, linux_guest, with_script

_SCRIPT = """
/bin/busybox mkdir -p /run /tmp
/bin/busybox mount -t tmpfs run /run
# Last, and nothing that is there already is overwritten: its own ip knows less.
/bin/busybox --install -s /bin
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONPATH=@PYTHONPATH@ PYTHONDONTWRITEBYTECODE=1
@PYTHON@ @PROGRAM@ @SHELL@ 2>&1
echo "ended with $?"
/bin/busybox poweroff -f
"""


@needs_qemu
def test_what_is_made_for_vlans_is_what_the_kernel_takes(top: pathlib.Path) -> None:
    programs = [shutil.which(name) for name in ("ip", "bridge")]
    if None in programs or not shutil.which("ldd"):
        pytest.skip("there is no ip, bridge or ldd on PATH to take into a guest")
    python, program = pathlib.Path(sys.executable).resolve(), pathlib.Path(vlans_inside.__file__)
    search = [path for path in sys.path if path and os.path.isdir(path)]
    loaded = subprocess.run(
        [str(python), str(program), "load"], env={"PATH": os.environ["PATH"], "PYTHONPATH": ":".join(search)}, capture_output=True, text=True, check=True
    )
    modules = {pathlib.Path(file) for file in json.loads(loaded.stdout)}
    files = {program, *modules, *_of_the_interpreter(), *libraries_of(python)}
    # A shell as a host has it: that of busybox takes its own ip before any other.
    shell = pathlib.Path("/bin/sh").resolve()
    for file in [shell, *(pathlib.Path(str(name)) for name in programs), *(module for module in modules if module.suffix == ".so")]:
        files |= libraries_of(file)
    script = (
        _SCRIPT.replace("@PYTHON@", str(python)).replace("@PROGRAM@", str(program)).replace("@SHELL@", str(shell)).replace("@PYTHONPATH@", ":".join(search))
    )
    try:
        guest = with_script(linux_guest(cache_directory()), script, top / "initrd", modules=("veth", "bridge", "8021q", "tun"), files=files)
    except GuestUnavailable as exc:
        pytest.skip(str(exc))
    said = _run(guest.kernel, guest.initrd, top / "console")
    uplink = {"differs": [], "kind": "vlan", "id": 42, "on": "lan0", "master": "vn-lan"}
    assert said["by netlink"] == uplink and said["at boot"] == uplink
    assert said["heard"] == {"vlan": True}, "what is at the other end of the cable answers in its VLAN"
    assert said["removed"] == {"links": ["lan0", "lo"]}
    assert said["beneath macvtap"] == {**uplink, "id": 43, "master": None}
    assert said["tap"] == {"vlans": [{"vlan": 7, "flags": ["PVID", "Egress Untagged"]}]}
    assert said["unfiltered"]["code"] == 1 and "the bridge br0 does not filter VLANs" in said["unfiltered"]["text"]


def _of_the_interpreter() -> set[pathlib.Path]:
    """By which it finds its library, and what it loads before anything is said of it."""
    library = pathlib.Path(os.__file__).parent
    return {library / "os.py", *(path for path in library.glob("encodings/*.py")), *(path for path in library.glob("lib-dynload/*.so"))}


def _run(kernel: pathlib.Path, initrd: pathlib.Path, console: pathlib.Path) -> dict[str, t.Any]:
    """What the guest has said, by what it is about."""
    with open(console, "wb") as log:
        process = subprocess.Popen(
            [
                *[str(BINARY), "-M", "q35,accel=tcg", "-cpu", "max", "-m", "768M", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
                *["-serial", "stdio", "-kernel", str(kernel), "-initrd", str(initrd), "-append", "console=ttyS0 panic=-1 quiet"],
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 400
        while process.poll() is None:
            assert time.monotonic() < deadline, console.read_text(errors="replace")[-3000:]
            time.sleep(0.2)
    finally:
        process.kill()
        process.wait()
    text = console.read_text(errors="replace")
    assert "ended with 0" in text, text[-3000:]
    told = [json.loads(line) for line in re.findall(r"^said (.*?)\r?$", text, re.MULTILINE)]
    return {entry.pop("what"): entry for entry in told}
