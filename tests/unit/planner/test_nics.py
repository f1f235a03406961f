# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Interfaces on networks: addresses, how guests learn them, and what cannot be had. Pure."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.plugins.module_utils.model.network_definition import NetworkDefinition
from ansible_collections.unkey.vmcp.plugins.module_utils.model.seed_network import network_config
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.nics import cannot_wait, foresee, members_of

RANGES = {"ipv4": ["10.80.0.2", "10.80.0.254"]}
BARE = NetworkDefinition("bare", "bridge", {"ipv4": "10.80.0.1/24"}, {"bridge": "vn-bare", "ranges": RANGES})
SERVED = NetworkDefinition("served", "bridge", {"ipv4": "10.80.0.1/24", "dhcp": True}, {"bridge": "vn-served", "ranges": RANGES})
LAN = NetworkDefinition("lan", "uplink", {"interface": "eth1"}, {"bridge": "vn-lan"})
MACVTAP = NetworkDefinition("direct", "macvtap", {"interface": "eth1"}, {})
NETWORKS = {network.name: network for network in (BARE, SERVED, LAN, MACVTAP)}


def definition(*nics: dict[str, t.Any], name: str = "web", backend: str = "firecracker", metadata: bool = False, **boot: t.Any) -> Definition:
    network = [{"id": f"net{index}", "address": None, "address_method": "auto", "tap_device": None, **nic} for index, nic in enumerate(nics)]
    config = {"boot": {"kernel_path": "/k", "kernel_args": None, **boot}, "network": network}
    return Definition(name=name, backend=backend, backend_version="1", binary="/b", config=config, metadata_digest="d" if metadata else None)


def seen(one: Definition) -> t.Any:
    return foresee(one, NETWORKS, {name: {} for name in NETWORKS})


@pytest.mark.parametrize(
    ("network", "options", "method"),
    [
        ("served", {}, "dhcp"),
        ("lan", {}, "dhcp"),
        ("bare", {}, "kernel"),
        ("bare", {"kernel_args": "quiet"}, "none"),
        ("bare", {"kernel_args": "quiet", "metadata": True}, "mmds"),
        ("bare", {"kernel_args": "quiet", "metadata": True, "backend": "qemu"}, "none"),
        ("bare", {"kernel_path": None}, "none"),
    ],
)
def test_how_a_guest_learns_its_address(network: str, options: dict[str, t.Any], method: str) -> None:
    assert seen(definition({"network": network}, **options)).facts["net0"]["method"] == method


def test_a_kernel_tells_of_one_interface_only() -> None:
    facts = seen(definition({"network": "bare"}, {"network": "bare"})).facts
    assert [facts[nic]["method"] for nic in ("net0", "net1")] == ["kernel", "none"]
    assert facts["net0"]["addresses"] != facts["net1"]["addresses"]


def test_vms_that_are_foreseen_together_get_different_addresses() -> None:
    taken: dict[str, dict[str, tuple[str, str]]] = {name: {} for name in NETWORKS}
    given = [foresee(definition({"network": "bare"}, name=f"vm-{number}"), NETWORKS, taken).facts["net0"]["addresses"][0] for number in range(200)]
    assert len(set(given)) == 200 and all(address.endswith("/24") for address in given)
    wants = definition({"network": "bare", "address": [given[3].partition("/")[0]]}, name="late")
    (violation,) = foresee(wants, NETWORKS, taken).violations
    assert violation.field == "config.network[0].address" and "belongs to interface net0 of VM vm-3" in violation.message


def test_what_cannot_be_had() -> None:
    violations = seen(definition({"network": "direct"}, {"network": "bare", "address_method": "dhcp"}, {"network": "nowhere"})).violations
    assert [violation.field for violation in violations] == ["config.network[0].network", "config.network[1].address_method"]
    assert "macvtap" in violations[0].message and "no DHCP server" in violations[1].message


