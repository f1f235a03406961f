# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The document of vm.create: every field there and back."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.cloudhypervisor.readback import unified
from ansible_collections.unkey.vmcp.plugins.module_utils.backends.cloudhypervisor.translate import document, merge
from ansible_collections.unkey.vmcp.plugins.module_utils.backends.cloudhypervisor.wiring import Wiring
from ansible_collections.unkey.vmcp.plugins.module_utils.backends.cloudhypervisor.words import (
    our_id,
    parse_version,
    wire_id,
)
from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import Paths
from ansible_collections.unkey.vmcp.plugins.module_utils.errors import InvalidArgument
from ansible_collections.unkey.vmcp.plugins.module_utils.model.config import VmConfig

Tree = dict[str, t.Any]
LIMIT = {"bandwidth": {"size": 1000000, "refill_ms": 1000, "burst": 5}, "ops": {"size": 100, "refill_ms": 500, "burst": 0}}

# What is given, and where in the document it must be, with which value.
CASES: list[tuple[str, Tree, str, t.Any]] = [
    ("vcpu_count", {"cpu": {"vcpu_count": 3}}, "cpus", {"boot_vcpus": 3, "max_vcpus": 3}),
    ("max_vcpu_count", {"cpu": {"vcpu_count": 2, "max_vcpu_count": 8}}, "cpus", {"boot_vcpus": 2, "max_vcpus": 8}),
    (
        "topology",
        {"cpu": {"vcpu_count": 4, "topology": {"threads_per_core": 2, "cores_per_die": 2, "dies_per_package": 1, "packages": 1}}},
        "cpus.topology",
        {"threads_per_core": 2, "cores_per_die": 2, "dies_per_package": 1, "packages": 1},
    ),
    ("affinity", {"cpu": {"affinity": [{"vcpu": 0, "host_cpus": [0, 1]}]}}, "cpus.affinity", [{"vcpu": 0, "host_cpus": [0, 1]}]),
    ("amx", {"cpu": {"features": {"amx": True}}}, "cpus.features", {"amx": True}),
    ("nested", {"cpu": {"nested": False}}, "cpus.nested", False),
    ("size_bytes", {"memory": {"size_bytes": 1 << 30}}, "memory", {"size": 1 << 30}),
    ("max_size_bytes", {"memory": {"size_bytes": 1 << 30, "max_size_bytes": 3 << 30}}, "memory.hotplug_size", 2 << 30),
    ("hugepages", {"memory": {"hugepages": True, "hugepage_size_bytes": 2 << 20}}, "memory.hugepage_size", 2 << 20),
    ("shared", {"memory": {"shared": True}}, "memory.shared", True),
    ("mergeable", {"memory": {"mergeable": True}}, "memory.mergeable", True),
    ("prefault", {"memory": {"prefault": True}}, "memory.prefault", True),
    (
        "zones",
        {"memory": {"size_bytes": 1 << 30, "zones": [{"id": "Node-0", "size_bytes": 1 << 30, "host_numa_node": 0, "shared": True}]}},
        "memory",
        {"size": 0, "zones": [{"id": "mem__4eode_2d0", "size": 1 << 30, "host_numa_node": 0, "shared": True}]},
    ),
    (
        "zones take over what the memory says",
        {"memory": {"size_bytes": 1 << 30, "shared": True, "zones": [{"id": "a", "size_bytes": 1 << 30}]}},
        "memory.zones",
        [{"id": "mem_a", "size": 1 << 30, "shared": True}],
    ),
    (
        "balloon",
        {"memory": {"balloon": {"size_bytes": 1 << 20, "deflate_on_oom": True, "free_page_reporting": True}}},
        "balloon",
        {"size": 1 << 20, "deflate_on_oom": True, "free_page_reporting": True},
    ),
    ("an empty balloon", {"memory": {"balloon": {"deflate_on_oom": True}}}, "balloon", {"size": 0, "deflate_on_oom": True}),
    (
        "kernel",
        {"boot": {"kernel_path": "/k", "initrd_path": "/i", "kernel_args": "quiet"}},
        "payload",
        {"kernel": "/k", "initramfs": "/i", "cmdline": "quiet"},
    ),
    ("firmware", {"boot": {"firmware_path": "/fw"}}, "payload", {"firmware": "/fw"}),
    ("igvm", {"boot": {"igvm_path": "/igvm"}}, "payload", {"igvm": "/igvm"}),
    ("disk", {"storage": [{"id": "a", "path": "/a"}]}, "disks", [{"id": "disk_a", "path": "/a", "image_type": "Raw"}]),
    ("read_only", {"storage": [{"id": "a", "path": "/a", "read_only": True}]}, "disks.0.readonly", True),
    ("direct_io", {"storage": [{"id": "a", "path": "/a", "direct_io": True}]}, "disks.0.direct", True),
    ("qcow2", {"storage": [{"id": "a", "path": "/a", "format": "qcow2"}]}, "disks.0.image_type", "Qcow2"),
    ("vhd", {"storage": [{"id": "a", "path": "/a", "format": "vhd"}]}, "disks.0.image_type", "FixedVhd"),
    ("vhdx", {"storage": [{"id": "a", "path": "/a", "format": "vhdx"}]}, "disks.0.image_type", "Vhdx"),
    ("sync", {"storage": [{"id": "a", "path": "/a", "io_engine": "sync"}]}, "disks.0.disable_aio", True),
    ("aio", {"storage": [{"id": "a", "path": "/a", "io_engine": "aio"}]}, "disks.0.disable_io_uring", True),
    ("io_uring", {"storage": [{"id": "a", "path": "/a", "io_engine": "io_uring"}]}, "disks.0.disable_io_uring", False),
    ("serial", {"storage": [{"id": "a", "path": "/a", "serial": "S-1"}]}, "disks.0.serial", "S-1"),
    ("queues", {"storage": [{"id": "a", "path": "/a", "num_queues": 2, "queue_size": 64}]}, "disks.0.queue_size", 64),
    (
        "rate_limit",
        {"storage": [{"id": "a", "path": "/a", "rate_limit": LIMIT}]},
        "disks.0.rate_limiter_config",
        {"bandwidth": {"size": 1000000, "refill_time": 1000, "one_time_burst": 5}, "ops": {"size": 100, "refill_time": 500}},
    ),
    (
        "vhost-user disk",
        {"storage": [{"id": "a", "vhost_user_socket": "/s"}]},
        "disks",
        [{"id": "disk_a", "vhost_user": True, "vhost_socket": "/s"}],
    ),
    (
        "nic",
        {"network": [{"id": "n", "tap_device": "tap0", "mac_address": "52:54:00:00:00:01", "mtu": 9000, "num_queues": 2, "queue_size": 512}]},
        "net",
        [{"id": "net_n", "tap": "tap0", "mac": "52:54:00:00:00:01", "mtu": 9000, "num_queues": 4, "queue_size": 512}],
    ),
    (
        "equal limits of a NIC",
        {"network": [{"id": "n", "tap_device": "tap0", "rate_limit_rx": LIMIT, "rate_limit_tx": LIMIT}]},
        "net.0.rate_limiter_config.bandwidth",
        {"size": 1000000, "refill_time": 1000, "one_time_burst": 5},
    ),
    (
        "limits are of the NIC, not of each queue pair",
        {"network": [{"id": "n", "tap_device": "tap0", "num_queues": 3, "rate_limit_rx": LIMIT, "rate_limit_tx": LIMIT}]},
        "net.0.rate_limiter_config.bandwidth",
        {"size": 1000000, "refill_time": 3000, "one_time_burst": 5},
    ),
    ("vhost-user NIC", {"network": [{"id": "n", "vhost_user_socket": "/s"}]}, "net", [{"id": "net_n", "vhost_user": True, "vhost_socket": "/s"}]),
    ("no console", {"console": {"enabled": False}}, "serial", {"mode": "Off"}),
    ("console file", {"console": {"output": "file"}}, "serial", {"mode": "Tty"}),
    ("console file of its own", {"console": {"output": "file", "path": "/var/log/x"}}, "serial", {"mode": "File", "file": "/var/log/x"}),
    ("console tty", {"console": {"output": "tty"}}, "serial", {"mode": "Pty"}),
    ("console null", {"console": {"output": "null"}}, "serial", {"mode": "Null"}),
    ("console socket", {"console": {"output": "socket", "path": "/run/x.sock"}}, "serial", {"mode": "Socket", "socket": "/run/x.sock"}),
    ("the terminal is never ours", {}, "console", {"mode": "Null"}),
    ("rng", {"rng": {"source": "/dev/hwrng"}}, "rng", {"src": "/dev/hwrng"}),
    ("vsock", {"vsock": {"cid": 7, "path": "/run/v.sock"}}, "vsock", {"cid": 7, "socket": "/run/v.sock", "id": "vsock_0"}),
    ("watchdog", {"watchdog": True}, "watchdog", True),
]


