# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""roles/vmcp_release/files/release.py: what it puts in place, what it refuses, and that a refusal leaves everything as it was."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.hosts.releases import ARCHITECTURE, Releases

SCRIPT = pathlib.Path(__file__).resolve().parents[3] / "roles" / "vmcp_release" / "files" / "release.py"
VERSION = "1.16.1"


class Ground:
    """A directory of versions, and releases beside it."""

    def __init__(self, top: pathlib.Path) -> None:
        self.base = top / "firecracker"
        self.state = top / "state"
        self.releases = Releases(top / "served")

    def spec(self, version: str = VERSION) -> dict[str, t.Any]:
        build = f"v{version}-{ARCHITECTURE}"
        asset = f"firecracker-{build}.tgz"
        return {
            "version": version,
            "assets": [
                {"name": asset, "sha256": self.releases.firecracker_digests[version][asset]},
                {"name": f"{asset}.sha256.txt", "lists": asset},
            ],
            "programs": [
                {"name": name, "asset": asset, "member": f"release-{build}/{name}-{build}", "mode": "0755", "says": f"v{version}"}
                for name in ("firecracker", "jailer")
            ],
            "sums": {"asset": asset, "member": f"release-{build}/SHA256SUMS"},
        }

    def run(self, *words: str) -> tuple[int, t.Any]:
        """The exit code, and the answer or the refusal."""
        done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, timeout=300, check=False)
        return done.returncode, json.loads(done.stdout) if done.returncode == 0 else done.stderr.strip()

    def install(self, version: str = VERSION) -> tuple[int, t.Any]:
        return self.run("install", str(self.base), json.dumps(self.spec(version)), str(self.releases.top / "firecracker" / f"v{version}"))

    def is_intact(self, version: str = VERSION) -> bool:
        return bool(self.run("inspect", str(self.base), json.dumps(self.spec(version)))[1]["intact"])

    def prune(self, *keep: str, verb: str = "prune") -> t.Any:
        code, answer = self.run(verb, str(self.base), json.dumps(keep), str(self.state))
        assert code == 0, answer
        return answer

    def listed(self) -> list[tuple[str, int]]:
        """Every file with its inode."""
        return sorted((str(path), path.lstat().st_ino) for path in self.base.rglob("*") if path.name != ".lock")


@pytest.fixture
def ground(tmp_path: pathlib.Path) -> Ground:
    made = Ground(tmp_path)
    made.releases.firecracker(VERSION, stub=True)
    return made


def test_a_version_is_put_in_place_and_known_again(ground: Ground) -> None:
    assert not ground.is_intact()
    code, answer = ground.install()
    assert (code, answer["installed"]) == (0, str(ground.base / VERSION))
    assert sorted(path.name for path in (ground.base / VERSION).iterdir()) == ["RELEASE.json", "firecracker", "jailer"]
    assert ground.is_intact()


@pytest.mark.parametrize(
    "damage",
    [
        lambda directory: (directory / "jailer").unlink(),
        lambda directory: (directory / "firecracker").write_text("#!/bin/sh\n"),
        lambda directory: (directory / "firecracker").chmod(0o4755),
        lambda directory: (directory / "RELEASE.json").write_text("{"),
        lambda directory: (directory / "RELEASE.json").unlink(),
    ],
)
def test_what_was_damaged_is_seen_and_put_right(ground: Ground, damage: t.Callable[[pathlib.Path], None]) -> None:
    ground.install()
    damage(ground.base / VERSION)
    assert not ground.is_intact()
    assert ground.install()[0] == 0
    assert ground.is_intact()
    assert not list(ground.base.glob(".[ir]*"))


def test_another_digest_asked_for_is_another_release(ground: Ground) -> None:
    ground.install()
    ground.releases.firecracker(VERSION, stub=True, replaced={"NEW": b"new"})
    assert not ground.is_intact()


def truncated(ground: Ground, asset: pathlib.Path) -> str:
    asset.write_bytes(asset.read_bytes()[:400])
    return "it was truncated or changed on its way"


def no_archive(ground: Ground, asset: pathlib.Path) -> str:
    asset.write_bytes(b"<html>sign in</html>")
    vouch(ground, asset)
    return "is no archive that can be read"


def cut_archive(ground: Ground, asset: pathlib.Path) -> str:
    asset.write_bytes(asset.read_bytes()[:-200])
    vouch(ground, asset)
    return "Nothing was installed."


def another_list(ground: Ground, asset: pathlib.Path) -> str:
    asset.with_name(f"{asset.name}.sha256.txt").write_text(f"{'a' * 64}  {asset.name}\n")
    return "One of the two is not upstream's"


