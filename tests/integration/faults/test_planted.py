# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that somebody else put where ours should be: links, sockets and pid files lead root nowhere, and torn or full stores lose nothing."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import socket
import subprocess
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground, Tree
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm
from ansible_collections.unkey.vmcp.tests.integration.faults.built_module import BuiltModule
from ansible_collections.unkey.vmcp.tests.integration.faults.host_trace import at_rest, definition, vmms

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: VMs with uids of their own, mounts")]

NAME = "web"


@pytest.fixture
def given(firecracker: Vmm, guest: t.Callable[..., str]) -> Tree:
    return {"backend": "firecracker", "memory": "128M", "kernel": guest("halt"), "shutdown_timeout": 0, **firecracker.options}


def as_vm(ground: Playground, name: str, script: str) -> None:
    """What a VMM that was broken into could do: a command with the rights of the VM's uid."""
    uid = definition(ground, name)["generated"]["uid"]
    words = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--", "sh", "-ec", script]
    subprocess.run(words, cwd=f"{ground.run_dir}/{name}/vmm", check=True, timeout=60)


def test_a_socket_that_the_vms_uid_replaces(ground: Playground, module: BuiltModule, given: Tree, top: pathlib.Path) -> None:
    other = module.run(path=ground.path, name="other", state="running", **given).ok()["vm"]
    victim = top / "victim"
    victim.write_text("mine\n")
    foreign = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    foreign.bind(str(top / "foreign.sock"))
    foreign.listen()
    module.run(path=ground.path, name=NAME, state="running", **given).ok()
    as_vm(ground, NAME, "mv api.sock real.sock")
    api = pathlib.Path(ground.run_dir, NAME, "vmm", "api.sock")
    plants = {
        "link to another VM's": (f"ln -s {ground.run_dir}/other/vmm/api.sock api.sock", "is a link and not a socket"),
        "link to a file": (f"ln -s {victim} api.sock", "is a link and not a socket"),
        "file": ("echo x > api.sock", "is not a socket"),
        "directory": ("mkdir api.sock", "is not a socket"),
        "nothing": ("true", "There is no socket"),
    }
    for what, (script, words) in plants.items():
        as_vm(ground, NAME, script)
        result = module.run(path=ground.path, name=NAME, state="paused").result
        assert result.failed and result["code"] in ("failed_precondition", "unavailable") and words in result["msg"], (what, result)
        as_vm(ground, NAME, "rm -rf api.sock")
    # Another process's, live, where only root could put it: not the VM's uid behind it.
    os.link(top / "foreign.sock", api)
    result = module.run(path=ground.path, name=NAME, state="paused").result
    assert result["code"] == "failed_precondition" and "runs as uid 0, not as the VM's uid" in result["msg"] and "Nothing was sent" in result["msg"]
    as_vm(ground, NAME, "rm -f api.sock")
    foreign.close()
    as_vm(ground, NAME, f"ln -s {ground.run_dir}/other/vmm/api.sock api.sock; ln -s /etc planted; mkdir -p deep/er; ln -s {victim} deep/er/link")
    assert module.run(path=ground.path, name=NAME, state="absent").ok()["changed"]
    assert vmms(ground, NAME) == []
    assert victim.read_text() == "mine\n" and os.path.exists("/etc/passwd")
    assert vmms(ground, "other") == [other["pid"]]
    again = module.run(path=ground.path, name="other", state="running", **given).ok()
    assert not again["changed"]


def test_what_lies_in_the_way_of_a_start(ground: Playground, module: BuiltModule, given: Tree, top: pathlib.Path) -> None:
    victim = top / "victim"
    (victim / "inner").mkdir(parents=True)
    (victim / "inner" / "file").write_text("mine\n")
    module.run(path=ground.path, name=NAME, **given).ok()
    run = pathlib.Path(ground.run_dir, NAME)

    def stale() -> None:
        (run / "vmm").mkdir()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
            dead.bind(str(run / "vmm" / "api.sock"))

    plants: dict[str, t.Callable[[], object]] = {
        "stale socket": stale,
        "file": lambda: (run / "vmm").write_text("x"),
        "link": lambda: (run / "vmm").symlink_to(victim),
        "link to /etc/passwd": lambda: (run / "vmm").mkdir() or (run / "vmm" / "api.sock").symlink_to("/etc/passwd"),
    }
    passwd = pathlib.Path("/etc/passwd").read_bytes()
    for what, plant in plants.items():
        run.mkdir(parents=True, exist_ok=True)
        plant()
        started = module.run(path=ground.path, name=NAME, state="running", **given).ok()
        assert started["vm"]["state"] == "running", what
        module.run(path=ground.path, name=NAME, state="shutdown", shutdown_timeout=0).ok()
    assert (victim / "inner" / "file").read_text() == "mine\n"
    assert pathlib.Path("/etc/passwd").read_bytes() == passwd