def test_a_vmm_that_opens_its_devices_itself_has_none_on_macvtap() -> None:
    for backend, versions in (("qemu", ("7.2",)), ("cloudhypervisor", ("17", "53"))):
        for version in versions:
            one = dataclasses.replace(definition({"network": "direct"}, backend=backend), backend_version=version)
            assert seen(one).violations == []
            assert {"bridge": None, "parent": "eth1", "mode": "bridge"}.items() <= seen(one).facts["net0"].items()
    old = dataclasses.replace(definition({"network": "direct"}, backend="cloudhypervisor"), backend_version="16")
    assert "Use Cloud Hypervisor or QEMU" in seen(old).violations[0].message
    wrong = definition({"network": "direct", "vlan": 3, "num_queues": 2}, *({"network": "direct"} for dummy in range(6)), backend="qemu")
    assert [violation.field for violation in seen(wrong).violations] == [
        "config.network[0].vlan",
        "config.network[0].num_queues",
        "config.network[6].network",
    ]


def test_first_boot_data_tell_of_addresses() -> None:
    one = definition({"network": "bare", "address": ["10.80.0.7"], "address_method": "cloud_init"}, {"tap_device": "t0"}, kernel_args="quiet")
    (violation,) = seen(one).violations
    assert violation.field == "config.network[0].address_method" and "needs first-boot data" in violation.message
    one.generated["cloud_init"] = "nocloud"
    assert seen(definition({"network": "bare"})).facts["net0"]["method"] == "kernel"
    one.generated.update(macs={"net0": "02:00:00:00:00:01", "net1": "02:00:00:00:00:02"}, nics=seen(one).facts)
    assert seen(one).violations == [] and one.generated["nics"]["net0"]["method"] == "cloud_init"
    assert network_config(one) == {
        "version": 2,
        "ethernets": {
            "net0": {"match": {"macaddress": "02:00:00:00:00:01"}, "addresses": ["10.80.0.7/24"], "routes": [{"to": "0.0.0.0/0", "via": "10.80.0.1"}]},
            "net1": {"match": {"macaddress": "02:00:00:00:00:02"}, "dhcp4": True, "optional": True},
        },
    }
    assert network_config(definition({"network": "bare"})) == {}
    for nic in ("net0", "net1"):
        both = {"method": "cloud_init", "addresses": ["10.80.0.7/24", "fd00::7/64"], "gateways": ["10.80.0.1", "fd00::1"], "nameservers": []}
        one.generated["nics"][nic] = both
    first, second = network_config(one)["ethernets"].values()
    assert (first["routes"], first["gateway6"]) == ([{"to": "0.0.0.0/0", "via": "10.80.0.1"}], "fd00::1"), "cloud-init takes a route to ::/0 for ::/64"
    assert not {"routes", "gateway6"} & set(second), "one way out is enough"


def wired(one: Definition) -> Definition:
    one.generated.update(macs={"net0": "02:00:00:00:00:01"}, taps={"net0": "vm1"}, nics=seen(one).facts)
    return one


def test_members_are_what_was_chosen() -> None:
    (member,) = members_of(wired(definition({"network": "bare", "address": ["10.80.0.7"], "vlan": 3})))["bare"]
    assert (member.vm, member.nic_id, member.tap, member.mac, member.addresses, member.vlan) == ("web", "net0", "vm1", "02:00:00:00:00:01", ("10.80.0.7",), 3)


def test_what_cannot_wait_for_the_next_boot() -> None:
    before = wired(definition({"network": "bare", "address": ["10.80.0.7"]}))
    for nic, fields in (
        ({"network": "bare", "address": ["10.80.0.7"]}, []),
        ({"network": "bare"}, []),
        ({"network": "served", "address": ["10.80.0.9"]}, []),
        ({"network": "bare", "address": ["10.80.0.9"]}, ["config.network[net0].address"]),
        ({"network": "bare", "mac_address": "02:00:00:00:00:05"}, ["config.network[net0].mac_address"]),
    ):
        assert cannot_wait(before, definition(nic)) == fields
