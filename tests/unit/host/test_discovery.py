# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pathlib
import shutil
import sys

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition, NotFound
from ansible_collections.unkey.vmcp.plugins.module_utils.host import discovery, probe, tools


def fake(path: pathlib.Path, says: str, mode: int = 0o755) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\n")
    path.chmod(mode)
    return path


FIRECRACKER = "Firecracker v{0}\n\n2026-01-01T00:00:00.000 [anonymous-instance:main] Firecracker exiting successfully. exit_code=0"
CLOUD_HYPERVISOR = "cloud-hypervisor v53.0.0\nMigration Protocol Versions: 0"
QEMU = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright (c) 2003-2022 Fabrice Bellard"


def test_versions_below_opt_are_found_newest_first_with_their_helpers(tmp_path: pathlib.Path) -> None:
    for version in ("1.9.0", "1.16.1", "1.14.2"):
        fake(tmp_path / "firecracker" / version / "firecracker", FIRECRACKER.format(version))
    fake(tmp_path / "firecracker" / ".installing-abc" / "firecracker", FIRECRACKER.format("1.17.0"))
    jailer = fake(tmp_path / "firecracker" / "1.16.1" / "jailer", "Jailer v1.16.1")
    (tmp_path / "firecracker" / "current").symlink_to("1.14.2")
    found = discovery.discover(opt_dir=str(tmp_path), path="")
    assert [(i.version, i.current) for i in found.installed] == [("1.16.1", False), ("1.14.2", True), ("1.9.0", False)]
    assert found.installed[0].helpers == {"jailer": str(jailer)}
    assert found.installed[1].helpers == {}
    assert found.require("firecracker").version == "1.14.2"
    assert found.require("firecracker", "v1.9.0").binary == str(tmp_path / "firecracker/1.9.0/firecracker")


def test_without_a_current_link_the_newest_is_it(tmp_path: pathlib.Path) -> None:
    for version in ("1.9.0", "1.16.1"):
        fake(tmp_path / "firecracker" / version / "firecracker", FIRECRACKER.format(version))
    assert discovery.discover(opt_dir=str(tmp_path), path="").require("firecracker").version == "1.16.1"


def test_a_version_that_is_not_there_names_those_that_are(tmp_path: pathlib.Path) -> None:
    for version in ("1.9.0", "1.16.1"):
        fake(tmp_path / "firecracker" / version / "firecracker", FIRECRACKER.format(version))
    with pytest.raises(NotFound, match=r"firecracker 1\.15\.0 is not installed; installed are: 1\.16\.1, 1\.9\.0"):
        discovery.discover(opt_dir=str(tmp_path), path="").require("firecracker", "1.15.0")


def test_path_is_looked_at_where_opt_has_nothing_and_links_are_resolved(tmp_path: pathlib.Path) -> None:
    real = fake(tmp_path / "real" / "cloud-hypervisor-v53", CLOUD_HYPERVISOR)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "cloud-hypervisor").symlink_to(real)
    remote = fake(tmp_path / "bin" / "ch-remote", "ch-remote v53.0.0")
    fake(tmp_path / "bin" / f"qemu-system-{os.uname().machine}", QEMU)
    found = discovery.discover(opt_dir=str(tmp_path / "opt"), path=str(tmp_path / "bin"))
    cloud, qemu = found.installed
    assert (cloud.version, cloud.binary, cloud.helpers) == ("53.0", str(real), {"ch-remote": str(remote)})
    assert (qemu.backend, qemu.version, qemu.current) == ("qemu", "7.2.22", True)
    with pytest.raises(NotFound, match="firecracker is not installed: no firecracker below"):
        found.require("firecracker")


@pytest.mark.parametrize(
    ("says", "mode", "why"),
    [("Firecracker v1.16.1", 0o644, "is not executable"), ("something else", 0o755, "it answered 'something else'"), ("", 0o755, "it answered ''")],
)
def test_a_binary_of_no_use_says_why(tmp_path: pathlib.Path, says: str, mode: int, why: str) -> None:
    fake(tmp_path / "firecracker" / "1.0" / "firecracker", says, mode)
    found = discovery.discover(["firecracker"], opt_dir=str(tmp_path), path="")
    assert found.installed == ()
    with pytest.raises(FailedPrecondition) as error:
        found.require("firecracker")
    assert why in error.value.msg


def test_a_binary_that_hangs_is_given_up(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "firecracker" / "1.0" / "firecracker"
    fake(binary, "")
    binary.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(discovery, "VERSION_TIMEOUT_S", 0.2)
    (problem,) = discovery.discover(["firecracker"], opt_dir=str(tmp_path), path="").problems
    assert "cannot be run" in problem.message
    assert "timed out" in problem.message


def test_static_means_no_interpreter(tmp_path: pathlib.Path) -> None:
    assert discovery.is_static(shutil.which("sh") or "/bin/sh") is False
    (tmp_path / "text").write_text("#!/bin/sh\n")
    (tmp_path / "torn").write_bytes(b"\x7fELF\x02\x01")
    for name in ("text", "torn", "absent"):
        assert discovery.is_static(str(tmp_path / name)) is False
    header = bytearray(pathlib.Path(sys.executable).resolve().read_bytes()[:64])
    header[56:58] = b"\0\0"  # no program headers at all
    (tmp_path / "static").write_bytes(header)
    assert discovery.is_static(str(tmp_path / "static")) is True


def test_host_facts_on_a_host_with_nothing(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(discovery, "EXTRA_PATH", ())
    monkeypatch.setattr(tools, "_PATH", ())
    facts = probe.host_facts(str(tmp_path / "state"), str(tmp_path / "opt"))
    assert facts["backends"] == []
    assert facts["disk"]["path"] == str(tmp_path)
    assert facts["memory_bytes"] > 0
    missing = {lack["what"] for lack in facts["lacks"]}
    assert {"cloudhypervisor", "firecracker", "qemu", "setpriv", "ip"} <= missing
    assert all(lack["remedy"].endswith(".") and lack["message"].endswith(".") and lack["needed_for"] for lack in facts["lacks"])
    assert os.listdir(tmp_path) == []


def test_kvm_is_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    monkeypatch.setattr(probe, "_KVM", str(tmp_path / "kvm"))
    assert (probe.kvm().present, probe.kvm().usable) == (False, False)
    assert "not there" in probe.kvm().problem
    (tmp_path / "kvm").touch()
    monkeypatch.setattr(probe, "_cpu_virtualizes", lambda: False)
    assert (probe.kvm().usable, probe.kvm().hardware) == (True, False)
    assert "neither vmx nor svm" in probe.kvm().problem
    monkeypatch.setattr(probe, "_cpu_virtualizes", lambda: True)
    assert probe.kvm() == probe.Kvm(True, True, True)
