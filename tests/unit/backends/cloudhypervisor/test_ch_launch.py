# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How Cloud Hypervisor is started, and what its refusals become."""

from __future__ import annotations

import dataclasses
import json
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.cloudhypervisor.client import is_no_vm, refusal_words
from ansible_collections.unkey.vmcp.plugins.module_utils.backends.cloudhypervisor.driver import Driver
from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import Direct, FileUse, Isolation, LaunchSpec, Paths, TapUse
from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.model.config import VmConfig
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition

DEFINITION = Definition(
    name="web-1",
    backend="cloudhypervisor",
    backend_version="53.0",
    binary="/opt/vmcp/ch/53.0/cloud-hypervisor",
    config={},
    helpers={"ch-remote": "/opt/vmcp/ch/53.0/ch-remote"},
    generated={"uid": 70001, "cid": 5, "macs": {"lan": "52:54:00:00:00:01"}, "taps": {"lan": "vm12345678"}},
)
LAYOUT = Layout("/var/lib/vmcp", "/run/vmcp").vm("web-1")
SANDBOXED = Isolation(uid=70001, jail=True, seccomp=True)
BARE = Isolation(uid=None, jail=False, seccomp=False)


def _launch(config: dict[str, t.Any], isolation: Isolation = SANDBOXED, definition: Definition = DEFINITION) -> LaunchSpec:
    model = VmConfig.model_validate(config)
    uses, _taps = Driver().uses(definition, model)
    files = {use.alias: f"/run/vmcp/web-1/files/{use.alias}" if isolation.uid else use.path for use in uses}
    return Driver().launch(definition, model, Paths(files=files, sockets="vmm"), isolation, LAYOUT, None)


def test_the_process_starts_empty_and_is_given_the_document() -> None:
    spec = _launch({"boot": {"kernel_path": "/k"}})
    assert spec.argv == ("/opt/vmcp/ch/53.0/cloud-hypervisor", "--api-socket", "path=vmm/api.sock", "--seccomp", "true")
    remote = ("/opt/vmcp/ch/53.0/ch-remote", "--api-socket", "vmm/api.sock")
    wait, *rest = spec.after_start
    assert (wait[:2], wait[3:]) == (("/bin/sh", "-c"), ("/opt/vmcp/ch/53.0/ch-remote", "vmm/api.sock"))
    assert rest == [(*remote, "create", "/var/lib/vmcp/vms/web-1/ch.json"), (*remote, "boot")]
    assert spec.stop == (*remote, "power-button")
    assert spec.wait_socket == "vmm/api.sock"
    assert spec.stdout_is_console
    assert spec.jailer is None
    assert set(spec.environment) == {"MALLOC_TRIM_THRESHOLD_"}
    assert json.loads(spec.documents["ch.json"])["payload"]["kernel"] == "/run/vmcp/web-1/files/kernel"


def test_isolation_decides_on_landlock_and_seccomp() -> None:
    assert json.loads(_launch({}).documents["ch.json"])["landlock_enable"] is True
    bare = _launch({}, BARE)
    assert "landlock_enable" not in json.loads(bare.documents["ch.json"])
    assert bare.argv[-2:] == ("--seccomp", "false")


def test_a_macvtap_device_is_handed_over_between_creation_and_boot() -> None:
    facts = {"network": "direct", "bridge": None, "parent": "eth1", "mode": "private", "addresses": []}
    one = dataclasses.replace(DEFINITION, generated={**DEFINITION.generated, "nics": {"lan": facts}})
    limit = {"bandwidth": {"size": 4096, "refill_ms": 100, "burst": 7}, "ops": {"size": 10, "refill_ms": 1000}}
    spec = _launch({"network": [{"id": "lan", "network": "direct", "rate_limit_rx": limit, "rate_limit_tx": limit}]}, definition=one)
    (tap,) = spec.taps
    assert (tap.name, tap.direct) == ("vm12345678", Direct("eth1", "private", "52:54:00:00:00:01", 3))
    assert [words[3:] for words in spec.after_start[2:]] == [
        (
            "add-net",
            "fd=[3],id=net_lan,mac=52:54:00:00:00:01,bw_size=4096,bw_refill_time=100,bw_one_time_burst=7,ops_size=10,ops_refill_time=1000",
        ),
        ("boot",),
    ]
    assert "net" not in json.loads(spec.documents["ch.json"])
    assert "/dev/net/tun" not in spec.devices


