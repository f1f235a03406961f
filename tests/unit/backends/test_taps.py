# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taps, limits, and what guests are told of their addresses, the same for every backend."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.backends import taps
from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import TapLimit, TapUse
from ansible_collections.unkey.vmcp.plugins.module_utils.model.validate import read_config

LIMIT = {"bandwidth": {"size": 100_000, "refill_ms": 250}, "ops": {"size": 5, "refill_ms": 1000}}


def config(*nics: dict[str, t.Any], **boot: t.Any) -> t.Any:
    return read_config({"boot": {"kernel_path": "/k", **boot}, "network": list(nics)})


def facts(**more: t.Any) -> dict[str, t.Any]:
    return {
        "network": "apps",
        "bridge": "vn-apps",
        "mtu": 1400,
        "addresses": ["10.80.0.7/20", "fd00::7/64"],
        "gateways": ["10.80.0.1", "fd00::1"],
        "nameservers": ["10.80.0.1", "fd00::1"],
        "domain": "apps.internal",
        "hostname": "web",
        "method": "kernel",
        **more,
    }


def test_a_tap_on_a_network_is_on_its_bridge() -> None:
    nic = config({"id": "a", "network": "apps", "rate_limit_rx": LIMIT, "vlan": 7}).network[0]
    generated = {"taps": {"a": "vm1"}, "nics": {"a": facts()}}
    assert taps.tap_use("a", nic, generated) == TapUse("vm1", ours=True, bridge="vn-apps", mtu=1400, vlan=7)
    limit = TapLimit(bytes_s=400_000.0, burst_bytes=100_000, ops_s=5.0, burst_ops=5)
    assert taps.tap_use("a", nic, generated, queue_pairs=2, limited=True).limit_rx == limit
    own = config({"id": "a", "tap_device": "tap7", "rate_limit_tx": LIMIT}).network[0]
    assert taps.tap_use("a", own, {}, limited=True) == TapUse("tap7", ours=False, limit_tx=limit)


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (None, "default ip=10.80.0.7::10.80.0.1:255.255.240.0:web::off:10.80.0.1"),
        ("quiet -- init words", "quiet ip=10.80.0.7::10.80.0.1:255.255.240.0:web::off:10.80.0.1 -- init words"),
    ],
)
def test_the_kernel_is_told_behind_what_the_user_says(args: str | None, line: str) -> None:
    given = config({"id": "a", "network": "apps"}, kernel_args=args)
    told = taps.told_by_kernel(given, {"nics": {"a": facts()}}, "default")
    assert told.boot.kernel_args == line and told.boot.kernel_path == "/k"
    assert given.boot.kernel_args == args, "nobody changes a configuration"


def test_the_kernel_is_told_nothing_by_other_methods_and_without_ipv4() -> None:
    given = config({"id": "a", "network": "apps"})
    for other in (facts(method="dhcp"), facts(addresses=["fd00::7/64"]), facts(addresses=[])):
        assert taps.told_by_kernel(given, {"nics": {"a": other}}, "default") is given
    assert taps.told_by_kernel(given, {}, "default") is given


def test_of_several_interfaces_the_device_is_named() -> None:
    given = config({"id": "a", "tap_device": "t0"}, {"id": "b", "network": "apps"})
    assert "web:eth1:off:" in taps.told_by_kernel(given, {"nics": {"b": facts()}}, "default").boot.kernel_args


def test_metadata_says_what_the_guest_needs() -> None:
    given = config({"id": "a", "network": "apps"}, {"id": "b", "network": "apps", "mac_address": "02:00:00:00:00:02"})
    generated = {"macs": {"a": "02:00:00:00:00:01", "b": "02:00:00:00:00:09"}, "nics": {"a": facts(method="mmds"), "b": facts()}}
    macs = taps.macs_of(given, generated)
    assert macs == {"a": "02:00:00:00:00:01", "b": "02:00:00:00:00:02"}
    told = taps.told_by_metadata(generated, macs)
    assert list(told) == ["a"] and told["a"]["mac_address"] == macs["a"] and told["a"]["addresses"] == ["10.80.0.7/20", "fd00::7/64"]
