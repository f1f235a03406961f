# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our configuration in Firecracker's words and back, field by field."""

from __future__ import annotations

import string
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils import errors
from ansible_collections.unkey.vmcp.plugins.module_utils.backends.firecracker import readback, translate
from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import FileUse, Paths, TapUse
from ansible_collections.unkey.vmcp.plugins.module_utils.model.config import VmConfig
from ansible_collections.unkey.vmcp.tests.fakes.firecracker_fields import deserialize

MIB = 1 << 20
BASE: dict[str, t.Any] = {"memory": {"size_bytes": 256 * MIB}, "boot": {"kernel_path": "/k"}}
LIMIT = {"bandwidth": {"size": 5, "refill_ms": 6, "burst": 7}, "ops": {"size": 8, "refill_ms": 9}}
LIMITER = {"bandwidth": {"size": 5, "refill_time": 6, "one_time_burst": 7}, "ops": {"size": 8, "refill_time": 9}}


def config_with(**parts: t.Any) -> VmConfig:
    merged = {key: {**BASE.get(key, {}), **value} if isinstance(value, dict) else value for key, value in parts.items()}
    return VmConfig.model_validate({**BASE, **merged})


def wire_of(config: VmConfig, **wiring: t.Any) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", translate.document(config, translate.Wiring(**wiring)))


# What is given, the part of the document, and what must be in it.
FIELDS: list[tuple[dict[str, t.Any], str, t.Any]] = [
    ({"cpu": {"vcpu_count": 4}}, "machine-config", {"vcpu_count": 4, "mem_size_mib": 256, "smt": False}),
    ({"cpu": {"vcpu_count": 4, "topology": {"threads_per_core": 2, "cores_per_die": 2}}}, "machine-config", {"smt": True}),
    ({"cpu": {"template": "T2"}}, "machine-config", {"cpu_template": "T2"}),
    ({"memory": {"size_bytes": 512 * MIB, "hugepages": True}}, "machine-config", {"mem_size_mib": 512, "huge_pages": "2M"}),
    ({"memory": {"max_size_bytes": 512 * MIB}}, "memory-hotplug", {"total_size_mib": 256, "slot_size_mib": 128}),
    ({"memory": {"balloon": {"size_bytes": 8 * MIB}}}, "balloon", {"amount_mib": 8, "deflate_on_oom": False}),
    (
        {"memory": {"balloon": {"deflate_on_oom": True, "free_page_reporting": True}}},
        "balloon",
        {"amount_mib": 0, "deflate_on_oom": True, "free_page_reporting": True},
    ),
    ({"boot": {"initrd_path": "/i", "kernel_args": "a  b"}}, "boot-source", {"kernel_image_path": "/k", "initrd_path": "/i", "boot_args": "a  b"}),
    (
        {"storage": [{"id": "d", "path": "/d"}]},
        "drives",
        [{"drive_id": "disk_d", "is_root_device": False, "cache_type": "Writeback", "path_on_host": "/d", "is_read_only": False}],
    ),
    (
        {"storage": [{"id": "d", "path": "/d", "read_only": True, "is_root_device": True, "io_engine": "io_uring", "rate_limit": LIMIT}]},
        "drives",
        [{"drive_id": "root_d", "is_root_device": True, "path_on_host": "/d", "is_read_only": True, "io_engine": "Async", "rate_limiter": LIMITER}],
    ),
    ({"storage": [{"id": "d", "path": "/d", "io_engine": "sync", "rate_limit": {"ops": {"size": 1, "refill_ms": 2}}}]}, "drives", None),
    (
        {"storage": [{"id": "d", "vhost_user_socket": "/s"}]},
        "drives",
        [{"drive_id": "disk_d", "is_root_device": False, "cache_type": "Writeback", "socket": "/s"}],
    ),
    (
        {"network": [{"id": "n", "tap_device": "tap0", "mac_address": "52:54:00:00:00:01", "mtu": 1400, "rate_limit_rx": LIMIT, "rate_limit_tx": LIMIT}]},
        "network-interfaces",
        [{"iface_id": "net_n", "host_dev_name": "tap0", "guest_mac": "52:54:00:00:00:01", "mtu": 1400, "rx_rate_limiter": LIMITER, "tx_rate_limiter": LIMITER}],
    ),
    ({"vsock": {"cid": 7, "path": "/v"}}, "vsock", {"guest_cid": 7, "uds_path": "/v"}),
    ({"rng": {"source": "/dev/urandom"}}, "entropy", {}),
]


