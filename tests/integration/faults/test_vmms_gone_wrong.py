# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""VMMs that hang, babble or die: each task ends in time with a sentence, other VMs are listed as they are, and force gets rid of it."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import time
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import GREETING, Playground, Tree
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm
from ansible_collections.unkey.vmcp.tests.integration.faults import turncoat
from ansible_collections.unkey.vmcp.tests.integration.faults.built_module import BuiltModule
from ansible_collections.unkey.vmcp.tests.integration.faults.host_trace import at_rest, vmms

NOT_JAILED = {"security": {"jail": False}}
# Fault, code of a task that needs the VMM (empty: a pause that takes its time, or is claimed to be done, is none of its failures), and words of what is said.
FAULTS = (
    ("hang", "deadline_exceeded", "did not answer in time"),
    ("slow", "", "did not answer in time"),
    ("garbage", "internal", "does not speak the VMM's HTTP"),
    ("half", "unavailable", "was closed before the reply was complete"),
    ("huge", "internal", "announces a reply of 1073741824 bytes"),
    ("nonsense", "", ""),
)


@pytest.fixture
def fault(top: pathlib.Path, ground: Playground) -> pathlib.Path:
    """The file by which the VMMs of this test are told to go wrong."""
    python = turncoat.interpreter()
    if python is None:
        pytest.skip("no python3 here can be run by the uid of a VM")
    directory = top / "bin"
    directory.mkdir()
    turncoat.install(directory, top / "fault", python)
    ground.path = (str(directory), *ground.path)
    return top / "fault"


def given(guest: t.Callable[..., str], **options: t.Any) -> Tree:
    return {"backend": "firecracker", "memory": "128M", "kernel": guest("halt"), **NOT_JAILED, **options}


@pytest.mark.parametrize("kind,code,words", FAULTS, ids=[kind for kind, _code, _words in FAULTS])
def test_a_vmm_that_goes_wrong_while_it_runs(
    ground: Playground, module: BuiltModule, fault: pathlib.Path, guest: t.Callable[..., str], kind: str, code: str, words: str
) -> None:
    module.run(path=ground.path, name="good", **given(guest)).ok()
    before = at_rest(ground)
    pid = module.run(path=ground.path, name="bad", state="running", **given(guest)).ok()["vm"]["pid"]
    fault.write_text(kind)
    info = ground.ad_hoc("vmcp_vm_info")
    listed = {vm["name"]: vm for vm in info["vms"]}
    assert listed["good"]["state"] == "created"
    assert listed["bad"]["state"] == "running" and listed["bad"]["pid"] == pid
    assert words in listed["bad"]["unresponsive"] and listed["bad"]["unresponsive"]
    if code:
        paused = module.run(path=ground.path, name="bad", state="paused")
        assert paused.result.failed and paused.result["code"] == code, paused.result
        assert words in paused.result["msg"] and paused.seconds < 100
    assert vmms(ground, "bad") == [pid], "nothing was done to it"
    shut = module.run(path=ground.path, name="bad", state="shutdown", shutdown_timeout=1)
    assert shut.ok()["vm"]["state"] == "shutdown" and shut.seconds < 100
    assert vmms(ground, "bad") == []
    fault.write_text("")
    module.run(path=ground.path, name="bad", state="running").ok()
    fault.write_text(kind)
    gone = module.run(path=ground.path, name="bad", state="absent")
    assert gone.ok()["actions"] == ["kill", "remove"] and gone.seconds < 100
    assert at_rest(ground) == before


@pytest.mark.parametrize("kind,words", [("garbage", "does not speak the VMM's HTTP"), ("nonsense", "no Firecracker"), ("huge", "announces a reply")])
def test_a_vmm_that_babbles_from_its_start(
    ground: Playground, module: BuiltModule, fault: pathlib.Path, guest: t.Callable[..., str], kind: str, words: str
) -> None:
    """It is not waited for until the deadline of a start: it said something, which was no answer."""
    fault.write_text(kind)
    refused = module.run(path=ground.path, name="bad", state="running", **given(guest))
    assert refused.result.failed and refused.result["code"] == "internal", refused.result
    assert "given no sensible answer for 5 s" in refused.result["msg"] and words in refused.result["msg"], refused.result["msg"]
    assert refused.seconds < 15
    fault.write_text("")
    again = module.run(path=ground.path, name="bad", state="running", **given(guest)).ok()
    assert again["vm"]["state"] == "running", "it needed no more than a moment"