def vm(**given: t.Any) -> VmConfig:
    return VmConfig.model_validate(given)


def _at(body: t.Any, path: str) -> t.Any:
    for part in path.split("."):
        body = body[int(part)] if part.isdigit() else body[part]
    return body


def _covers(given: t.Any, found: t.Any) -> bool:
    if isinstance(given, dict):
        return isinstance(found, dict) and all(_covers(value, found.get(key, False if value is False else None)) for key, value in given.items())
    if isinstance(given, list):
        return isinstance(found, list) and len(given) == len(found) and all(map(_covers, given, found))
    return bool(given == found)


@pytest.mark.parametrize(("given", "where", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_field_has_its_place(given: Tree, where: str, expected: t.Any) -> None:
    assert _at(document(VmConfig.model_validate(given), Wiring()), where) == expected


@pytest.mark.parametrize("given", [case[1] for case in CASES], ids=[case[0] for case in CASES])
def test_what_was_given_comes_back(given: Tree) -> None:
    body = document(VmConfig.model_validate(given), Wiring())
    back = unified(body)
    assert _covers(given, back)
    assert document(VmConfig.model_validate(back), Wiring()) == body


def test_every_supported_field_is_among_the_cases() -> None:
    tested: set[str] = set()

    def walk(tree: t.Any) -> None:
        for key, value in tree.items() if isinstance(tree, dict) else ():
            tested.add(key)
            for item in value if isinstance(value, list) else [value]:
                walk(item)

    for _name, given, *_rest in CASES:
        walk(given)
    schema = VmConfig.model_json_schema()
    fields = {name for model in [schema, *schema["$defs"].values()] for name in model["properties"]}
    # Not Cloud Hypervisor's, and those with tests of their own below.
    others = {"template", "firecracker", "qemu", "args", "machine", "backend_options", "cloudhypervisor", "is_root_device"}
    # Of the host, not of the VMM.
    others |= {"network", "address", "address_method", "vlan"}
    # Clones and disks of their own are told as paths.
    others |= {"image", "disk", "filesystem"}
    assert fields - tested - others == set()


def test_the_root_disk_is_first_and_known_again() -> None:
    config = vm(storage=[{"id": "data", "path": "/d"}, {"id": "sys", "path": "/s", "is_root_device": True}], boot={"kernel_path": "/k"})
    body = document(config, Wiring())
    assert [disk["path"] for disk in body["disks"]] == ["/s", "/d"]
    back = unified(body)
    assert [(disk["id"], disk["is_root_device"]) for disk in back["storage"]] == [("sys", True), ("data", False)]


@pytest.mark.parametrize("name", ["a", "data-1", "Data_1", "0", "a.b", "_".join("abc"), "A" * 63])
@pytest.mark.parametrize("kind", ["root", "disk", "net", "mem"])
def test_ids_are_reversible(kind: str, name: str) -> None:
    wire = wire_id(kind, name)
    assert our_id(wire) == (kind, name)
    assert not wire.startswith("__")
    assert wire.replace("_", "").isalnum()


@pytest.mark.parametrize("wire", ["_disk0", "eth0", "disk_A", "disk_", "disk_x_", "disk_x_zz"])
def test_ids_of_others_stay(wire: str) -> None:
    assert our_id(wire) == ("", wire)


def test_a_foreign_root_disk_is_known_by_the_command_line() -> None:
    body = {"payload": {"kernel": "/k", "cmdline": "root=/dev/vda1 ro"}, "disks": [{"path": "/a"}, {"path": "/b"}]}
    assert [disk["is_root_device"] for disk in unified(body)["storage"]] == [True, False]


@pytest.mark.parametrize(("version", "known"), [((53, 0), True), ((51, 0), True), ((50, 1), False)])
def test_image_type_is_said_to_those_who_know_it(version: tuple[int, int], known: bool) -> None:
    body = document(vm(storage=[{"id": "a", "path": "/a"}]), Wiring(version=version))
    assert ("image_type" in body["disks"][0]) is known


def test_versions_are_read_from_any_spelling() -> None:
    assert [parse_version(text) for text in ("53.0", "v53.0.0", "52.1", "")] == [(53, 0), (53, 0), (52, 1), ()]


def test_unequal_limits_of_a_nic_and_growing_zones_are_refused_together() -> None:
    config = vm(
        network=[{"tap_device": "t0"}, {"tap_device": "t1", "rate_limit_tx": LIMIT}],
        memory={"size_bytes": 1 << 30, "max_size_bytes": 2 << 30, "zones": [{"id": "a", "size_bytes": 1 << 30}]},
    )
    with pytest.raises(InvalidArgument) as caught:
        document(config, Wiring())
    assert [v.field for v in caught.value.violations] == ["config.network[1].rate_limit_tx", "config.memory.max_size_bytes"]
    assert "same values" in caught.value.msg


@pytest.mark.parametrize(
    ("config", "field"), [({"vsock": {"path": "/v"}}, "vsock.cid"), ({"vsock": {"cid": 3}}, "vsock.path"), ({"console": {"output": "socket"}}, "console.path")]
)
def test_nothing_is_chosen_for_the_vmm_of_somebody_else(config: Tree, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        document(VmConfig.model_validate(config), Wiring())
    assert caught.value.violations[0].field == f"config.{field}"


def test_what_was_chosen_and_where_files_appear_comes_from_the_wiring() -> None:
    config = vm(
        boot={"kernel_path": "/k"},
        storage=[{"id": "a", "path": "/a"}],
        network=[{"id": "n", "tap_device": "br0", "mtu": 1400}],
        vsock={},
        console={"output": "socket"},
    )
    wiring = Wiring(
        paths=Paths(files={"kernel": "/f/kernel", "disk_a": "/f/disk_a"}, sockets="vmm"),
        macs={"n": "52:54:00:00:00:09"},
        taps={"n": "vmtap"},
        cid=9,
        landlock=True,
        sets_tap_mtu=False,
        serial_is_stdout=True,
    )
    body = document(config, wiring)
    assert body["payload"]["kernel"] == "/f/kernel"
    assert body["disks"][0]["path"] == "/f/disk_a"
    assert body["net"] == [{"id": "net_n", "tap": "vmtap", "mac": "52:54:00:00:00:09"}]
    assert body["vsock"] == {"cid": 9, "socket": "vmm/vsock.sock", "id": "vsock_0"}
    assert body["serial"] == {"mode": "Socket", "socket": "vmm/console.sock"}
    assert body["landlock_enable"] is True
    assert body["landlock_rules"] == [{"path": "/sys/class/net/vmtap/tun_flags", "access": "r"}, {"path": "vmm", "access": "rw"}]
    # The VM's own sockets are nobody's choice, and do not come back as one.
    assert "path" not in unified(body)["vsock"]
    assert "path" not in unified(body)["console"]


def test_backend_options_win() -> None:
    config = vm(cpu={"vcpu_count": 2}, watchdog=True, backend_options={"cloudhypervisor": {"cpus": {"kvm_hyperv": True}, "pvpanic": True, "watchdog": None}})
    body = document(config, Wiring())
    assert body["cpus"] == {"boot_vcpus": 2, "max_vcpus": 2, "kvm_hyperv": True}
    assert body["pvpanic"] is True
    assert "watchdog" not in body


def test_merging_follows_rfc_7396() -> None:
    assert merge({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": None, "e": 3}, "d": [2], "f": {"g": None}}) == {"a": {"c": 2, "e": 3}, "d": [2], "f": {}}


def test_entries_with_an_id_merge_one_by_one() -> None:
    config = VmConfig.model_validate(
        {
            "network": [{"id": "a", "tap_device": "t0"}, {"id": "b", "tap_device": "t1"}],
            "backend_options": {"cloudhypervisor": {"net": [{"id": "net_b", "offload_tso": False}, {"id": "mine", "tap": "t2"}]}},
        }
    )
    assert document(config, Wiring())["net"] == [{"id": "net_a", "tap": "t0"}, {"id": "net_b", "tap": "t1", "offload_tso": False}, {"id": "mine", "tap": "t2"}]


def test_only_a_file_of_ours_may_stand_on_another() -> None:
    config = VmConfig.model_validate({"storage": [{"id": name, "path": f"/{name}", "format": "qcow2"} for name in ("ours", "theirs")]})
    wiring = Wiring(backings={"ours": "/images/1"}, landlock=True, serial_is_stdout=True)
    body = document(config, wiring)
    assert [disk.get("backing_files") for disk in body["disks"]] == [True, None]
    assert {"path": "/images/1", "access": "r"} in body["landlock_rules"]
    # Before 51 it followed them unasked, and knew no such key.
    assert all("backing_files" not in disk for disk in document(config, dataclasses.replace(wiring, version=(50, 0)))["disks"])
