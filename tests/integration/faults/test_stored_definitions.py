# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A vm.json that cannot be read: said in a sentence, no obstacle to other VMs, never changed by what fails, and removed when asked for."""

from __future__ import annotations

import json
import os
import pathlib
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import Playground
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm
from ansible_collections.unkey.vmcp.tests.integration.faults.built_module import BuiltModule
from ansible_collections.unkey.vmcp.tests.integration.faults.host_trace import at_rest, trace

Damage = t.Callable[[pathlib.Path, dict[str, t.Any]], object]


def _without(key: str) -> Damage:
    return lambda path, body: path.write_text(json.dumps({k: v for k, v in body.items() if k != key}))


def _with(**values: t.Any) -> Damage:
    return lambda path, body: path.write_text(json.dumps({**body, **values}))


def _text(text: str) -> Damage:
    return lambda path, body: path.write_text(text)


def _link(path: pathlib.Path, body: dict[str, t.Any]) -> None:
    path.unlink()
    path.symlink_to("/etc/shadow")


def _directory(path: pathlib.Path, body: dict[str, t.Any]) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: pathlib.Path, body: dict[str, t.Any]) -> None:
    path.unlink()
    os.mkfifo(path)


# What is done to it, and words of the message.
DAMAGES: dict[str, tuple[Damage, str]] = {
    "newer": (_with(schema=99, collection_version="9.1.0"), "has schema 99, written by unkey.vmcp 9.1.0"),
    "torn": (lambda path, body: path.write_bytes(path.read_bytes()[:300]), "Restore it from a backup, or remove the VM (state: absent)"),
    "empty": (_text(""), "is not a readable definition"),
    "no-json": (_text("hello\n"), "is not a readable definition"),
    "list": (_text("[]\n"), "is not a readable definition"),
    "bytes": (lambda path, body: path.write_bytes(b"\xff\x00\xfe" * 50), "is not a readable definition"),
    "no-schema": (_without("schema"), "is not a readable definition"),
    "no-config": (_without("config"), "lacks what a definition must have"),
    "no-backend": (_without("backend"), "lacks what a definition must have"),
    "wrong-config": (_with(config="x"), "config"),
    "wrong-generated": (_with(generated=None), "generated"),
    "wrong-labels": (_with(labels=[1]), "labels"),
    "wrong-backend": (_with(backend="bochs"), "bochs"),
    "wrong-schema": (_with(schema="1"), "schema"),
    "other-name": (_with(name="good"), "good"),
    "link": (_link, "link"),
    "directory": (_directory, "is not a regular file"),
    "pipe": (_pipe, "is not a regular file"),
    "foreign": (lambda path, body: os.chown(path, 12345, 12345), "uid 12345"),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives files to others")
def test_definitions_that_cannot_be_read(ground: Playground, module: BuiltModule, firecracker: Vmm, guest: t.Callable[..., str]) -> None:
    given = {"backend": "firecracker", "memory": "128M", "kernel": guest("halt"), **firecracker.options}
    good = module.run(path=ground.path, name="good", state="running", **given).ok()["vm"]
    before = trace(ground)
    for name, (damage, _words) in DAMAGES.items():
        module.run(path=ground.path, name=name, **given).ok()
        damage(ground.vm_file(name, "vm.json"), json.loads(ground.vm_file(name, "vm.json").read_text()))
    damaged = trace(ground)
    info = ground.ad_hoc("vmcp_vm_info")
    assert not info.failed, info
    listed = {vm["name"]: vm for vm in info["vms"]}
    assert sorted(listed) == sorted([*DAMAGES, "good"])
    assert (listed["good"]["state"], listed["good"]["pid"]) == ("running", good["pid"])
    problems = []
    for name, (_damage, words) in DAMAGES.items():
        if words not in str(listed[name]):
            problems.append(f"info says of {name}: {listed[name]}")
        for state in ("running", "shutdown"):
            refused = module.run(path=ground.path, name=name, state=state, **given).result
            if not (refused.failed and refused.get("code") == "failed_precondition" and words in refused["msg"]):
                problems.append(f"{state} of {name}: {refused!r}"[:700])
    assert not problems, "\n".join(problems)
    assert trace(ground) == damaged, "what is refused changes nothing"
    for name in DAMAGES:
        assert module.run(path=ground.path, name=name, state="absent").ok()["changed"], name
    assert trace(ground) == before
    again = module.run(path=ground.path, name="good", state="running", **given).ok()
    assert not again["changed"] and again["vm"]["pid"] == good["pid"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives files to others")
@pytest.mark.parametrize("damage", ["torn", "newer", "directory", "foreign", "other-name"])
def test_what_a_vm_was_started_with_cannot_be_read(ground: Playground, module: BuiltModule, firecracker: Vmm, guest: t.Callable[..., str], damage: str) -> None:
    given = {"backend": "firecracker", "memory": "128M", "kernel": guest("halt"), "shutdown_timeout": 3, **firecracker.options}
    module.run(path=ground.path, name="first", **given).ok()
    module.run(path=ground.path, name="first", state="absent").ok()
    before = at_rest(ground)
    pid = module.run(path=ground.path, name="web", state="running", **given).ok()["vm"]["pid"]
    file = ground.vm_file("web", "booted.json")

    def spoil() -> None:
        text = ground.vm_file("web", "vm.json").read_text()
        file.write_text(text)
        DAMAGES[damage][0](file, json.loads(text))

    spoil()
    (listed,) = ground.ad_hoc("vmcp_vm_info")["vms"]
    assert (listed["state"], listed["pid"]) == ("running", pid) and "With what VM web was started cannot be read" in listed["error"]
    same = module.run(path=ground.path, name="web", state="running", **given).ok()
    assert not same["changed"] and "restarted" in str(same["warnings"]), same
    assert module.run(path=ground.path, name="web", state="paused").ok()["actions"] == ["pause"]
    restarted = module.run(path=ground.path, name="web", state="restarted", **given).ok()
    assert restarted["vm"]["state"] == "running" and restarted["vm"]["pid"] != pid
    assert "error" not in restarted["vm"] and "cannot be read" not in str(restarted["warnings"]), "a start makes it known again"
    spoil()
    assert module.run(path=ground.path, name="web", state="shutdown", shutdown_timeout=3).ok()["vm"]["state"] == "shutdown"
    module.run(path=ground.path, name="web", state="running").ok()
    spoil()
    assert module.run(path=ground.path, name="web", state="absent").ok()["actions"] == ["kill", "remove"]
    module.run(path=ground.path, name="web", state="running", **given).ok()
    spoil()
    ground.vm_file("web", "vm.json").write_text("torn")
    gone = module.run(path=ground.path, name="web", state="absent", shutdown_timeout=3).ok()
    assert gone["actions"] == ["kill", "remove"], "what cannot be asked is ended by force"
    assert at_rest(ground) == before