def test_a_vmm_that_stands_still(ground: Playground, module: BuiltModule, firecracker: Vmm, guest: t.Callable[..., str]) -> None:
    """The kernel goes on accepting connections for a stopped process: nobody will ever answer them."""
    options = {"backend": "firecracker", "memory": "128M", "kernel": guest("halt"), **firecracker.options}
    pid = module.run(path=ground.path, name="bad", state="running", **options).ok()["vm"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    again = module.run(path=ground.path, name="bad", state="restarted", shutdown_timeout=300)
    assert again.ok()["vm"]["state"] == "running" and again.ok()["vm"]["pid"] != pid
    assert again.seconds < 100, "a VMM that does not answer is given no time to shut down"
    os.kill(again.ok()["vm"]["pid"], signal.SIGSTOP)
    assert module.run(path=ground.path, name="bad", state="absent").ok()["changed"]


def test_a_vmm_that_the_kernel_kills(ground: Playground, module: BuiltModule, firecracker: Vmm, guest: t.Callable[..., str]) -> None:
    """As it does to the largest process of a host that is out of memory."""
    options = {"backend": "firecracker", "memory": "128M", "kernel": guest("halt"), "shutdown_timeout": 0, **firecracker.options}
    pid = module.run(path=ground.path, name="bad", state="running", **options).ok()["vm"]["pid"]
    os.kill(pid, signal.SIGKILL)
    found = module.run(path=ground.path, name="bad", state="present").ok()
    assert not found["changed"] and found["vm"]["state"] == "crashed"
    assert (found["vm"]["last_exit"]["reason"], found["vm"]["last_exit"]["signal"]) == ("crash", "SIGKILL")
    again = module.run(path=ground.path, name="bad", state="running").ok()
    assert again["actions"] == ["start"] and vmms(ground, "bad") == [again["vm"]["pid"]]


def test_a_vmm_that_dies_when_it_is_asked_something(ground: Playground, module: BuiltModule, fault: pathlib.Path, guest: t.Callable[..., str]) -> None:
    module.run(path=ground.path, name="bad", state="running", **given(guest)).ok()
    # After the question how it is, before the answer to 'pause'.
    fault.write_text("die")
    refused = module.run(path=ground.path, name="bad", state="paused").result
    assert refused.failed and refused["code"] in ("unavailable", "failed_precondition"), refused
    fault.write_text("")
    deadline = time.monotonic() + 90
    # It has ended when its end is written down, by another process.
    while '"exit"' not in ground.vm_file("bad", "events.jsonl").read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    (vm,) = ground.ad_hoc("vmcp_vm_info", names=["bad"])["vms"]
    assert (vm["state"], vm["last_exit"]["code"], vm["stop_reason"]) == ("crashed", 7, "crash")
    assert module.run(path=ground.path, name="bad", state="running").ok()["actions"] == ["start"]


# What is put in the VMM's place once it has said its version, and words of what is said about its end.
DEATHS = {
    "at once": ("echo 'no such thing as a microVM' >&2; exit 3", "exit code 3", "no such thing as a microVM"),
    "a moment later": ("echo 'gone in a moment' >&2; sleep 0.1; exit 4", "exit code 4", "gone in a moment"),
    "by a signal": ("kill -SEGV $$", "SIGSEGV", ""),
    "well, without a word": ("exit 0", "exit code 0", ""),
}


@pytest.mark.parametrize("death", DEATHS)
def test_a_vmm_that_dies_as_it_starts(
    ground: Playground, module: BuiltModule, top: pathlib.Path, fault: pathlib.Path, guest: t.Callable[..., str], death: str
) -> None:
    command, how, said = DEATHS[death]
    module.run(path=ground.path, name="bad", **given(guest)).ok()
    before = at_rest(ground)
    whole = (top / "bin" / "firecracker").read_text()
    (top / "bin" / "firecracker").write_text(whole.replace("\n", f'\n[ "$1" = --version ] || {{ {command}; }}\n', 1))
    refused = module.run(path=ground.path, name="bad", state="running")
    assert refused.result.failed and refused.result["code"] == "failed_precondition", refused.result
    assert how in refused.result["msg"] and said in refused.result["msg"] + json.dumps(refused.result["log"]), refused.result["msg"]
    assert refused.seconds < 60
    left = [
        path
        for path in at_rest(ground)["files"]
        if path not in before["files"] and ("/vmm" in path.removeprefix(str(top)) or path.endswith(("pid", "booted.json")))
    ]
    assert [path for path in left if not path.endswith("vmm.log")] == []
    assert at_rest(ground)["processes"] == {}
    (top / "bin" / "firecracker").write_text(whole)
    assert module.run(path=ground.path, name="bad", state="running").ok()["vm"]["state"] == "running"


def test_a_guest_that_ignores_the_power_button(ground: Playground, module: BuiltModule, firecracker: Vmm, guest: t.Callable[..., str]) -> None:
    options = {"backend": "firecracker", "memory": "128M", "kernel": guest("halt"), **firecracker.options}
    module.run(path=ground.path, name="deaf", state="running", wait_for=[{"console": GREETING}], **options).ok()
    ended = module.run(path=ground.path, name="deaf", state="shutdown", shutdown_timeout=1)
    assert (ended.ok()["vm"]["state"], ended.ok()["vm"]["stop_reason"]) == ("shutdown", "request")
    assert 1 <= ended.seconds < 100