def own_list(ground: Ground, asset: pathlib.Path) -> str:
    ground.releases.firecracker("1.16.2", stub=True, replaced={f"jailer-v1.16.2-{ARCHITECTURE}": b"#!/bin/sh\n# ours\n"})
    return "and the archive's own list says"


def another_version(ground: Ground, asset: pathlib.Path) -> str:
    ground.releases.firecracker("1.16.2", stub=True, says="1.16.0")
    return "answers 'Firecracker v1.16.0' to --version, and not 'v1.16.2'"


def another_processor(ground: Ground, asset: pathlib.Path) -> str:
    ground.releases.firecracker("1.16.2", stub=True, bodies={"firecracker": b"\x7fELF of another processor"})
    return "does not run on this host"


def a_link(ground: Ground, asset: pathlib.Path) -> str:
    ground.releases.firecracker("1.16.2", stub=True, links={"firecracker": "/etc/passwd"})
    return "does not hold the file"


def vouch(ground: Ground, asset: pathlib.Path) -> None:
    """As if upstream had published what is in the file now."""
    found = hashlib.sha256(asset.read_bytes()).hexdigest()
    ground.releases.firecracker_digests["1.16.2"][asset.name] = found
    asset.with_name(f"{asset.name}.sha256.txt").write_text(f"{found}  {asset.name}\n")


@pytest.mark.parametrize("wrong", [truncated, no_archive, cut_archive, another_list, own_list, another_version, another_processor, a_link])
@pytest.mark.parametrize("there", [False, True])
def test_a_refusal_leaves_what_was_there(ground: Ground, wrong: t.Callable[[Ground, pathlib.Path], str], there: bool) -> None:
    ground.install()
    asset = ground.releases.firecracker("1.16.2", stub=True)
    if there:
        ground.install("1.16.2")
    before = ground.listed()
    expected = wrong(ground, asset)
    code, said = ground.install("1.16.2")
    assert code == 1
    assert expected in said
    assert "Traceback" not in said
    assert ground.listed() == before


class TestPrune:
    @pytest.fixture
    def several(self, ground: Ground) -> Ground:
        for version in (VERSION, "1.16.2", "1.16.3"):
            ground.releases.firecracker(version, stub=True)
            assert ground.install(version)[0] == 0
        (ground.base / "current").symlink_to("1.16.3")
        return ground

    def test_removes_what_nobody_uses_and_says_so_before(self, several: Ground) -> None:
        before = several.listed()
        assert several.prune(VERSION, verb="would-prune") == {"removed": ["1.16.2"], "kept": {}}
        assert several.listed() == before
        assert several.prune(VERSION) == {"removed": ["1.16.2"], "kept": {}}
        assert several.prune(VERSION) == {"removed": [], "kept": {}}
        assert sorted(os.listdir(several.base)) == [".lock", VERSION, "1.16.3", "current"]

    @pytest.mark.parametrize("file", ["vm.json", "booted.json", "launch", "launch.running"])
    def test_keeps_what_a_vm_was_made_with(self, several: Ground, file: str) -> None:
        vm = several.state / "vms" / "web"
        vm.mkdir(parents=True)
        (vm / file).write_text(f"exec {several.base}/1.16.2/firecracker --id web\n")
        assert several.prune() == {"removed": [VERSION], "kept": {"1.16.2": "the VM web uses it"}}
        assert several.is_intact("1.16.2")

    def test_keeps_what_a_process_runs_under_whatever_name(self, several: Ground, tmp_path: pathlib.Path) -> None:
        sleep = shutil.which("sleep")
        assert sleep
        program = several.base / "1.16.2" / "firecracker"
        shutil.copy(sleep, program)
        jailed = tmp_path / "jailed"
        os.link(program, jailed)
        process = subprocess.Popen([str(jailed), "60"])
        try:
            assert several.prune(VERSION)["kept"] == {"1.16.2": f"the process {process.pid} runs it"}
        finally:
            process.kill()
            process.wait()
        assert several.prune(VERSION)["removed"] == ["1.16.2"]

    def test_keeps_what_somebody_else_put_there(self, several: Ground) -> None:
        (several.base / "1.16.2" / "RELEASE.json").unlink()
        assert several.prune(VERSION)["kept"] == {"1.16.2": "it was not put there by this role"}

    def test_on_a_bare_host_there_is_nothing(self, ground: Ground) -> None:
        assert ground.prune(verb="would-prune") == {"removed": [], "kept": {}}
        assert not ground.base.exists()