@pytest.mark.parametrize(("given", "part", "expected"), FIELDS)
def test_every_field_goes_there_and_back(given: dict[str, t.Any], part: str, expected: t.Any) -> None:
    config = config_with(**given)
    wire = wire_of(config)
    if isinstance(expected, dict):
        assert {key: wire[part][key] for key in expected} == expected
    elif expected is not None:
        assert wire[part] == expected
    assert VmConfig.model_validate(readback.config_of(wire)) == config


@pytest.mark.parametrize(("given", "part", "expected"), FIELDS)
def test_every_body_is_one_that_firecracker_understands(given: dict[str, t.Any], part: str, expected: t.Any) -> None:
    for name, body in translate.parts_in_order(wire_of(config_with(**given))):
        assert deserialize(name, body, ValueError) is not None


def test_a_custom_cpu_template_is_passed_as_it_is() -> None:
    template = {"kvm_capabilities": ["!171"], "cpuid_modifiers": []}
    wire = wire_of(config_with(cpu={"template": template}))
    assert wire["cpu-config"] == template
    assert "cpu_template" not in wire["machine-config"]


# --- ids ---
def test_ids_are_valid_on_the_wire_and_come_back() -> None:
    seen = set()
    for our in ["a", "A", "a-b", "a_b", "a.b", "a_2db", "a_5fb", "0", string.ascii_letters[:63], "x" * 63]:
        for kind in ("root", "disk", "net"):
            wire = translate.wire_id(kind, our)
            assert set(wire) <= set(string.ascii_lowercase + string.digits + "_")
            assert translate.our_id(wire) == (kind, our)
            seen.add(wire)
    assert len(seen) == 30


@pytest.mark.parametrize("foreign", ["rootfs", "eth0", "disk_", "disk_A", "disk_a_b", "pmem_a"])
def test_ids_of_others_are_left_alone(foreign: str) -> None:
    assert translate.our_id(foreign) == ("", foreign)


def test_entries_without_an_id_have_their_position() -> None:
    wire = wire_of(config_with(storage=[{"path": "/a"}, {"path": "/b"}], network=[{"tap_device": "t0"}]))
    assert [drive["drive_id"] for drive in wire["drives"]] == ["disk_0", "disk_1"]
    assert wire["network-interfaces"][0]["iface_id"] == "net_0"


# --- root device and kernel arguments ---
DISKS = [{"id": "data", "path": "/data"}, {"id": "sys", "path": "/sys.img", "is_root_device": True}]


@pytest.mark.parametrize("args", [None, "console=ttyS0", "console=ttyS0 -- root=/dev/for-init", "xroot=/dev/vda"])
def test_firecracker_names_the_root_device_unless_the_user_does(args: str | None) -> None:
    drives = wire_of(config_with(boot={"kernel_args": args}, storage=DISKS))["drives"]
    assert [(drive["drive_id"], drive["is_root_device"]) for drive in drives] == [("root_sys", True), ("disk_data", False)]


@pytest.mark.parametrize("args", ["root=/dev/vda1", "console=ttyS0 root=PARTUUID=x -- a"])
def test_a_root_of_the_user_keeps_the_disk_first_and_comes_back(args: str) -> None:
    config = config_with(boot={"kernel_args": args}, storage=DISKS)
    wire = wire_of(config)
    assert [(drive["drive_id"], drive["is_root_device"]) for drive in wire["drives"]] == [("root_sys", False), ("disk_data", False)]
    assert wire["boot-source"]["boot_args"] == args
    wire["drives"].reverse()
    assert [(disk["id"], disk["is_root_device"]) for disk in readback.config_of(wire)["storage"]] == [("sys", True), ("data", False)]


