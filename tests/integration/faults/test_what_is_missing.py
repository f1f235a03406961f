# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Binaries, kernels, disks and devices that are missing, or are not what they should be: each named, with what to do, and nothing started."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.fakes import ch_remote, cloudhypervisor, firecracker
from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground, Tree, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm
from ansible_collections.unkey.vmcp.tests.integration.faults.built_module import BuiltModule, Ended
from ansible_collections.unkey.vmcp.tests.integration.faults.host_trace import at_rest

NOT_JAILED = {"security": {"jail": False}}


@pytest.fixture
def binaries(top: pathlib.Path, ground: Playground) -> pathlib.Path:
    """A directory with VMMs that only have to say their version here."""
    directory = top / "bin"
    directory.mkdir()
    for fake in (firecracker, cloudhypervisor, ch_remote):
        fake.install(directory)
    (directory / "jailer").write_text("#!/bin/sh\necho 'Jailer v1.16.1'\n")
    (directory / "jailer").chmod(0o755)
    ground.path = (str(directory), "/usr/sbin", "/usr/bin", "/sbin", "/bin")
    return directory


class Refusals:
    """Tasks that must fail, on a host that they must leave as it was."""

    def __init__(self, ground: Playground, module: BuiltModule) -> None:
        self.ground, self.module = ground, module
        self.problems: list[str] = []

    def run(self, **options: t.Any) -> Ended:
        return self.module.run(alone=True, path=self.ground.path, **options)

    def refused(self, what: str, code: str, *words: str, **options: t.Any) -> None:
        before = at_rest(self.ground)
        result = self.run(**options).result
        said = result.get("msg", "")
        if not result.failed or result.get("code") != code or not all(word in said for word in words):
            self.problems.append(f"{what}: wanted {code} with {words}, got {result.failed} {result.get('code')}: {said}")
        after = at_rest(self.ground)
        if after["processes"] or after["mounts"] != before["mounts"] or after["taps"]:
            self.problems.append(f"{what}: left {after}")


@pytest.fixture
def refusals(ground: Playground, module: BuiltModule) -> t.Iterator[Refusals]:
    made = Refusals(ground, module)
    yield made
    assert not made.problems, "\n".join(made.problems)


def vm(kernel: str, **options: t.Any) -> Tree:
    return {"name": "web", "backend": "firecracker", "memory": "128M", "kernel": kernel, **NOT_JAILED, **options}


