# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit of a host, on trees made for it: every item well, every item not, and nothing to be seen."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.host.hardening import Sight, audit
from ansible_collections.unkey.vmcp.plugins.module_utils.host.hardening_vms import audit_vms
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.store import Store
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition

ROLE_FILES = pathlib.Path(__file__).resolve().parents[3] / "roles" / "vmcp_host" / "files"
PLUGINS = ROLE_FILES.parents[2] / "plugins"
# By item: the path, and what stands there when it is well and when it is not.
SEEN = {
    "swap": ("proc/swaps", "Filename Type Size", "Filename Type Size\n/dev/sda2 partition 1"),
    "ksm": ("sys/kernel/mm/ksm/run", "0", "1"),
    "smt": ("sys/devices/system/cpu/smt/control", "notsupported", "on"),
    "cpu_vulnerabilities": ("sys/devices/system/cpu/vulnerabilities/mds", "Mitigation: Clear CPU buffers", "Vulnerable: no microcode"),
    "mitigations": ("proc/cmdline", "root=/dev/sda1 quiet", "root=/dev/sda1 mitigations=off"),
    "kernel": ("proc/sys/kernel/osrelease", "6.1.0-28-amd64", "6.2.16"),
    "console_loglevel": ("proc/sys/kernel/printk", "1\t4\t1\t7", "7\t4\t1\t7"),
    "kvm_timer": ("sys/module/kvm/parameters/min_timer_period_us", "500", "200"),
    "userfaultfd": ("proc/sys/vm/unprivileged_userfaultfd", "0", "1"),
}


def write(root: pathlib.Path, path: str, text: str) -> pathlib.Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n")
    return file


def found(root: pathlib.Path, item: str, landlock_abi: int = 0) -> dict[str, t.Any]:
    (one,) = [entry for entry in audit(Sight(str(root), landlock_abi)) if entry["item"] == item]
    return one


@pytest.mark.parametrize("item", SEEN)
def test_an_item_is_well_or_not_by_what_stands_there(tmp_path: pathlib.Path, item: str) -> None:
    path, good, bad = SEEN[item]
    write(tmp_path, path, good)
    assert (found(tmp_path, item)["status"], found(tmp_path, item)["remedy"]) == ("ok", "")
    write(tmp_path, path, bad)
    entry = found(tmp_path, item)
    assert entry["status"] == "not_ok"
    assert entry["why"].endswith(".")
    assert entry["remedy"].endswith(".")


def test_what_cannot_be_seen_is_never_well(tmp_path: pathlib.Path) -> None:
    unseen = {entry["item"]: entry["status"] for entry in audit(Sight(str(tmp_path)))}
    assert {item for item, status in unseen.items() if status == "unknown"} >= {
        *("swap", "smt", "cpu_vulnerabilities", "ecc_memory", "kernel", "console_loglevel", "kvm_timer", "nx_huge_pages", "userfaultfd", "cloud_metadata")
    }
    # Devices and a merging of pages that are not there harm nobody.
    assert unseen["kvm_device"] == unseen["ksm"] == "ok"
    assert unseen["landlock"] == unseen["cgroup"] == "not_ok"


def test_devices_are_open_to_nobody_else(tmp_path: pathlib.Path) -> None:
    device = write(tmp_path, "dev/net/tun", "")
    device.chmod(0o666)
    assert "open to every user of the host (mode 0666)" in found(tmp_path, "tun_device")["why"]
    device.chmod(0o660)
    assert found(tmp_path, "tun_device")["status"] == "ok"


def test_executable_huge_pages_matter_on_affected_processors_only(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "sys/module/kvm/parameters/nx_huge_pages", "never")
    write(tmp_path, "sys/devices/system/cpu/vulnerabilities/itlb_multihit", "KVM: Vulnerable")
    assert found(tmp_path, "nx_huge_pages")["status"] == "not_ok"
    write(tmp_path, "sys/devices/system/cpu/vulnerabilities/itlb_multihit", "Not affected")
    assert found(tmp_path, "nx_huge_pages")["status"] == "ok"


def test_the_host_of_no_cloud_has_no_metadata_to_lose(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "sys/class/dmi/id/sys_vendor", "Dell Inc.")
    assert found(tmp_path, "cloud_metadata")["status"] == "ok"
    write(tmp_path, "sys/class/dmi/id/sys_vendor", "Amazon EC2")
    assert found(tmp_path, "cloud_metadata")["status"] == "unknown"


def test_landlock_is_what_the_kernel_answers(tmp_path: pathlib.Path) -> None:
    assert found(tmp_path, "landlock", landlock_abi=4)["status"] == "ok"