@pytest.mark.parametrize(
    ("console", "args"),
    [({}, translate.DEFAULT_KERNEL_ARGS), ({"output": "null"}, None), ({"enabled": False}, None)],
)
def test_the_default_arguments_have_a_console_when_somebody_reads_it(console: dict[str, t.Any], args: str | None) -> None:
    assert wire_of(config_with(console=console))["boot-source"].get("boot_args") == args
    assert args is None or args.startswith("console=ttyS0 ")


# --- backend_options ---
def test_backend_options_are_merged_last_and_deep() -> None:
    options = {
        "machine-config": {"track_dirty_pages": True},
        "drives": [{"drive_id": "disk_b", "cache_type": "Unsafe"}, {"drive_id": "extra", "is_root_device": False, "path_on_host": "/x"}],
        "metrics": {"metrics_path": "/m"},
        "mmds-config": {"network_interfaces": ["other"], "version": "V1"},
    }
    config = config_with(
        storage=[{"id": "a", "path": "/a"}, {"id": "b", "path": "/b"}], backend_options={"firecracker": options}, network=[{"id": "n", "tap_device": "t"}]
    )
    wire = wire_of(config, metadata=True)
    assert wire["machine-config"] == {"vcpu_count": 1, "mem_size_mib": 256, "smt": False, "track_dirty_pages": True}
    assert [(drive["drive_id"], drive.get("cache_type"), drive["path_on_host"]) for drive in wire["drives"]] == [
        ("disk_a", "Writeback", "/a"),
        ("disk_b", "Unsafe", "/b"),
        ("extra", None, "/x"),
    ]
    assert wire["metrics"] == {"metrics_path": "/m"}
    assert wire["mmds-config"] == {"network_interfaces": ["other"], "version": "V1"}


def test_parts_of_an_unknown_name_are_refused_for_the_api() -> None:
    with pytest.raises(errors.InvalidArgument, match=r"config.backend_options.firecracker.drive: is no part"):
        translate.parts_in_order({"drive": []})


# --- what was chosen for the VM ---
def test_wiring_fills_what_the_configuration_leaves_open() -> None:
    config = config_with(network=[{"id": "a", "tap_device": "br0"}, {"id": "b", "tap_device": "tap1", "mac_address": "52:54:00:00:00:09"}], vsock={})
    paths = Paths(files={"kernel": "files/kernel"}, sockets="vmm")
    wire = wire_of(config, paths=paths, macs={"a": "52:54:00:00:00:01", "b": "52:54:00:00:00:02"}, taps={"a": "vm1234"}, cid=9, metadata=True)
    assert [(nic["host_dev_name"], nic["guest_mac"]) for nic in wire["network-interfaces"]] == [
        ("vm1234", "52:54:00:00:00:01"),
        ("tap1", "52:54:00:00:00:09"),
    ]
    assert wire["vsock"] == {"guest_cid": 9, "uds_path": "vmm/vsock.sock"}
    assert wire["boot-source"]["kernel_image_path"] == "files/kernel"
    assert wire["mmds-config"] == {"version": "V2", "network_interfaces": ["net_a", "net_b"]}
    assert readback.config_of(wire, {"files/kernel": "/k"})["boot"] == {"kernel_path": "/k"}
    assert readback.config_of(wire)["vsock"] == {"cid": 9}


def test_uses_of_the_host() -> None:
    config = config_with(
        boot={"initrd_path": "/i"},
        storage=[{"id": "r", "path": "/r", "is_root_device": True, "read_only": True}, {"id": "D-1", "path": "/d"}, {"id": "v", "vhost_user_socket": "/s"}],
        network=[{"id": "a", "tap_device": "br0", "mtu": 1400}, {"id": "b", "tap_device": "tap1"}],
    )
    assert translate.file_uses(config) == (
        FileUse("/k", "kernel"),
        FileUse("/i", "initrd"),
        FileUse("/r", "root_r"),
        FileUse("/d", "disk__44_2d1", writable=True),
        FileUse("/s", "disk_v", writable=True),
    )
    assert translate.tap_uses(config, {"taps": {"a": "vm1"}}) == (TapUse("vm1", ours=True, bridge="br0", mtu=1400), TapUse("tap1", ours=False))