def test_a_binary_that_goes_away_after_the_definition(refusals: Refusals, binaries: pathlib.Path, guest: t.Callable[..., str]) -> None:
    given = vm(guest("halt"))
    refusals.run(**given).ok()
    kept = binaries / "kept"
    (binaries / "firecracker").rename(kept)
    if shutil.which("firecracker", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/usr/libexec"):
        pytest.skip("another firecracker is installed in a directory that is always searched")
    refusals.refused("gone", "failed_precondition", f"{binaries}/firecracker", "Install", name="web", state="running")
    kept.rename(binaries / "firecracker")
    (binaries / "firecracker").chmod(0o644)
    refusals.refused("not executable", "failed_precondition", f"{binaries}/firecracker", name="web", state="running")
    assert refusals.run(name="web", state="shutdown").ok()["vm"]["state"] in ("created", "crashed"), "what needs no binary works without"
    (binaries / "firecracker").chmod(0o755)
    refusals.refused(
        "version",
        "failed_precondition",
        "9.9.9 is not installed on this host (installed: 1.16.1). Install it",
        state="restarted",
        backend_version="9.9.9",
        **given,
    )
    assert refusals.run(name="web", state="absent").ok()["changed"]


def test_binaries_that_are_none(refusals: Refusals, binaries: pathlib.Path, guest: t.Callable[..., str]) -> None:
    if shutil.which("firecracker", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/usr/libexec"):
        pytest.skip("another firecracker is installed in a directory that is always searched")
    given, binary = vm(guest("halt"), state="running"), binaries / "firecracker"
    for what, text in {
        "garbage": "#!/bin/sh\nhead -c 20000 /dev/urandom\n",
        "silent": "#!/bin/sh\nexit 0\n",
        "another program": "#!/bin/sh\necho GNU Firecrackers 3.1\n",
        "fails": "#!/bin/sh\necho bad >&2; exit 9\n",
        "no program": "\x7fELFnonsense",
    }.items():
        binary.write_text(text)
        refusals.refused(what, "failed_precondition", str(binary), **given)
    binary.unlink()
    refusals.refused("none", "failed_precondition", "firecracker is not installed", "Install it", **given)
    assert not refusals.run(name="web", state="absent").ok()["changed"], "a refused task has defined nothing"


def test_a_version_that_is_too_old_for_what_is_asked(refusals: Refusals, binaries: pathlib.Path, guest: t.Callable[..., str]) -> None:
    """The matrix is checked against the version that the binary says it is."""
    if shutil.which("firecracker", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/usr/libexec"):
        pytest.skip("another firecracker is installed in a directory that is always searched")
    (binaries / "firecracker").write_text("#!/bin/sh\necho 'Firecracker v1.10.1'\n")
    asked = {"network": [{"tap_device": "vmcpnone0", "mtu": 1400}]}
    words = ("config.network[0].mtu: needs Firecracker 1.16 or newer; this is 1.10.1.", "Cloud Hypervisor since 27 and QEMU can")
    refusals.refused("too old", "invalid_argument", *words, **vm(guest("halt")), config=asked)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: others have no jailer")
def test_companions_that_are_missing(refusals: Refusals, binaries: pathlib.Path, guest: t.Callable[..., str]) -> None:
    for name in ("jailer", "ch-remote"):
        if shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/usr/libexec"):
            pytest.skip(f"another {name} is installed in a directory that is always searched")
        (binaries / name).unlink()
    jailed = {**vm(guest("halt")), "security": {"jail": True}}
    refusals.refused("jailer", "failed_precondition", "jailer", **jailed, state="running")
    refusals.refused("ch-remote", "failed_precondition", "ch-remote", **{**vm(guest("halt")), "backend": "cloudhypervisor"}, state="running")
    refusals.run(name="web", state="absent").ok()


def test_kernels_and_disks_that_are_none(refusals: Refusals, firecracker: Vmm, ground: Playground, top: pathlib.Path, guest: t.Callable[..., str]) -> None:
    good, options = guest("halt"), {**firecracker.options, "state": "running"}
    ground.path = (*ground.path, *os.environ["PATH"].split(os.pathsep))
    for what, body in {"empty": b"", "text": b"hello\n" * 999, "bzimage": bytes(0x1FE) + b"\x55\xaa\xeb\x66HdrS" + bytes(9000)}.items():
        path = top / what
        path.write_bytes(body)
        refusals.refused(f"kernel: {what}", "failed_precondition", f"config.boot.kernel_path: {path} is ", **{**vm(str(path)), **options})
        refusals.run(name="web", state="absent").ok()
    for what, path in {"missing": str(top / "none"), "directory": str(top)}.items():
        refusals.refused(f"kernel: {what}", "failed_precondition", "config.boot.kernel_path", path, **{**vm(path), **options})
        refusals.refused(f"initrd: {what}", "failed_precondition", "config.boot.initrd_path", path, **{**vm(good), **options, "initrd": path})
        refusals.refused(f"disk: {what}", "failed_precondition", "config.storage[0].path", path, **{**vm(good), **options, "disks": [path]})
    refusals.run(name="web", state="absent").ok()


def test_a_file_that_goes_away_after_the_definition(refusals: Refusals, firecracker: Vmm, ground: Playground, guest: t.Callable[..., str], disk: str) -> None:
    ground.path = (*ground.path, *os.environ["PATH"].split(os.pathsep))
    given = {**vm(guest("halt")), **firecracker.options, "disks": [disk]}
    refusals.run(**given).ok()
    os.rename(disk, f"{disk}.away")
    refusals.refused("disk", "failed_precondition", disk, name="web", state="running")
    os.rename(f"{disk}.away", disk)
    assert refusals.run(name="web", state="running").ok()["vm"]["state"] == "running"


# --- devices -----------------------------------------------------------------------------------------------
_BARE_DEV = """mkdir -p "$0"; mount -t tmpfs none "$0"; cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty "$0"
ln -s /proc/self/fd "$0/fd"; mkdir -m 1777 "$0/shm"; mount --bind "$0" /dev; exec "$@" """


# A host on which nothing of what VMs want is installed: no VMM, no tool that a minimal system lacks, no runtime, no device.
_HIDDEN = ("qemu-system-x86_64", "qemu-system-aarch64", "firecracker", "jailer", "cloud-hypervisor", "ch-remote", "nft", "dnsmasq", "setfacl")
_NOTHING = """for program in {}; do mount --bind /dev/null "$program"; done; mkdir -p /opt; mount -t tmpfs none /opt; """
# With PATH as sshd gives it to users of Debian.
_POOR_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/games"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes mount namespaces")
def test_a_host_where_nothing_is_installed(ground: Playground, top: pathlib.Path, guest: t.Callable[..., str]) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(top / "venv")], check=True, timeout=300)
    ground.modules_python = str(top / "venv" / "bin" / "python")
    everywhere = os.pathsep.join((os.environ["PATH"], "/usr/local/sbin", "/usr/sbin", "/sbin"))
    there = {os.path.realpath(path) for program in _HIDDEN if (path := shutil.which(program, path=everywhere))}
    ground.prefix = ("unshare", "-m", "sh", "-ec", _NOTHING.format(" ".join(sorted(there))) + _BARE_DEV, str(top / "dev"))
    asked = [task("host", "vmcp_host_info"), task("boot", name="web", state="running", kernel=guest("halt"))]
    results = ground.play(asked, PATH=_POOR_PATH)
    found = results.ok("host")["host"]
    assert (found["backends"], found["kvm"]) == ([], {"present": False, "usable": False, "hardware": False})
    lacks = {lack["what"]: lack for lack in found["lacks"]}
    libraries = {"httpx", "pycdlib", "pydantic", "pyroute2", "qemu.qmp"}
    assert {"kvm", "net/tun", "cloudhypervisor", "firecracker", "qemu", "nft", "dnsmasq", "setfacl", *libraries} <= set(lacks)
    assert not {"setpriv", "unshare", "flock", "mount"} & set(lacks), "what is there is not said to be missing"
    assert all(lack["message"].endswith(".") and lack["remedy"].endswith(".") and lack["needed_for"] for lack in lacks.values())
    assert "unkey.vmcp.vmcp_firecracker" in lacks["firecracker"]["remedy"] and "unkey.vmcp.vmcp_host" in lacks["pydantic"]["remedy"]
    assert lacks["nft"]["remedy"] == "Install the package nftables."
    refused = results.refused("boot", "failed_precondition")
    assert "unkey.vmcp." in refused["msg"], "whoever starts a VM there is told what to do first"
    assert results["host"].touched == results["boot"].touched == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes mount namespaces")
