# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a VM's interfaces the host lacks: networks, VLANs, programs that limit."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import TapLimit, TapUse
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.model.network_definition import NetworkDefinition
from ansible_collections.unkey.vmcp.plugins.module_utils.model.short_options import fold_short_options
from ansible_collections.unkey.vmcp.plugins.module_utils.model.validate import read_config
from ansible_collections.unkey.vmcp.plugins.module_utils.runner import nic_lacks
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.named_networks import with_networks
from ansible_collections.unkey.vmcp.plugins.module_utils.runner.seen_networks import Networks

APPS = NetworkDefinition("apps", "bridge", {"ipv4": "10.80.0.1/24"}, {"bridge": "vn-apps", "ranges": {"ipv4": ["10.80.0.2", "10.80.0.254"]}})


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """With the network apps, whose bridge does not filter VLANs, and a bridge on a kernel that cannot."""
    made = Layout(str(tmp_path / "state"), str(tmp_path / "run"))
    network = pathlib.Path(made.state_dir, "networks", "apps")
    network.mkdir(parents=True)
    (network / "network.json").write_text(APPS.to_json())
    for bridge in ("vn-apps", "plain"):
        (tmp_path / "net" / bridge / "bridge").mkdir(parents=True)
    (tmp_path / "net" / "vn-apps" / "bridge" / "vlan_filtering").write_text("0\n")
    monkeypatch.setattr(nic_lacks, "NET", str(tmp_path / "net"))
    return made


def messages(host: Layout, isolated: bool = True, **nic: t.Any) -> dict[str, str]:
    lacks = nic_lacks.nic_lacks(read_config({"network": [nic]}), None, isolated, Networks(host))
    return {lack.field.removeprefix("config.network[0]."): lack.message for lack in lacks}


def test_networks_that_are_not_there(host: Layout) -> None:
    assert messages(host, network="apps") == {}
    assert "Make it with unkey.vmcp.vmcp_network. Did you mean apps?" in messages(host, network="app")["network"]
    assert "Run the task with become" in messages(host, network="apps", isolated=False)["network"]


def test_vlans_need_a_bridge_that_filters_them(host: Layout, tmp_path: pathlib.Path) -> None:
    assert "does not filter VLANs. Switch it on" in messages(host, network="apps", vlan=7)["vlan"]
    assert "the kernel of this host cannot filter VLANs on plain" in messages(host, tap_device="plain", vlan=7)["vlan"]
    (tmp_path / "net" / "vn-apps" / "bridge" / "vlan_filtering").write_text("1\n")
    assert messages(host, network="apps", vlan=7) == {}


def test_limits_that_the_host_keeps_need_root_and_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    limited = [TapUse("vm1", ours=True, limit_rx=TapLimit(bytes_s=5.0))]
    assert "only root can limit what passes through vm1" in nic_lacks.limit_lacks(limited, False)[0].message
    monkeypatch.setattr(nic_lacks, "PROGRAM_PLACES", ("/nowhere",))
    assert [lack.message.partition(" ")[0] for lack in nic_lacks.limit_lacks(limited, True)] == ["tc", "nft"]
    assert nic_lacks.limit_lacks([TapUse("vm1", ours=True)], False) == []


def test_a_name_is_a_network_where_there_is_one(host: Layout) -> None:
    def folded(networks: t.Any) -> t.Any:
        return fold_short_options(with_networks({"networks": networks}, host))[0]["network"]

    assert folded(["apps", "br0", {"tap_device": "t0"}]) == [{"network": "apps", "tap_device": None}, {"tap_device": "br0"}, {"tap_device": "t0"}]
    assert folded("apps") == [{"network": "apps", "tap_device": None}]
    assert folded(["a-name-that-no-interface-has"]) == [{"network": "a-name-that-no-interface-has", "tap_device": None}]
