# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command lines and documents of a Firecracker process."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils import errors
from ansible_collections.unkey.vmcp.plugins.module_utils.backends.firecracker.driver import Driver
from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import Isolation, LaunchSpec, Paths
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.model.config import VmConfig
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition

LAYOUT = Layout("/s", "/r").vm("web-1")
PLAIN = Isolation(uid=None, jail=False, seccomp=True)
JAIL = Isolation(uid=200_001, jail=True, seccomp=True)
INSIDE = Paths(files={alias: f"/files/{alias}" for alias in ("kernel", "root_0")}, sockets="vmm", documents="/files/")


def definition(helpers: dict[str, str] | None = None) -> Definition:
    found = {"jailer": "/opt/jailer"} if helpers is None else helpers
    return Definition(name="web-1", backend="firecracker", backend_version="1.16.1", binary="/opt/firecracker", config={}, helpers=found, generated={"cid": 5})


def launched(isolation: Isolation = PLAIN, paths: Paths | None = None, metadata: t.Any = None, **parts: t.Any) -> LaunchSpec:
    config = VmConfig.model_validate({"boot": {"kernel_path": "/k"}, **parts})
    return Driver().launch(definition(), config, paths or Paths(files={"kernel": "/k"}, sockets="vmm"), isolation, LAYOUT, metadata)


def test_a_plain_process() -> None:
    spec = launched()
    assert spec.argv == (
        "/opt/firecracker",
        *("--api-sock", "vmm/api.sock"),
        *("--id", "web-1"),
        *("--log-path", "/s/vms/web-1/vmm.log"),
        *("--level", "Error"),
        *("--config-file", "/s/vms/web-1/firecracker.json"),
    )
    assert json.loads(spec.documents["firecracker.json"])["boot-source"]["kernel_image_path"] == "/k"
    assert (spec.jailer, spec.stdout_is_console, spec.stdout_dropped, spec.devices) == (None, True, False, ("/dev/kvm",))
    assert spec.vmm_log_in_sandbox == "/s/vms/web-1/vmm.log"
    assert spec.exit_zero_is_reboot
    assert spec.document_uses == {"firecracker.json": "firecracker.json"}


def test_in_a_jail_the_jailer_gives_the_id_and_paths_are_those_inside() -> None:
    spec = launched(JAIL, INSIDE, {"a": 1}, storage=[{"path": "/d", "is_root_device": True}], network=[{"tap_device": "t"}])
    assert spec.jailer == "/opt/jailer"
    assert "--id" not in spec.argv
    assert spec.argv[1:] == (
        *("--api-sock", "vmm/api.sock"),
        *("--log-path", "/files/vmm.log"),
        *("--level", "Error"),
        *("--config-file", "/files/firecracker.json"),
        *("--metadata", "/files/metadata.json"),
    )
    wire = json.loads(spec.documents["firecracker.json"])
    assert (wire["boot-source"]["kernel_image_path"], wire["drives"][0]["path_on_host"]) == ("/files/kernel", "/files/root_0")
    assert json.loads(spec.documents["metadata.json"]) == {"a": 1}
    assert spec.devices == ("/dev/kvm", "/dev/net/tun")
    assert [use.alias for use in spec.files] == ["kernel", "root_0"]


def test_the_address_behind_the_kernels_arguments_has_to_fit_too() -> None:
    facts = {"network": "apps", "bridge": "vn-apps", "addresses": ["10.80.0.9/24"], "gateways": ["10.80.0.1"], "hostname": "web-1", "method": "kernel"}
    one = definition()
    one.generated.update(nics={"lan": facts}, taps={"lan": "vm1"}, macs={"lan": "02:00:00:00:00:01"})

    def line(size: int) -> str:
        boot = {"kernel_path": "/k", "kernel_args": "x" * size}
        config = VmConfig.model_validate({"boot": boot, "network": [{"id": "lan", "network": "apps"}]})
        spec = Driver().launch(one, config, Paths(files={"kernel": "/k"}, sockets="vmm"), PLAIN, LAYOUT, None)
        return str(json.loads(spec.documents["firecracker.json"])["boot-source"]["boot_args"])

    assert line(1900).endswith(" ip=10.80.0.9::10.80.0.1:255.255.255.0:web-1::off")
    with pytest.raises(errors.InvalidArgument) as caught:
        line(1950)
    (violation,) = caught.value.violations
    assert violation.field == "config.boot.kernel_args"
    assert "with the address behind it" in violation.message and "another address_method" in violation.message