def test_without_kvm_and_tun(ground: Playground, top: pathlib.Path, firecracker: Vmm, guest: t.Callable[..., str]) -> None:
    given = {**vm(guest("halt")), **firecracker.options, "state": "running"}
    tap = {"network": [{"tap_device": "vmcpnone0"}]}
    ground.prefix = ("unshare", "-m", "sh", "-ec", _BARE_DEV, str(top / "dev"))
    results = ground.play(
        [task("no kvm", **given), task("no kvm: check", check=True, **given), task("no tap", **given, config=tap), task("remove", name="web", state="absent")]
    )
    for name in ("no kvm", "no tap"):
        refused = results.refused(name, "failed_precondition")
        assert "firecracker needs /dev/kvm, which is not here. Load the module" in str(refused["violations"])
    assert "config.network[0].tap_device" in str(results["no tap"]["violations"])
    assert "/dev/kvm" in str(results.ok("no kvm: check")["would_need"])
    assert not results.ok("remove")["changed"], "nothing was defined"
    if not firecracker.real:
        return
    ground.prefix = ("unshare", "-m", "sh", "-ec", 'mount --bind /dev/null /dev/kvm; exec "$@"', "sh")
    refused = ground.play([task("no real kvm", **given)]).refused("no real kvm", "failed_precondition")
    # On a busy host Firecracker's API thread may panic of the other's end before that has said why.
    assert "did not start" in refused["msg"] and ("Kvm error" in refused["msg"] or "SIGABRT" in refused["msg"])
    ground.prefix = ()
    assert ground.play([task("with kvm", **given)]).ok("with kvm")["vm"]["state"] == "running"
