# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.model.options import OPTIONS
from ansible_collections.unkey.vmcp.plugins.module_utils.model.short_options import fold_short_options
from ansible_collections.unkey.vmcp.plugins.module_utils.model.task import OTHER_KEYS, VmRequest, validate_request
from ansible_collections.unkey.vmcp.plugins.module_utils.model.words import SHORT_OPTIONS
from ansible_collections.unkey.vmcp.tests.cases import assert_violations, load_cases


def _request(**params: t.Any) -> VmRequest:
    request, violations = validate_request({"name": "web", **params})
    assert request is not None, violations
    return request


@pytest.mark.parametrize("case", load_cases(__file__, "tasks"))
def test_all_violations_of_a_task_at_once(case: dict[str, t.Any]) -> None:
    request, violations = validate_request(case["task"], stored=case.get("stored"))
    assert_violations(violations, case["violations"])
    assert (request is None) == bool(case["violations"])


def test_only_what_was_given_is_in_the_request() -> None:
    request = _request(state="running", restart_policy={"on_crash": False, "on_reboot": None}, labels={"tier": 1, "gold": True}, keep="disks", workload=None)
    assert request.settings == {"restart_policy": {"on_crash": "no", "on_reboot": None}, "labels": {"tier": "1", "gold": "true"}}
    assert request.options == {"state": "running", "keep": ["disks"]}
    assert request.config is None and request.metadata is None
    assert (request.option("allow_disruption"), request.option("wait_timeout"), request.option("backend")) == ("none", 120, None)


def test_an_empty_configuration_is_not_none() -> None:
    assert _request(config={}).config == {}


def test_values_are_normalised() -> None:
    request = _request(
        backend_version="v1.16.1", endpoint="unix:///run/x.sock", shutdown_timeout="5", wait_for="running", metadata={"a": [1, None, {"b": 1.5}]}
    )
    assert request.options["backend_version"] == "1.16.1"
    assert request.endpoint_path == "/run/x.sock"
    assert (request.option("shutdown_timeout"), request.settings) == (5, {})
    assert request.wait_for == ({"running": True},)
    assert request.metadata == {"a": [1, None, {"b": 1.5}]}


def test_conditions() -> None:
    given = [{"console": "login:"}, {"tcp": "22", "host": "fe80::1%vm0"}, {"file": "/run/x"}, {"vsock": 1024}, "running"]
    assert _request(wait_for=given).wait_for == (
        {"console": "login:"},
        {"tcp": 22, "host": "fe80::1%vm0"},
        {"file": "/run/x"},
        {"vsock": 1024},
        {"running": True},
    )


def test_short_options_are_folded_in() -> None:
    request = _request(
        vcpus="2",
        max_vcpus=4,
        memory="1G",
        kernel="/k",
        initrd="/i",
        kernel_args="quiet",
        disks=["/a.img", {"path": "/b", "read_only": True}],
        networks=["br0", {"tap_device": "t1", "mtu": 1400}],
    )
    assert request.config == {
        "cpu": {"vcpu_count": 2, "max_vcpu_count": 4},
        "memory": {"size_bytes": 1 << 30},
        "boot": {"kernel_path": "/k", "initrd_path": "/i", "kernel_args": "quiet"},
        "storage": [{"path": "/a.img", "is_root_device": True}, {"path": "/b", "read_only": True}],
        "network": [{"tap_device": "br0"}, {"tap_device": "t1", "mtu": 1400}],
    }
    assert set(request.short_options) == set(SHORT_OPTIONS) - {"firmware"}


def test_the_first_disk_is_the_root_unless_one_says_so() -> None:
    assert [d.get("is_root_device") for d in (_request(disks=["/a", {"path": "/b", "is_root_device": "yes"}]).config or {})["storage"]] == [None, True]
    assert [d.get("is_root_device") for d in (_request(disks=[{"path": "/a", "is_root_device": False}]).config or {})["storage"]] == [False]