def test_links_in_the_data_of_a_vm(ground: Playground, module: BuiltModule, given: Tree, top: pathlib.Path) -> None:
    """The VM's uid owns data/ and may put there what it likes; neither a start nor the removal follows it."""
    victim = top / "victim"
    victim.mkdir(mode=0o700)
    (victim / "secret").write_text("secret\n")
    module.run(path=ground.path, name=NAME, state="running", **given).ok()
    data = ground.vm_file(NAME, "data")
    as_vm(ground, NAME, f"cd {data}; ln -s /etc/shadow OVMF_VARS.fd; ln -s {victim} dir; ln -s ../vm.json up; mkfifo pipe")
    status = os.stat("/etc/shadow")
    module.run(path=ground.path, name=NAME, state="restarted", **given).ok()
    assert module.run(path=ground.path, name=NAME, state="absent").ok()["changed"]
    assert (victim / "secret").read_text() == "secret\n"
    after = os.stat("/etc/shadow")
    assert (status.st_mode, status.st_uid, status.st_ctime_ns) == (after.st_mode, after.st_uid, after.st_ctime_ns)


@pytest.mark.skipif(not os.path.exists("/usr/share/OVMF/OVMF_CODE_4M.fd"), reason="needs /usr/share/OVMF: package ovmf")
def test_uefi_variables_that_are_a_link(ground: Playground, module: BuiltModule) -> None:
    """The VM's own file of variables, in place of which its uid has put a link: it is resolved with the uid's rights, if at all."""
    given = {"name": NAME, "backend": "qemu", "memory": "128M", "firmware": "/usr/share/OVMF/OVMF_CODE_4M.fd", "shutdown_timeout": 0}
    module.run(path=ground.path, **given).ok()
    data, uid = ground.vm_file(NAME, "data"), definition(ground, NAME)["generated"]["uid"]
    before = os.stat("/etc/shadow")
    (data / "efivars").symlink_to("/etc/shadow")
    os.chown(data / "efivars", uid, uid, follow_symlinks=False)
    refused = module.run(path=ground.path, **given, state="running").result
    assert refused.failed and refused["code"] == "failed_precondition" and "Permission denied" in json.dumps(refused), refused
    (data / "efivars").unlink()
    (data / "efivars.new").symlink_to("/etc/shadow")
    assert module.run(path=ground.path, **given, state="running").result.failed, "what it is made from is not written through a link either"
    (data / "efivars.new").unlink()
    assert module.run(path=ground.path, **given, state="running").ok()["vm"]["state"] == "running"
    after = os.stat("/etc/shadow")
    assert (before.st_mode, before.st_uid, before.st_mtime_ns, before.st_ctime_ns) == (after.st_mode, after.st_uid, after.st_mtime_ns, after.st_ctime_ns)


@pytest.mark.parametrize("kind", ["start time", "boot of the host", "torn", "link"])
def test_a_pid_that_is_somebody_elses(ground: Playground, module: BuiltModule, given: Tree, top: pathlib.Path, kind: str) -> None:
    module.run(path=ground.path, name=NAME, state="running", **given).ok()
    file = pathlib.Path(ground.run_dir, NAME, "pid")
    _pid, ticks, boot, host_boot, _rest = file.read_text().split()
    module.run(path=ground.path, name=NAME, state="shutdown", shutdown_timeout=0).ok()
    with subprocess.Popen(["sleep", "600"]) as innocent:
        theirs = pathlib.Path(f"/proc/{innocent.pid}/stat").read_text().rpartition(")")[2].split()[19]
        lines = {
            "start time": f"{innocent.pid} {ticks} {boot} {host_boot}\n",
            "boot of the host": f"{innocent.pid} {theirs} {boot} {boot}\n",
            "torn": f"{innocent.pid} ",
        }
        try:
            for task in ({"state": "shutdown", "shutdown_timeout": 0}, {"state": "running"}, {"state": "absent"}):
                if kind == "link":
                    (top / "pid").write_text(lines["start time"])
                    file.unlink(missing_ok=True)
                    file.symlink_to(top / "pid")
                elif task["state"] != "absent":
                    file.parent.mkdir(exist_ok=True)
                    file.write_text(lines[kind])
                ended = module.run(path=ground.path, name=NAME, **task).result
                assert innocent.poll() is None, task
                if kind != "link":
                    assert not ended.failed, ended
        finally:
            file.unlink(missing_ok=True)
            innocent.kill()
    assert not module.run(path=ground.path, name=NAME, state="absent").result.failed