# --- refusals ---
def test_what_is_chosen_for_our_own_vms_must_be_said_for_an_endpoint() -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        wire_of(config_with(vsock={}))
    assert [violation.field for violation in caught.value.violations] == ["config.vsock.cid", "config.vsock.path"]
    assert wire_of(config_with(vsock={"cid": 3, "path": "/v"}))["vsock"] == {"guest_cid": 3, "uds_path": "/v"}


@pytest.mark.parametrize(
    ("memory", "field"),
    [
        ({"size_bytes": 256 * MIB + 1}, "config.memory.size_bytes"),
        ({"max_size_bytes": 384 * MIB + 1}, "config.memory.max_size_bytes"),
        ({"balloon": {"size_bytes": 5}}, "config.memory.balloon.size_bytes"),
    ],
)
def test_what_the_capability_check_should_have_refused_is_not_rounded(memory: dict[str, t.Any], field: str) -> None:
    with pytest.raises(errors.Internal, match=rf"{field} is .* cannot express in MiB"):
        wire_of(config_with(memory=memory))


# --- an endpoint's present state ---
CURRENT = {"drives": [{"drive_id": "a", "path_on_host": "/a", "io_engine": "Sync"}], "vsock": {"guest_cid": 3, "uds_path": "/v"}, "balloon": None}


@pytest.mark.parametrize(
    ("part", "body", "held"),
    [
        ("vsock", {"guest_cid": 3, "uds_path": "/v"}, True),
        ("vsock", {"guest_cid": 4, "uds_path": "/v"}, False),
        ("drives", {"drive_id": "a", "path_on_host": "/a"}, True),
        ("drives", {"drive_id": "a", "path_on_host": "/b"}, False),
        ("drives", {"drive_id": "b", "path_on_host": "/a"}, False),
        ("balloon", {"amount_mib": 1}, False),
        ("entropy", {}, False),
    ],
)
def test_what_a_vmm_already_holds(part: str, body: dict[str, t.Any], held: bool) -> None:
    assert translate.holds(CURRENT, part, body) is held


def test_the_kernel_is_the_last_part() -> None:
    order = [part for part, _body in translate.parts_in_order(wire_of(config_with(storage=DISKS, rng={}, vsock={"cid": 3, "path": "/v"})))]
    assert order == ["machine-config", "drives", "drives", "vsock", "entropy", "boot-source"]
    assert translate.strangers({"drives": [{"drive_id": "x"}], "pmem": [{"id": "p"}]}, {"drives": [{"drive_id": "y"}]}) == ["x", "p"]


def test_a_bare_vmm_reads_back_as_its_defaults() -> None:
    machine = {"vcpu_count": 1, "mem_size_mib": 128, "smt": False, "track_dirty_pages": False, "huge_pages": "None"}
    limits = {"bandwidth": None, "ops": None}
    wire = {
        **dict.fromkeys(("balloon", "vsock", "entropy", "memory-hotplug", "mmds-config")),
        "machine-config": machine,
        "boot-source": {"kernel_image_path": "", "initrd_path": None, "boot_args": None},
        "drives": [],
        "network-interfaces": [{"iface_id": "eth0", "host_dev_name": "t", "guest_mac": None, "mtu": None, "rx_rate_limiter": limits, "tx_rate_limiter": None}],
    }
    assert readback.config_of(wire) == {
        "cpu": {"vcpu_count": 1},
        "memory": {"size_bytes": 128 * MIB},
        "boot": {},
        "storage": [],
        "network": [{"id": "eth0", "tap_device": "t"}],
    }
