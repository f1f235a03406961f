# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What released versions wrote on hosts, as they wrote it (tests/fixtures/host/SCHEMA): read for ever, and what this version does not know is kept.

Files in there are never edited. A new schema gets a directory of its own."""

from __future__ import annotations

import json
import pathlib
import shutil
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.host import allocations
from ansible_collections.unkey.vmcp.plugins.module_utils.host.host_json import read_host_json
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.store import Store
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import SCHEMA, Definition
from ansible_collections.unkey.vmcp.plugins.module_utils.model.task import validate_request
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.desired import desire
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.make import plan_vm
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.plan import Plan
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.situation import Situation
from ansible_collections.unkey.vmcp.tests.able_host import HOST
from ansible_collections.unkey.vmcp.tests.cases import FIXTURES

TOP = FIXTURES / "host"
DEFINITIONS = sorted(TOP.glob("*/vm-*.json"))


@pytest.fixture(params=DEFINITIONS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def path(request: pytest.FixtureRequest) -> pathlib.Path:
    found: pathlib.Path = request.param
    return found


def asked(stored: Definition, **options: t.Any) -> Plan:
    request, violations = validate_request({"name": stored.name, **options}, stored=stored.config)
    assert request is not None, violations
    found = Situation(stored.name, stored)
    return plan_vm(request, found, desire(request, found, HOST, None, "2026-01-01T00:00:00Z"), [])


def test_every_schema_has_its_files() -> None:
    assert sorted(int(path.name) for path in TOP.iterdir()) == list(range(1, SCHEMA + 1))
    assert {path.stem for path in DEFINITIONS} == {"vm-cloudhypervisor", "vm-firecracker", "vm-qemu"}


def test_a_definition_is_read_and_nothing_of_it_drifts(path: pathlib.Path) -> None:
    stored = Definition.from_json(path.read_text(), "vm.json")
    assert (stored.backend, stored.config["memory"]["size_bytes"]) == (path.stem.removeprefix("vm-"), 256 << 20)
    assert not asked(stored).changed, "new defaults do not reach a VM that exists"
    again = asked(stored, config=json.loads(path.read_text())["config"], labels=stored.labels, restart_policy=stored.restart_policy)
    assert not again.changed, again.changes


def test_a_change_changes_that_alone_and_keeps_what_is_not_known(path: pathlib.Path) -> None:
    before = {**json.loads(path.read_text()), "of_tomorrow": {"a": [1]}}
    changed = asked(Definition.from_json(json.dumps(before), "vm.json"), labels={"new": "label"})
    assert [change.field for change in changed.changes] == ["labels"] and changed.definition is not None
    after = json.loads(changed.definition.to_json())
    assert after == {**before, "labels": {"new": "label"}, "schema": SCHEMA, "collection_version": after["collection_version"]}


@pytest.mark.parametrize("directory", sorted(TOP.iterdir()), ids=lambda path: path.name)
def test_allocations_and_defaults_of_a_host_are_read(directory: pathlib.Path, tmp_path: pathlib.Path) -> None:
    layout = Layout(str(tmp_path / "state"), str(tmp_path / "run"))
    for path in directory.glob("vm-*.json"):
        Store(layout).save(Definition.from_json(path.read_text(), "vm.json"))
    shutil.copy(directory / "allocations.json", layout.allocations)
    given = json.loads((directory / "allocations.json").read_text())["vms"]
    for name, values in given.items():
        found = allocations.allocate(layout, name, [], uid_range=(70000, 99999), lock_timeout_s=200)
        assert (found.uid, found.cid) == (values["uid"], values["cid"]), "chosen once"
    fresh = allocations.allocate(layout, "another", [], uid_range=(70000, 99999), lock_timeout_s=200)
    assert fresh.uid not in {values["uid"] for values in given.values()}
    defaults = read_host_json(str(directory / "host.json"))
    assert (defaults.backend, defaults.boot["qemu"]) == ("cloudhypervisor", {"firmware": "/usr/share/OVMF/OVMF_CODE.fd"})