def test_allocations_of_a_newer_version(ground: Playground, module: BuiltModule, given: Tree) -> None:
    good = module.run(path=ground.path, name="good", state="running", **given).ok()["vm"]
    file = pathlib.Path(ground.state, "allocations.json")
    kept = file.read_text()
    file.write_text('{"schema": 9}')
    result = module.run(path=ground.path, name=NAME, state="running", **given).result
    paused = module.run(path=ground.path, name="good", state="paused").result
    left = file.read_text()
    file.write_text(kept)
    assert result.failed and result["code"] == "failed_precondition" and "newer unkey.vmcp" in result["msg"] and str(file) in result["msg"], result
    assert left == '{"schema": 9}' and not ground.vm_file(NAME, "vm.json").exists()
    assert paused.get("vm", {}).get("pid") == good["pid"], "a VM that is there needs no allocation"
    assert module.run(path=ground.path, name=NAME, state="running", **given).ok()["vm"]["state"] == "running"


@pytest.mark.parametrize("text", ['{"schema": 1, "vms": {"a"', "", "[]"])
def test_allocations_that_are_torn(ground: Playground, module: BuiltModule, given: Tree, text: str) -> None:
    """They are made anew from the definitions, and the user is told."""
    good = module.run(path=ground.path, name="good", state="running", **given).ok()["vm"]
    file = pathlib.Path(ground.state, "allocations.json")
    record = json.loads(file.read_text())["vms"]["good"]
    file.write_text(text)
    made = module.run(path=ground.path, name=NAME, state="running", **given).ok()
    assert "made anew" in str(made["warnings"]) and str(file) in str(made["warnings"]), made
    assert made["vm"]["uid"] != good["uid"]
    assert json.loads(file.read_text())["vms"]["good"] == record
    assert pathlib.Path(f"{file}.torn").read_text() == text
    assert not module.run(path=ground.path, name="good", state="running", **given).ok()["changed"]


# --- a full disk ---------------------------------------------------------------------------------------------
@pytest.fixture
def small(ground: Playground) -> t.Iterator[pathlib.Path]:
    """The state directory on a file system of 256 KiB."""
    point = pathlib.Path(ground.state)
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=0711", "vmcp-test", str(point)], check=True, timeout=60)
    try:
        yield point
    finally:
        shutil.rmtree(point / "vms", ignore_errors=True)
        subprocess.run(["umount", "--lazy", str(point)], check=True, timeout=60)


def fill(point: pathlib.Path) -> pathlib.Path:
    filler = point / "filler"
    with filler.open("wb", buffering=0) as stream:
        try:
            while stream.write(bytes(4096)):
                pass
        except OSError:
            return filler
    raise AssertionError("it is not full")


def test_a_full_disk(ground: Playground, module: BuiltModule, given: Tree, small: pathlib.Path) -> None:
    filler = fill(small)
    result = module.run(path=ground.path, name=NAME, **given).result
    assert (
        result["code"] == "failed_precondition" and "No space left on device" in result["msg"] and str(small) in result["msg"] and "Free space" in result["msg"]
    )
    filler.unlink()
    pid = module.run(path=ground.path, name=NAME, state="running", **given).ok()["vm"]["pid"]
    stored = ground.vm_file(NAME, "vm.json").read_bytes()
    filler = fill(small)
    change = {**given, "labels": {f"l{number}": "b" * 200 for number in range(40)}}
    result = module.run(path=ground.path, name=NAME, state="running", **change).result
    assert result["code"] == "failed_precondition" and "No space left on device" in result["msg"], result
    assert ground.vm_file(NAME, "vm.json").read_bytes() == stored
    assert not list(small.glob("**/*.tmp"))
    assert os.path.exists(f"/proc/{pid}"), "what runs is left alone"
    filler.unlink()
    assert module.run(path=ground.path, name=NAME, state="running", **change).ok()["changed"]
    assert definition(ground, NAME)["labels"] == change["labels"]
    filler = fill(small)
    assert module.run(path=ground.path, name=NAME, state="absent").ok()["changed"], "a VM can be removed from a full disk"
    filler.unlink()
    assert at_rest(ground)["processes"] == {}
    assert json.loads((small / "allocations.json").read_text())["vms"] == {}