class TestVms:
    @pytest.fixture
    def store(self, tmp_path: pathlib.Path) -> Store:
        return Store(Layout(str(tmp_path / "state"), str(tmp_path / "run")))

    def define(self, store: Store, name: str, **fields: t.Any) -> pathlib.Path:
        vm = pathlib.Path(store.layout.vm(name).dir)
        vm.mkdir(parents=True, mode=0o711)
        definition = Definition(name=name, backend="qemu", backend_version="7.2.22", binary="/bin/false", config={}, **fields)
        path = vm / "vm.json"
        path.write_text(definition.to_json())
        path.chmod(0o600)
        return vm

    def statuses(self, store: Store) -> dict[str, str]:
        return {entry["item"]: entry["status"] for entry in audit_vms(store)}

    def test_without_vms_there_is_nothing_to_say(self, store: Store) -> None:
        assert audit_vms(store) == []

    def test_vms_with_all_of_it_are_well(self, store: Store) -> None:
        self.define(store, "a", generated={"uid": 70000})
        self.define(store, "b", generated={"uid": 70001})
        assert set(self.statuses(store).values()) == {"ok"}

    def test_each_lack_is_told_with_the_vm(self, store: Store) -> None:
        self.define(store, "a", generated={"uid": 70000}, security={"jail": False})
        self.define(store, "b", generated={"uid": 70000}, security={"seccomp": False}).chmod(0o777)
        said = {entry["item"]: entry["why"] for entry in audit_vms(store) if entry["status"] == "not_ok"}
        assert said["vm_jail"] == "Without jail, as their definitions say: a."
        assert said["vm_seccomp"] == "Without seccomp, as their definitions say: b."
        assert said["vm_uids"] == "Without a uid of their own: a, b."
        assert said["vm_directories"] == "Others than we can write the directories of: b."

    def test_a_definition_that_cannot_be_read_is_not_well(self, store: Store) -> None:
        (self.define(store, "a", generated={"uid": 70000}) / "vm.json").write_text("{")
        assert self.statuses(store)["vm_jail"] == "unknown"


class TestWhatTheRoleEnforces:
    """The role's own two programs, on files of this test: what the audit calls not well is well afterwards."""

    def wanted(self, **options: t.Any) -> dict[str, t.Any]:
        given = json.dumps({"name": "vmcp-hardening", **options})
        done = subprocess.run([sys.executable, str(ROLE_FILES / "wanted.py"), str(PLUGINS), given], capture_output=True, text=True, check=True, timeout=300)
        return json.loads(done.stdout)  # type: ignore[no-any-return]

    def state(self, verb: str, wanted: dict[str, t.Any]) -> dict[str, t.Any]:
        command = [sys.executable, str(ROLE_FILES / "state.py"), verb, json.dumps(wanted)]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout)  # type: ignore[no-any-return]

    def test_every_setting_makes_its_item_well(self, tmp_path: pathlib.Path) -> None:
        for item in ("ksm", "smt", "console_loglevel", "kvm_timer", "userfaultfd"):
            path, dummy, bad = SEEN[item]
            write(tmp_path, path, bad)
        wanted = self.wanted(ksm="off", smt="off", quiet_console=True, no_userfaultfd=True, kvm_timer=True)
        for setting in wanted["settings"]:
            setting["path"] = f"{tmp_path}{setting['path']}"
        assert len(self.state("look", {"settings": wanted["settings"]})["unsettled"]) == 5
        answer = self.state("set", {"settings": wanted["settings"]})
        assert (len(answer["changed"]), answer["failed"]) == (5, [])
        assert self.state("look", {"settings": wanted["settings"]})["unsettled"] == []
        assert self.state("set", {"settings": wanted["settings"]}) == {"changed": [], "failed": []}
        for item in ("ksm", "smt", "console_loglevel", "kvm_timer", "userfaultfd"):
            assert found(tmp_path, item)["status"] == "ok", item

    def test_what_the_kernel_does_not_take_is_said(self, tmp_path: pathlib.Path) -> None:
        setting = {"path": str(tmp_path / "nowhere" / "nr_hugepages"), "value": "4"}
        (failed,) = self.state("set", {"settings": [setting]})["failed"]
        assert failed == f"{setting['path']} cannot be set to 4 (No such file or directory); it is not there."
        assert self.state("set", {"settings": [{**setting, "optional": True}]})["failed"] == []

    def test_what_is_not_asked_for_is_not_to_be_there(self) -> None:
        wanted = self.wanted(ksm="", smt="", quiet_console=False, no_userfaultfd=False, kvm_timer=False, private_devices=False)
        assert wanted["settings"] == []
        assert all(set(file) == {"path"} for file in wanted["files"])

    def test_huge_pages_by_their_size(self) -> None:
        (setting,) = self.wanted(hugepages={"1G": 2})["settings"]
        assert setting == {"path": "/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "value": "2"}
