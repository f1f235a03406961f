# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of VMs: stable, never given twice, or as asked for."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition
from ansible_collections.unkey.vmcp.plugins.module_utils.model.addresses import allocate
from ansible_collections.unkey.vmcp.plugins.module_utils.model.network_definition import NetworkDefinition

RANGES = {"ipv4": ["10.80.0.2", "10.80.0.254"], "ipv6": ["fd00:80::2", "fd00:80::ffff:ffff:ffff:ffff"]}
APPS = NetworkDefinition("apps", "bridge", {"ipv4": "10.80.0.1/24", "ipv6": "fd00:80::1/64"}, {"bridge": "vn-apps", "ranges": RANGES})


def only_v4(first: str, last: str, kind: str = "bridge") -> NetworkDefinition:
    return NetworkDefinition("apps", kind, {"ipv4": "10.80.0.1/24"}, {"ranges": {"ipv4": [first, last]}})


def given(network: NetworkDefinition, taken: t.Mapping[str, tuple[str, str]], vm: str, *wanted: str) -> tuple[str, ...]:
    addresses, violations = allocate(network, taken, vm, "eth0", wanted)
    assert not violations
    return addresses


def test_the_same_again_after_a_removal_and_one_of_each_family() -> None:
    first = given(APPS, {}, "web")
    assert first == given(APPS, {}, "web")
    assert first[0].startswith("10.80.0.") and first[1].startswith("fd00:80::")
    assert first != given(APPS, {}, "db")


def test_what_it_has_it_keeps_whatever_else_is_taken() -> None:
    taken = {"10.80.0.77": ("web", "eth0"), "fd00:80::5": ("web", "eth0")}
    assert given(APPS, taken, "web") == ("10.80.0.77", "fd00:80::5")


def test_a_full_range_gives_every_address_once_and_then_none() -> None:
    network = only_v4("10.80.0.1", "10.80.0.20")
    taken: dict[str, tuple[str, str]] = {}
    for number in range(19):
        (address,) = given(network, taken, f"vm-{number}")
        assert address not in taken and address != "10.80.0.1", "the host's own"
        taken[address] = (f"vm-{number}", "eth0")
    with pytest.raises(FailedPrecondition, match=r"All 20 addresses from 10\.80\.0\.1 to 10\.80\.0\.20 on network apps"):
        allocate(network, taken, "one-more", "eth0")


def test_the_one_asked_for() -> None:
    assert given(APPS, {}, "web", "10.80.0.9")[0] == "10.80.0.9"
    assert given(APPS, {"10.80.0.9": ("web", "eth0")}, "web", "10.80.0.9")[0] == "10.80.0.9", "its own already"
    assert given(APPS, {}, "web", "FD00:80:0::9")[1] == "fd00:80::9", "in its usual form"


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        (["10.81.0.9"], "10.81.0.9 is not in 10.80.0.0/24, the range of network apps."),
        (["10.80.0.1"], "10.80.0.1 is the host's own address on network apps."),
        (["10.80.0.8"], "10.80.0.8 belongs to interface eth1 of VM db on network apps."),
        (["10.80.0.255"], "is the first or last address"),
        (["10.80.0.300"], "is no IPv4 or IPv6 address."),
        (["10.80.0.5", "10.80.0.6"], "has two addresses of one family"),
        (["fd01::1"], "fd01::1 is not in fd00:80::/64"),
    ],
)
def test_what_cannot_be_given_is_a_violation(wanted: list[str], part: str) -> None:
    _addresses, violations = allocate(APPS, {"10.80.0.8": ("db", "eth1")}, "web", "eth0", wanted, field="config.network[eth0].address")
    assert [v.field for v in violations] == ["config.network[eth0].address"]
    assert part in violations[0].message


def test_between_hosts_each_gives_from_its_own_part_alone() -> None:
    network = only_v4("10.80.0.10", "10.80.0.19", "vxlan")
    _addresses, violations = allocate(network, {}, "web", "eth0", ["10.80.0.20"])
    assert "another host may give it" in violations[0].message


def test_on_a_lan_addresses_are_taken_as_they_are_told() -> None:
    lan = NetworkDefinition("lan", "uplink", {"interface": "eth1"}, {"bridge": "vn-lan"})
    assert given(lan, {}, "web") == ()
    assert given(lan, {}, "web", "192.0.2.7") == ("192.0.2.7",)