def test_equal_values_do_not_contradict() -> None:
    config = {"memory": {"size_bytes": 1 << 30}, "storage": [{"path": "/a", "is_root_device": True, "read_only": False}], "cpu": {"vcpu_count": "2"}}
    request = _request(memory="1GiB", disks="/a", vcpus=2, config={"config": config})
    assert request.config is not None and request.config["storage"] == [{"path": "/a", "is_root_device": True, "read_only": False}]
    assert request.short_options == ()


def test_folding_leaves_what_was_given_alone() -> None:
    config = {"cpu": {"vcpu_count": 2}}
    tree, violations = fold_short_options({"max_vcpus": 4, "disks": [{"path": "/a"}]}, config)
    assert violations == [] and config == {"cpu": {"vcpu_count": 2}}
    assert tree == {"cpu": {"vcpu_count": 2, "max_vcpu_count": 4}, "storage": [{"path": "/a", "is_root_device": True}]}


def test_violations_after_merging_are_told_in_the_words_of_the_task() -> None:
    from ansible_collections.unkey.vmcp.plugins.module_utils.errors import Violation

    request = _request(memory="1G", disks=["/a"], config={"cpu": {"vcpu_count": 2}})
    found = [
        Violation(field, "x") for field in ("config.memory.size_bytes", "config.storage[0].path", "config.cpu.vcpu_count", "config.memory.size_bytes_else")
    ]
    assert [v.field for v in request.as_given(found)] == ["memory", "disks[0].path", "config.cpu.vcpu_count", "config.memory.size_bytes_else"]


def test_a_secret_in_metadata_is_never_in_a_message() -> None:
    _none, violations = validate_request({"name": "web", "metadata": {"password": {"hunter2": float("nan")}}})
    assert_violations(violations, {"metadata": "must be a dictionary of JSON values"})
    assert not any("hunter2" in v.message or "password" in v.message for v in violations)


VALUES: tuple[t.Any, ...] = (
    True, False, 0, -1, 5, 1.10, "", "x", "5", "no", "/a", "unix:///x", "a\nb", "\udcff", 10**400, [], [None], [{}], ["running"], {}, {"a": 1}, {1: {}},
    {"console": "("}, [{"tcp": [], "host": {}}], {"uid": "x", "jail": None}, {"config": {"config": 1}}, object(), b"x", {"on_crash": []},
)  # fmt: skip


def test_any_task_gives_a_request_or_violations_and_never_a_traceback() -> None:
    chance = random.Random(3)
    keys = [*OPTIONS, *SHORT_OPTIONS, *OTHER_KEYS, "unknown", "cloud_init"]
    outcomes = set()
    for _round in range(3000):
        params = {key: chance.choice(VALUES) for key in chance.sample(keys, chance.randrange(4))}
        request, violations = validate_request({"name": "x", **params}, stored=chance.choice([None, {}, {"cpu": {"vcpu_count": 2}}]))
        outcomes.add(request is None)
        assert (request is None) == bool(violations), params
        for violation in violations:
            assert violation.field.isprintable() and violation.message.isprintable(), violation
    assert outcomes == {True, False}


@pytest.mark.parametrize("half", ["\ud800", "a\udfffb"])
def test_halves_of_characters_go_nowhere(half: str) -> None:
    """YAML knows them ("\\ud800"), UTF-8 does not: written to a file they would end the task in a traceback."""
    for metadata in ({"a": half}, {half: "a"}, {"a": [{"b": half}]}):
        assert [v.field for v in validate_request({"name": "web", "metadata": metadata})[1]] == ["metadata"]
    options = {"qemu": {"machine": {"x": half}}}
    assert [v.field for v in validate_request({"name": "web", "config": {"backend_options": options}})[1]] == ["config.backend_options.qemu.machine"]
    options = {"firecracker": {"machine-config": {"x": float("nan")}}}
    assert [v.field for v in validate_request({"name": "web", "config": {"backend_options": options}})[1]] == ["config.backend_options.firecracker"]
