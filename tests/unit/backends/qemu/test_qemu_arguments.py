# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's command line, case by case (C(cases/arguments.yml)). That the real one takes it is for the contract tests."""

from __future__ import annotations

import dataclasses
import pathlib
import typing as t

import pytest
import yaml

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import Isolation, LaunchSpec, Paths
from ansible_collections.unkey.vmcp.plugins.module_utils.backends.qemu.driver import Driver
from ansible_collections.unkey.vmcp.plugins.module_utils.errors import InvalidArgument
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.model.config import VmConfig
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition

CASES = yaml.safe_load((pathlib.Path(__file__).parent / "cases" / "arguments.yml").read_text(encoding="utf-8"))
LAYOUT = Layout(state_dir="/state", run_dir="/run/vmcp").vm("web-1")


def launch(case: dict[str, t.Any], uid: int | None = None) -> LaunchSpec:
    tree = {**case["config"], "boot": {"kernel_path": "/k", **case["config"].get("boot", {})}}
    config = VmConfig.model_validate(tree)
    definition = Definition(
        name="web-1",
        backend="qemu",
        backend_version="7.2.22",
        binary="/usr/bin/qemu",
        config=tree,
        workload=case.get("workload"),
        restart_policy=case.get("restart_policy", {}),
        generated={"qemu_accel": "tcg", **case.get("generated", {})},
    )
    uses = Driver().uses(definition, config)[0]
    paths = Paths(files={use.alias: use.path if uid is None else f"files/{use.alias}" for use in uses}, sockets="vmm")
    return Driver().launch(definition, config, paths, Isolation(uid=uid, jail=True, seccomp=case.get("seccomp", True)), LAYOUT, None)


@pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in CASES])
def test_arguments(case: dict[str, t.Any]) -> None:
    spec = launch(case)
    pairs = list(zip(spec.argv, spec.argv[1:], strict=False))
    for flag, beginning in case.get("has", ()):
        assert any(word == flag and value.startswith(beginning) for word, value in pairs), [value for word, value in pairs if word == flag]
    for text in case.get("lacks", ()):
        assert not any(text in word for word in spec.argv), text
    if "last" in case:
        assert list(spec.argv[-len(case["last"]) :]) == case["last"]
    if "taps" in case:
        assert [{key: getattr(tap, key) for key in case["taps"][0]} for tap in spec.taps] == case["taps"]
    if "files" in case:
        assert [{"writable": False, "seed": None, **use} for use in case["files"]] == [dataclasses.asdict(use) for use in spec.files]
    assert spec.stdout_is_console is case.get("stdout_is_console", True)
    assert bool(spec.stop) is case.get("stop", True)
    assert [command[-1] for command in spec.after_start] == case.get("after_start", [])
    assert list(spec.devices) == case.get("devices", [])
    assert spec.argv[0] == "/usr/bin/qemu"


def test_names_of_cases_are_their_own() -> None:
    assert len({case["name"] for case in CASES}) == len(CASES)


def test_with_a_uid_files_are_where_the_launch_file_puts_them() -> None:
    spec = launch({"config": {"boot": {"kernel_path": None, "firmware_path": "/fw/OVMF_CODE.fd"}, "storage": [{"path": "/d"}]}}, uid=70001)
    words = " ".join(spec.argv)
    assert "file=files/efivars" in words
    assert "file=files/firmware" in words
    assert "file=files/disk_0" in words
    assert "/fw/" not in words


def test_no_word_can_hold_a_line_break() -> None:
    for case in CASES:
        spec = launch(case)
        assert not any("\n" in word for word in (*spec.argv, *spec.stop, *(word for command in spec.after_start for word in command)))


def test_a_machine_property_cannot_bring_another_one() -> None:
    with pytest.raises(InvalidArgument) as caught:
        launch({"config": {"backend_options": {"qemu": {"machine": {"a=b,c": 1, "ok": 1}}}}})
    assert [violation.field for violation in caught.value.violations] == ["config.backend_options.qemu.machine.a=b,c"]


def test_more_devices_than_there_are_ports() -> None:
    with pytest.raises(InvalidArgument, match="has 251 devices"):
        launch({"config": {"storage": [{"id": f"d{index}", "path": "/d"} for index in range(250)]}})


def test_every_id_and_chassis_is_there_once() -> None:
    import json

    storage = [{"id": f"d{index}", "path": "/d"} for index in range(30)]
    spec = launch({"config": {"storage": storage, "memory": {"balloon": {}}, "vsock": {"cid": 5}, "watchdog": True}})
    fronts = [json.loads(value) for word, value in zip(spec.argv, spec.argv[1:], strict=False) if word == "-device"]
    for key in ("id", "chassis"):
        values = [front[key] for front in fronts if key in front]
        assert len(values) == len(set(values))
    used = [front["bus"] for front in fronts if front["bus"].startswith("port_")]
    assert len(used) == len(set(used)) == 33
    ports = [front for front in fronts if front["driver"] == "pcie-root-port"]
    assert len(ports) == 41
    assert len({port["addr"] for port in ports}) == 41