def test_files_taps_and_devices_are_named() -> None:
    spec = _launch(
        {
            "boot": {"kernel_path": "/k", "initrd_path": "/i"},
            "storage": [
                {"id": "b-2", "path": "/b", "read_only": True},
                {"id": "sys", "path": "/s", "is_root_device": True},
                {"id": "v", "vhost_user_socket": "/v.sock"},
            ],
            "network": [
                {"id": "lan", "tap_device": "br0", "mtu": 1400, "num_queues": 2},
                {"id": "own", "tap_device": "tap7"},
                {"id": "vu", "vhost_user_socket": "/n.sock"},
            ],
            "rng": {"source": "/dev/hwrng"},
        }
    )
    assert spec.files == (
        FileUse("/k", "kernel"),
        FileUse("/i", "initrd"),
        FileUse("/s", "root_sys", writable=True),
        FileUse("/b", "disk_b_2d2"),
        FileUse("/v.sock", "disk_v", writable=True),
        FileUse("/n.sock", "net_vu", writable=True),
    )
    assert spec.taps == (TapUse("vm12345678", ours=True, bridge="br0", mtu=1400, queue_pairs=2), TapUse("tap7", ours=False))
    assert spec.devices == ("/dev/kvm", "/dev/net/tun", "/dev/hwrng")
    nics = json.loads(spec.documents["ch.json"])["net"]
    # A uid of its own may not change a tap: the VMM takes the MTU from it.
    assert nics[0] == {"id": "net_lan", "tap": "vm12345678", "mac": "52:54:00:00:00:01", "num_queues": 4}


def test_the_mtu_of_a_users_tap_is_set_by_whoever_may() -> None:
    config = {"network": [{"id": "lan", "tap_device": "br0", "mtu": 1400}, {"id": "own", "tap_device": "tap7", "mtu": 9000}]}
    assert _launch(config).before_start[0] == ("ip", "link", "set", "dev", "tap7", "mtu", "9000")
    assert "mtu" not in json.loads(_launch(config).documents["ch.json"])["net"][1]
    bare = _launch(config, BARE)
    assert bare.before_start == ()
    assert json.loads(bare.documents["ch.json"])["net"][1]["mtu"] == 9000


@pytest.mark.parametrize("isolation", [SANDBOXED, BARE], ids=["sandboxed", "bare"])
def test_uses_are_those_of_the_launch(isolation: Isolation) -> None:
    config = {"boot": {"firmware_path": "/fw"}, "network": [{"id": "lan", "tap_device": "br0"}]}
    spec = _launch(config, isolation)
    assert Driver().uses(DEFINITION, VmConfig.model_validate(config)) == (spec.files, spec.taps)
    assert spec.devices == ("/dev/kvm", "/dev/net/tun")


def test_without_ch_remote_there_is_no_start() -> None:
    with pytest.raises(FailedPrecondition, match="Install ch-remote of the same version"):
        _launch({}, definition=dataclasses.replace(DEFINITION, helpers={}))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('["Error from API","The VM could not boot","VM config is missing"]', "The VM could not boot: VM config is missing"),
        ('["Bad Request"]', "Bad Request"),
        ('["Error from API"]', "Error from API"),
        ("The VM could not boot\n", "The VM could not boot"),
        ('{ "error": "Too many open connections" }', "Too many open connections"),
        ('{ "error": "Invalid request.\nAll previous" }', '{ "error": "Invalid request. All previous" }'),
        ("", "HTTP status 500 without a word"),
        ("[]", "HTTP status 500 without a word"),
    ],
)
def test_refusals_are_readable(body: str, words: str) -> None:
    assert refusal_words(500, body) == words


@pytest.mark.parametrize(
    ("status", "body", "absent"),
    [
        (404, '["Error from API","The VM info is not available","VM is not created"]', True),
        (500, "Error from API: VM is not created", True),
        (404, '["Not Found"]', False),
        (400, "VM is not created", False),
        (500, '["Error from API","disk is gone"]', False),
    ],
)
def test_no_vm_is_told_from_other_refusals(status: int, body: str, absent: bool) -> None:
    assert is_no_vm(status, body) is absent
