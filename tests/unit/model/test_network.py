# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of vmcp_network: what is right, and every wrong thing at once with its path."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition, Internal
from ansible_collections.unkey.vmcp.plugins.module_utils.model.network import validate_network
from ansible_collections.unkey.vmcp.plugins.module_utils.model.network_definition import (
    Member,
    NetworkDefinition,
    members_from_json,
    members_to_json,
)
from ansible_collections.unkey.vmcp.tests.cases import FIXTURES

APPS: dict[str, t.Any] = {"name": "apps", "ipv4": "10.80.0.1/24"}


def settings(**options: t.Any) -> dict[str, t.Any]:
    request, violations = validate_network(options)
    assert request is not None, violations
    return request.settings


def wrong(stored: dict[str, t.Any] | None = None, **options: t.Any) -> dict[str, str]:
    request, violations = validate_network(options, stored)
    assert request is None
    assert all(v.message.endswith((".", "?")) for v in violations), violations
    return {v.field: v.message for v in violations}


def test_what_users_write_is_taken() -> None:
    read = settings(
        **APPS,
        nat="true",
        dhcp=True,
        egress={"default": "deny", "allow": [{"cidr": "10.0.0.0/8", "ports": ["443", "8000-8100"], "protocol": "tcp"}]},
        forward=[{"host_port": "8080", "vm": "web", "vm_port": 80}, {"host_port": 53, "vm": "db", "protocol": "udp"}],
        range="10.80.0.10 - 10.80.0.99",
        domain="Apps.Example.",
    )
    assert (read["kind"], read["nat"], read["range"], read["domain"]) == ("bridge", True, ["10.80.0.10-10.80.0.99"], "apps.example")
    assert read["egress"]["allow"][0]["ports"] == [443, "8000-8100"]
    assert [forward["vm_port"] for forward in read["forward"]] == [80, 53]
    assert settings(**APPS, nat="eth0")["nat"] == "eth0"


def test_what_is_left_out_stays_and_what_is_given_replaces() -> None:
    stored = settings(**APPS, nat=True, forward=[{"host_port": 80, "vm": "web"}])
    request, _violations = validate_network({"name": "apps", "forward": [], "mtu": 1400}, stored)
    assert request is not None
    assert request.settings == {**stored, "forward": [], "mtu": 1400}
    assert request.given == {"forward", "mtu"}


@pytest.mark.parametrize(
    ("options", "field", "part"),
    [
        ({"ipv4": "10.80.0.1"}, "ipv4", "with the length of its prefix, as in 10.80.0.1/24"),
        ({"ipv4": "fd00::1/64"}, "ipv4", "must be the host's IPv4 address"),
        ({"ipv4": "10.80.0.1/31"}, "ipv4", "leaves no address for VMs"),
        ({"ipv4": "10.80.0.0/24"}, "ipv4", "is the address of the network itself. Use 10.80.0.1/24"),
        ({"ipv4": "10.80.0.255/24"}, "ipv4", "is the broadcast address"),
        ({"ipv4": "10.80.0.1/24", "range": ["10.81.0.1-10.81.0.9"]}, "range[0]", "is not in 10.80.0.0/24"),
        ({"ipv4": "10.80.0.1/24", "range": ["10.80.0.9-10.80.0.1"]}, "range[0]", "must be the first and the last address"),
        ({"ipv4": "10.80.0.1/24", "range": ["10.80.0.3-10.80.0.4", "10.80.0.5-10.80.0.6"]}, "range[1]", "second range of one family"),
        ({"nat": True}, "nat", "needs the host's address"),
        ({"dhcp": True}, "dhcp", "needs the host's address"),
        ({"nat": "an interface"}, "nat", "must be true, false, or the name of the interface"),
        ({"interface": "eth1"}, "interface", "say kind: uplink"),
        ({"interface": "an-interface-name"}, "interface", "1 to 15"),
        ({"kind": "uplink"}, "interface", "is required for kind: uplink. Name the physical interface."),
        ({"kind": "adopted", "interface": "br0", "vlan": 4}, "vlan", "belongs to kind: uplink"),
        ({"kind": "uplink", "interface": "eth1", "vlan": 4095}, "vlan", "less than or equal to 4094"),
        ({"kind": "adopted", "interface": "br0", "ipv4": "10.80.0.1/24"}, "ipv4", "has no meaning for kind: adopted"),
        ({"kind": "macvtap", "interface": "eth1", "mtu": 1400}, "mtu", "cannot be set for kind: macvtap"),
        ({"kind": "uplink", "interface": "eth1", "egress": {"default": "deny"}}, "egress", "does not pass through the host's routing"),
        ({"kind": "vxlan"}, "vxlan", "is required for kind: vxlan."),
        ({"kind": "vxlan", "vxlan": {"id": 1 << 24, "peers": ["10.0.0.1"]}}, "vxlan.id", "less than or equal to"),
        ({"kind": "vxlan", "vxlan": {"id": 1, "peers": ["here"]}}, "vxlan.peers[0]", "must be an IPv4 or IPv6 address"),
        ({"vxlan": {"id": 1, "peers": ["10.0.0.1"]}}, "vxlan", "belongs to kind: vxlan"),
        ({"kind": "bond"}, "kind", "'bridge'"),
        ({"egress": {"allow": [{"cidr": "10.0.0.1/8"}]}}, "egress.allow[0].cidr", "bits behind the prefix are 0"),
        ({"egress": {"allow": [{"ports": [443]}]}}, "egress.allow[0].protocol", "is required where ports are given"),
        ({"egress": {"allow": [{}]}}, "egress.allow[0]", "says nothing"),
        ({"egress": {"deny": [{"protocol": "icmp", "ports": [1]}]}}, "egress.deny[0].ports", "icmp has no ports"),
        ({"egress": {"allow": [{"port": 1}]}}, "egress.allow[0].port", "is no key here"),
        ({"forward": [{"host_port": 0, "vm": "web"}]}, "forward[0].host_port", "must be a port"),
        ({"forward": [{"host_port": 80, "vm": "a b"}]}, "forward[0].vm", "must be the name of a VM"),
        ({"forward": [{"host_port": 80, "vm": "a"}, {"host_port": 80, "vm": "b"}]}, "forward[1].host_port", "is forwarded by forward[0] already"),
        ({"mtu": 1200, "ipv6": "fd00::1/64"}, "mtu", "at least 1280"),
        ({"isolated": True}, "isolated", "is no option. Did you mean 'isolate'?"),
        ({"domain": "a b"}, "domain", "must be a domain name"),
        ({"dns_names": {"db": "10.90.0.9"}}, "dns_names", "needs dhcp: true"),
        ({"dns_names": ["db"]}, "dns_names", "must be a dictionary of names and their addresses, as in {db.fabric.internal: [10.90.128.5]}"),
        ({"dns_names": {"a b": "10.90.0.9"}}, "dns_names", "must be a domain name"),
        ({"ipv4": "10.90.0.1/24", "dhcp": True, "dns_names": {"db": ["here"]}}, "dns_names.db[0]", "must be an IPv4 or IPv6 address"),
        ({"state": "up"}, "state", "must be one of present, absent."),
    ],
)
def test_what_is_wrong_says_where_and_what_to_do(options: dict[str, t.Any], field: str, part: str) -> None:
    found = wrong(**{"name": "apps", **options})
    assert part in found.get(field, ""), found