def test_a_jail_needs_its_jailer() -> None:
    with pytest.raises(errors.FailedPrecondition, match=r"There is no jailer for Firecracker 1\.16\.1"):
        Driver().launch(definition(helpers={}), VmConfig.model_validate({"boot": {"kernel_path": "/k"}}), INSIDE, JAIL, LAYOUT, None)


def test_seccomp_is_off_only_when_asked() -> None:
    assert "--no-seccomp" not in launched().argv
    assert "--no-seccomp" in launched(Isolation(uid=None, jail=False, seccomp=False)).argv


def test_metadata_beyond_the_default_limit_raises_it() -> None:
    nic = [{"tap_device": "t"}]
    assert "--mmds-size-limit" not in launched(metadata={"a": "x" * 50_000}, network=nic).argv
    spec = launched(metadata={"a": "é" * 30_000}, network=nic)
    limit = int(spec.argv[spec.argv.index("--mmds-size-limit") + 1])
    assert limit >= len(json.dumps({"a": "é" * 30_000}, ensure_ascii=False).encode())


def test_metadata_of_nothing_is_still_metadata() -> None:
    spec = launched(metadata={}, network=[{"tap_device": "t"}])
    assert json.loads(spec.documents["metadata.json"]) == {}
    assert "mmds-config" in json.loads(spec.documents["firecracker.json"])


@pytest.mark.parametrize("console", [{"output": "null"}, {"enabled": False}])
def test_a_console_that_nobody_reads_fills_no_file(console: dict[str, t.Any]) -> None:
    spec = launched(console=console)
    assert (spec.stdout_is_console, spec.stdout_dropped) == (False, True)
    assert "boot_args" not in json.loads(spec.documents["firecracker.json"])["boot-source"]


def test_a_sandboxed_vm_makes_its_sockets_in_its_own_directory() -> None:
    with pytest.raises(errors.InvalidArgument, match=r"config.vsock.path: .*it is /r/web-1/vmm/vsock.sock"):
        launched(JAIL, INSIDE, vsock={"path": "/elsewhere.sock"})
    assert json.loads(launched(JAIL, INSIDE, vsock={}).documents["firecracker.json"])["vsock"] == {"guest_cid": 5, "uds_path": "vmm/vsock.sock"}
    assert json.loads(launched(vsock={"path": "/e.sock"}).documents["firecracker.json"])["vsock"]["uds_path"] == "/e.sock"


def test_a_custom_cpu_template_is_a_file_of_its_own() -> None:
    spec = launched(JAIL, INSIDE, cpu={"template": {"kvm_capabilities": ["!171"]}})
    assert json.loads(spec.documents["firecracker.json"])["cpu-config"] == "/files/cpu.json"
    assert json.loads(spec.documents["cpu.json"]) == {"kvm_capabilities": ["!171"]}
    assert spec.document_uses == {"cpu.json": "cpu.json", "firecracker.json": "firecracker.json"}
    assert json.loads(launched(cpu={"template": {}}).documents["firecracker.json"])["cpu-config"] == "/s/vms/web-1/cpu.json"


def test_no_secret_is_on_the_command_line() -> None:
    spec = launched(metadata={"password": "s3cret"}, network=[{"tap_device": "t"}])
    assert not any("s3cret" in word for word in (*spec.argv, *spec.stop, spec.documents["firecracker.json"]))


def test_what_is_waited_for_is_the_last_socket_that_it_makes() -> None:
    assert launched(JAIL, INSIDE).wait_socket == "vmm/api.sock"
    assert launched(JAIL, INSIDE, vsock={"cid": 3}).wait_socket == "vmm/vsock.sock"
    assert launched(vsock={"path": "/tmp/v.sock"}).wait_socket == "vmm/api.sock", "one of the user's own may be anywhere"
