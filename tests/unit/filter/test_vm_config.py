# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random
import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.unkey.vmcp.plugins.filter.vm_config import FilterModule
from ansible_collections.unkey.vmcp.plugins.module_utils.model.shape import SHAPE
from ansible_collections.unkey.vmcp.plugins.module_utils.model.words import BACKEND_CHOICES
from ansible_collections.unkey.vmcp.tests.cases import FIXTURES
from ansible_collections.unkey.vmcp.tests.trees import random_tree

check = FilterModule().filters()["vmcp_violations"]


def _fields(found: t.Sequence[t.Mapping[str, str]]) -> list[str]:
    return [entry["field"] for entry in found]


def test_the_verdict_of_one_backend() -> None:
    verdict = check({"cpu": {"max_vcpu_count": 4}, "watchdog": True}, "firecracker", "1.16.1")
    assert (verdict["valid"], verdict["backend"], verdict["could"]) == (False, "firecracker", ["cloudhypervisor", "qemu"])
    assert _fields(verdict["violations"]) == ["config.watchdog", "config.boot.kernel_path"]
    assert _fields(verdict["ignored"]) == ["config.cpu.max_vcpu_count"]


def test_the_version_counts() -> None:
    config = {"boot": {"kernel_path": "/k"}, "network": [{"tap_device": "t0", "mtu": 1400}]}
    assert check(config, "firecracker")["valid"] is True
    assert _fields(check(config, "firecracker", "1.15.0")["violations"]) == ["config.network[0].mtu"]
    assert check(config, "firecracker", "1.15.0")["could"] == ["cloudhypervisor", "qemu"]


def test_a_default_kernel_may_be_taken_for_granted() -> None:
    assert check({}, "firecracker")["valid"] is False
    assert check({}, "firecracker", host_kernel=True)["valid"] is True


def test_what_is_wrong_in_itself_does_not_hide_what_the_backend_cannot_do() -> None:
    document = {"cpu": {"threads": 2, "nested": True}, "console": {"output": "tty"}, "boot": {"kernel_path": "k"}, "storage": [{"path": "/a", "format": 3}]}
    verdict = check(document, "firecracker")
    assert _fields(verdict["violations"]) == [
        "config.cpu.threads",
        "config.boot.kernel_path",
        "config.storage[0].format",
        "config.cpu.nested",
        "config.console.output",
    ]
    task = {"config": {"watchdog": True}, "metadata": {"a": 1}, "vcpus": 0, "memory": "1G"}
    assert _fields(check(task, "cloudhypervisor")["violations"]) == ["vcpus", "metadata"]


def test_auto_judges_by_the_backend_that_would_be_chosen() -> None:
    verdict = check({"cpu": {"template": "EPYC"}, "boot": {"kernel_path": "/k"}})
    assert (verdict["valid"], verdict["backend"], verdict["could"]) == (True, "qemu", ["qemu"])
    assert verdict["backend_reason"] == "only QEMU can do what the configuration asks for (config.cpu.template)"


def test_auto_with_a_configuration_that_is_wrong_whatever_the_backend() -> None:
    verdict = check({"cpus": 2})
    assert (verdict["valid"], verdict["backend"], verdict["could"]) == (False, "auto", [])
    assert verdict["violations"] == [{"field": "config.cpus", "message": "is no key of the configuration. Did you mean 'cpu'?"}]


@pytest.mark.parametrize("path", sorted((FIXTURES / "example-configs").glob("*.json")), ids=lambda path: path.stem)
def test_the_text_of_a_file_is_read(path: t.Any) -> None:
    assert check(path.read_text())["valid"] is True


def test_text_that_is_no_document() -> None:
    verdict = check('{"cpu": [}')
    assert _fields(verdict["violations"]) == ["config"]
    assert "cannot be read as JSON or YAML" in verdict["violations"][0]["message"]


def test_a_key_given_twice_is_told() -> None:
    verdict = check('{"cpu": {"vcpu_count": 1},\n "cpu": {"vcpu_count": 2}}')
    assert "the key 'cpu' is given twice in \"<unicode string>\", line 2, column 2" in verdict["violations"][0]["message"]


def test_a_file_that_is_empty_or_holds_a_list() -> None:
    assert check("")["valid"] is True
    assert check("- a")["violations"] == [{"field": "config", "message": "must be a dictionary, not a list."}]


def test_options_of_a_task_beside_the_configuration() -> None:
    document = {"config": {"network": [{"tap_device": "t0"}]}, "metadata": {"a": 1}, "restart_policy": {"on_reboot": "stop"}, "vcpus": 2}
    assert _fields(check(document, "cloudhypervisor")["violations"]) == ["metadata", "restart_policy.on_reboot"]
    assert _fields(check({**document, "labls": {}, "vcpus": 0}, "cloudhypervisor")["violations"]) == [
        "labls",
        "vcpus",
        "metadata",
        "restart_policy.on_reboot",
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(("xen",), "backend must be one of cloudhypervisor, firecracker, qemu, auto"), (("auto", "1.0"), "goes with one backend"), (("qemu", 7.2), "quote it")],
)
def test_wrong_arguments_fail_the_filter(arguments: tuple[t.Any, ...], text: str) -> None:
    with pytest.raises(AnsibleFilterError, match=text):
        check({}, *arguments)


def test_any_document_gets_a_verdict_and_never_a_traceback() -> None:
    chance = random.Random(1)
    outcomes = set()
    for _round in range(500):
        tree = random_tree(chance, SHAPE) if chance.random() < 0.9 else {}
        verdict = check({"config": tree, "metadata": {}} if chance.random() < 0.3 else tree, chance.choice(BACKEND_CHOICES))
        outcomes.add(verdict["valid"])
        for entry in (*verdict["violations"], *verdict["ignored"], *verdict["notices"]):
            assert entry["message"].strip() == entry["message"] and entry["message"].endswith((".", "?")), entry
    assert outcomes == {True, False}