def test_rules_between_options_are_told_with_what_is_wrong_in_one_and_not_as_its_echo() -> None:
    rules = {"vlan": 7, "egress": {"allow": [{"ports": [443]}]}}
    assert list(wrong(name="apps", domain="a b", **rules)) == ["domain", "vlan", "egress.allow[0].protocol"]
    assert list(wrong(name="apps", ipv4="10.80.0.1", nat=True, range=["10.80.0.3-10.80.0.4"], **rules)) == ["ipv4", "vlan", "egress.allow[0].protocol"]
    assert list(wrong(name="apps", kind="bond", nat=True, **rules)) == ["kind", "egress.allow[0].protocol"]


def test_the_kind_cannot_change() -> None:
    stored = settings(**APPS)
    assert list(wrong(stored, name="apps", kind="uplink", interface="eth1")) == ["kind"]


def test_definitions_are_read_as_they_were_written_with_keys_of_later_versions() -> None:
    made = NetworkDefinition("apps", "bridge", settings(**APPS), {"bridge": "vn-apps"}, extra={"later": 1})
    assert NetworkDefinition.from_json(made.to_json(), "here") == made
    member = Member("web", "eth0", "vm1", "02:00:00:00:00:01", ("10.80.0.2",), extra={"later": [1]})
    assert members_from_json(members_to_json([member]), "here") == (member,)


@pytest.mark.parametrize(
    ("text", "error", "part"),
    [
        ("{", Internal, "is not readable"),
        ("[]", Internal, "is not readable"),
        ('{"schema_version": "1"}', Internal, "is none of ours"),
        ('{"schema_version": 9, "collection_version": "7.0"}', FailedPrecondition, "written by unkey.vmcp 7.0"),
        ('{"schema_version": 1}', Internal, "lacks what a network must have"),
        ('{"schema_version": 1, "name": "a", "kind": "b", "settings": {}}', Internal, "is not a network of ours"),
    ],
)
def test_what_is_no_definition_says_so(text: str, error: type[Exception], part: str) -> None:
    with pytest.raises(error, match=part):
        NetworkDefinition.from_json(text, "here")


@pytest.mark.parametrize("version", sorted(path.name for path in (FIXTURES / "networks").iterdir()))
def test_what_every_version_wrote_is_read(version: str) -> None:
    """Files of every released schema stay here as they were written."""
    directory = FIXTURES / "networks" / version
    network = NetworkDefinition.from_json((directory / "network.json").read_text(), "network.json")
    assert (network.name, network.bridge, network.gateways, network.dhcp) == ("apps", "vn-apps", ("10.80.0.1",), True)
    (member,) = members_from_json((directory / "members.json").read_text(), "members.json")
    assert (member.key, member.addresses, member.host) == (("web", "eth0"), ("10.80.0.232",), "web")
    request, violations = validate_network({"name": "apps"}, {**network.settings, "kind": network.kind})
    assert request is not None, violations
