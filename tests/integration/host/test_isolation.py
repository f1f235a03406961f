# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launch file as root: a uid per VM, its private mounts, access to files that are not the VM's."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import pytest
from vms import Maker

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import FileUse, Isolation, LaunchSpec, TapUse
from ansible_collections.unkey.vmcp.plugins.module_utils.errors import InvalidArgument
from ansible_collections.unkey.vmcp.plugins.module_utils.host import processes
from ansible_collections.unkey.vmcp.plugins.module_utils.host.launchfile import sandbox_paths
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import VmLayout
from ansible_collections.unkey.vmcp.plugins.module_utils.host.store import Store
from ansible_collections.unkey.vmcp.plugins.module_utils.host.supervisors.plain import PlainSupervisor
from ansible_collections.unkey.vmcp.tests.waiting import soon, until

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: makes uids, mounts and taps")]

UID = 70123
ISOLATED = Isolation(uid=UID, jail=True, seccomp=True)


def spec_reading(maker: Maker, vm: VmLayout, uses: list[FileUse], **fields: object) -> LaunchSpec:
    """A stub that prints each of its files to the console, by the path the sandbox gives it."""
    paths = sandbox_paths(vm, uses, ISOLATED, jailed=False)
    return maker.stub_spec("read", *(paths.files[use.alias] for use in uses), files=tuple(uses), **fields)


def console(vm: VmLayout) -> str:
    return pathlib.Path(vm.console_log).read_text()


def acl(path: pathlib.Path) -> str:
    return subprocess.run(["getfacl", "-cEp", str(path)], capture_output=True, text=True, check=True, timeout=10).stdout


def no_mounts_left(maker: Maker) -> bool:
    return maker.layout.run_dir.replace(" ", "\\040") not in pathlib.Path("/proc/self/mountinfo").read_text()


def test_the_vmm_has_its_uid_and_nothing_else(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.define("web", maker.stub_spec("stay"), ISOLATED)
    assert plain.start([vm], soon()) == {}
    # With no socket to wait for, the start is through before the privileges are dropped.
    until(lambda: "stub speaking" in console(vm), "the VMM runs")
    status = pathlib.Path(f"/proc/{processes.current(vm).pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"] == fields["Gid"] == "\t".join([str(UID)] * 4)
    assert fields["Groups"].strip() == ""
    assert fields["NoNewPrivs"] == "1"
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(fields[kind], 16) == 0, kind
    assert os.stat(vm.sockets).st_uid == UID
    environment = pathlib.Path(f"/proc/{processes.current(vm).pid}/environ").read_text()
    assert [word.split("=")[0] for word in environment.split("\0") if word and not word.startswith(("PWD=", "_=", "SHLVL=", "OLDPWD="))] == ["PATH"]
    plain.kill(vm, soon())


def test_files_are_seen_by_alias_and_only_by_the_vm(maker: Maker, plain: PlainSupervisor, tmp_path: pathlib.Path) -> None:
    secret = tmp_path / "disk 'of' $a %user"
    secret.write_text("only for the vm\n")
    secret.chmod(0o600)
    vm = maker.layout.vm("web")
    maker.define("web", spec_reading(maker, vm, [FileUse(str(secret), "disk_root", writable=True)]), ISOLATED)
    assert plain.start([vm], soon()) == {}
    until(lambda: "only for the vm" in console(vm), "the file was read")
    assert f"user:{UID}:rw-" in acl(secret)
    assert no_mounts_left(maker)
    plain.kill(vm, soon())
    assert f"user:{UID}" not in acl(secret)
    assert "mask" not in acl(secret)
    assert secret.stat().st_mode & 0o777 == 0o600
    assert secret.stat().st_uid == 0
    assert not os.path.exists(vm.dir + "/granted")


def test_a_file_that_everybody_reads_gets_no_access_list(maker: Maker, plain: PlainSupervisor, tmp_path: pathlib.Path) -> None:
    kernel = tmp_path / "vmlinux"
    kernel.write_text("kernel\n")
    kernel.chmod(0o644)
    vm = maker.layout.vm("web")
    maker.define("web", spec_reading(maker, vm, [FileUse(str(kernel), "kernel")]), ISOLATED)
    assert plain.start([vm], soon()) == {}
    until(lambda: "kernel" in console(vm), "the file was read")
    assert str(UID) not in acl(kernel)
    plain.kill(vm, soon())


def test_an_access_list_of_the_users_own_survives(maker: Maker, plain: PlainSupervisor, tmp_path: pathlib.Path) -> None:
    disk = tmp_path / "disk"
    disk.write_text("data\n")
    disk.chmod(0o600)
    subprocess.run(["setfacl", "-m", "u:60001:r", str(disk)], check=True, timeout=10)
    vm = maker.layout.vm("web")
    maker.define("web", spec_reading(maker, vm, [FileUse(str(disk), "disk", writable=True)]), ISOLATED)
    assert plain.start([vm], soon()) == {}
    plain.kill(vm, soon())
    assert "user:60001:r--" in acl(disk)
    assert str(UID) not in acl(disk)


def test_a_link_planted_in_data_leads_nowhere(maker: Maker, plain: PlainSupervisor, tmp_path: pathlib.Path) -> None:
    shadow = tmp_path / "shadow"
    shadow.write_text("root's secret\n")
    shadow.chmod(0o600)
    vm = maker.layout.vm("web")
    maker.define("web", spec_reading(maker, vm, [FileUse(f"{vm.data}/disk.raw", "disk", writable=True)]), ISOLATED)
    os.symlink(shadow, f"{vm.data}/disk.raw")
    plain.start([vm], soon())
    assert plain.wait_ended(vm, soon())
    assert "secret" not in console(vm)
    assert "Permission denied" in pathlib.Path(vm.vmm_log).read_text()
    assert str(UID) not in acl(shadow)


def test_the_vms_own_files_are_reached(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.layout.vm("web")
    maker.define("web", spec_reading(maker, vm, [FileUse(f"{vm.data}/vars.fd", "vars", writable=True)]), ISOLATED)
    own = pathlib.Path(vm.data, "vars.fd")
    own.write_text("variables\n")
    os.chown(own, UID, UID)
    own.chmod(0o600)
    assert plain.start([vm], soon()) == {}
    until(lambda: "variables" in console(vm), "the file was read")
    plain.kill(vm, soon())


def test_a_file_of_the_vms_own_is_made_once_from_its_seed(maker: Maker, plain: PlainSupervisor, tmp_path: pathlib.Path) -> None:
    template = tmp_path / "OVMF_VARS.fd"
    template.write_text("template\n")
    template.chmod(0o600)
    vm = maker.layout.vm("web")
    maker.define("web", spec_reading(maker, vm, [FileUse("efivars", "efivars", writable=True, seed=str(template))]), ISOLATED)
    own = pathlib.Path(vm.data, "efivars")
    for content in ("template", "changed"):
        assert plain.start([vm], soon()) == {}
        until(lambda content=content: content in console(vm), "the file was read")
        plain.kill(vm, soon())
        assert own.stat().st_uid == UID
        own.write_text("changed\n")


def test_a_path_that_climbs_out_of_data_is_not_taken_for_the_vms(maker: Maker) -> None:
    vm = maker.layout.vm("web")
    with pytest.raises(InvalidArgument, match="directory of a VM"):
        maker.define("web", maker.stub_spec("stay", files=(FileUse(f"{vm.data}/../secrets.json", "x"),)), ISOLATED)
    assert not pathlib.Path(vm.launch).exists()


@pytest.mark.parametrize(("make", "says"), [(None, "is not there"), (os.mkdir, "neither a file"), (os.mkfifo, "neither a file")])
def test_what_cannot_be_given_is_named(maker: Maker, plain: PlainSupervisor, tmp_path: pathlib.Path, make: object, says: str) -> None:
    path = str(tmp_path / "thing")
    if callable(make):
        make(path)
    vm = maker.define("web", maker.stub_spec("stay", files=(FileUse(path, "disk"),)), ISOLATED)
    error = plain.start([vm], soon())["web"]
    assert path in error
    assert says in error
    assert processes.recorded(vm) is None


def test_documents_are_the_vms_to_read(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.layout.vm("web")
    paths = sandbox_paths(vm, [], ISOLATED, jailed=False)
    spec = maker.stub_spec("read", f"{paths.documents}doc.json", documents={"fc.json": "{}\n"}, document_uses={"doc.json": "fc.json"})
    maker.define("web", spec, ISOLATED)
    assert plain.start([vm], soon()) == {}
    until(lambda: "{}" in console(vm), "the document was read")
    assert os.stat(vm.document("fc.json")).st_uid == 0
    plain.kill(vm, soon())


@pytest.mark.skipif(not os.path.exists("/dev/kvm"), reason="no /dev/kvm on this host")
def test_a_device_that_is_roots_alone_is_opened_by_the_vm(maker: Maker, plain: PlainSupervisor) -> None:
    before = os.stat("/dev/kvm")
    vm = maker.define(
        "web", LaunchSpec(argv=("/bin/sh", "-c", "exec 3<>/dev/kvm && echo opened && exec sleep 300"), wait_socket="", devices=("/dev/kvm",)), ISOLATED
    )
    assert plain.start([vm], soon()) == {}
    until(lambda: "opened" in console(vm), "the device was opened")
    assert (os.stat("/dev/kvm").st_mode, os.stat("/dev/kvm").st_uid) == (before.st_mode, before.st_uid)
    plain.kill(vm, soon())


@pytest.mark.skipif(not shutil.which("losetup"), reason="losetup is not installed")
def test_a_block_device_becomes_a_node_of_the_vms_own(maker: Maker, plain: PlainSupervisor, tmp_path: pathlib.Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"from the block device\n" + bytes(4096))
    done = subprocess.run(["losetup", "--find", "--show", str(image)], capture_output=True, text=True, timeout=10, check=False)
    if done.returncode != 0:
        pytest.skip(f"no loop device on this host: {done.stderr.strip()}")
    device = done.stdout.strip()
    try:
        vm = maker.layout.vm("web")
        script = "head -c 22 files/disk; (: > files/disk) 2>/dev/null && echo writable; exec sleep 300"
        maker.define("web", LaunchSpec(argv=("/bin/sh", "-c", script), wait_socket="", files=(FileUse(device, "disk"),)), ISOLATED)
        assert plain.start([vm], soon()) == {}
        until(lambda: "from the block device" in console(vm), "the device was read")
        assert "writable" not in console(vm)
        plain.kill(vm, soon())
    finally:
        subprocess.run(["losetup", "--detach", device], check=True, timeout=10)


@pytest.mark.skipif(not os.path.exists("/dev/net/tun"), reason="no /dev/net/tun on this host")
def test_taps_of_ours_come_and_go_with_the_vm(maker: Maker, plain: PlainSupervisor) -> None:
    taps = (TapUse("vmtest0123", ours=True, mtu=1400), TapUse("vmtest0124", ours=True, queue_pairs=2))
    vm = maker.define("web", maker.stub_spec("stay", taps=taps), ISOLATED)
    for dummy in range(2):
        assert plain.start([vm], soon()) == {}
        shown = subprocess.run(["ip", "-details", "link", "show", "vmtest0123"], capture_output=True, text=True, timeout=10, check=True).stdout
        assert f"user {UID}" in shown
        assert "mtu 1400" in shown
        shown = subprocess.run(["ip", "-details", "link", "show", "vmtest0124"], capture_output=True, text=True, timeout=10, check=True).stdout
        assert "multi_queue" in shown
        plain.kill(vm, soon())
        assert not os.path.exists("/sys/class/net/vmtest0123")


@pytest.mark.skipif(not os.path.exists("/dev/net/tun"), reason="no /dev/net/tun on this host")
def test_taps_of_many_that_are_removed_go_with_them_and_others_stay(maker: Maker, plain: PlainSupervisor) -> None:
    numbers = range(4)
    vms = [maker.define(f"web{n}", maker.stub_spec("stay", taps=(TapUse(f"vmtest013{n}", ours=True),)), ISOLATED) for n in numbers]
    assert plain.start(vms, soon()) == {}
    try:
        # One that ended before, and one whose tap is gone though it is recorded.
        plain.kill(vms[0], soon())
        subprocess.run(["ip", "link", "delete", "vmtest0131"], timeout=10, check=True)
        plain.end(vms[:3], soon())
        assert plain.remove(vms[:3], soon()) == {}
        assert [os.path.exists(f"/sys/class/net/vmtest013{n}") for n in numbers] == [False, False, False, True]
    finally:
        plain.end(vms[3:], soon())
        assert plain.remove(vms[3:], soon()) == {}
    assert not os.path.exists("/sys/class/net/vmtest0133")


def test_a_bridge_that_is_not_there_fails_the_start_and_leaves_no_tap(maker: Maker, plain: PlainSupervisor) -> None:
    vm = maker.define("web", maker.stub_spec("stay", taps=(TapUse("vmtest0125", ours=True, bridge="nosuchbr0"),)), ISOLATED)
    error = plain.start([vm], soon())["web"]
    assert "put the tap vmtest0125 on the bridge nosuchbr0" in error
    until(lambda: not os.path.exists("/sys/class/net/vmtest0125"), "the tap is gone")


def test_a_vm_leads_nobody_elsewhere_when_it_is_asked_to_stop(maker: Maker, plain: PlainSupervisor, tmp_path: pathlib.Path) -> None:
    """Its socket is a link by then. Who follows it has the rights of the VM, so it reaches nothing that the VM could not reach itself."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("")
    elsewhere.chmod(0o600)
    ask = ("/bin/sh", "-c", 'echo "asked as $(id -u)"; echo stop >> "$0"', "vmm/api.sock")
    vm = maker.define("web", maker.stub_spec("stay", stop=ask), ISOLATED, shutdown_timeout_s=1)
    assert plain.start([vm], soon()) == {}
    os.symlink(elsewhere, vm.api_socket)
    subprocess.run(["/bin/sh", vm.launch, "stop"], check=True, timeout=120)
    assert f"asked as {UID}" in pathlib.Path(vm.vmm_log).read_text()
    assert elsewhere.read_text() == ""
    until(lambda: processes.recorded(vm) is None, "the VM is cleared up after")


def test_another_uid_gets_the_files_of_the_one_before(maker: Maker) -> None:
    vm = maker.layout.vm("web")
    store = Store(maker.layout)
    store.ensure_dirs(vm, UID)
    variables = pathlib.Path(vm.data, "efivars")
    variables.write_text("boot order")
    os.chown(variables, UID, UID)
    victim = pathlib.Path(maker.layout.state_dir, "victim")
    victim.write_text("root's")
    os.symlink(victim, f"{vm.data}/link")
    store.ensure_dirs(vm, UID + 1)
    assert (variables.stat().st_uid, os.stat(vm.data).st_uid) == (UID + 1, UID + 1)
    assert victim.stat().st_uid == 0


def test_an_access_list_entry_of_the_users_for_that_uid_is_put_back(maker: Maker, plain: PlainSupervisor, tmp_path: pathlib.Path) -> None:
    disk = tmp_path / "disk"
    disk.write_text("data\n")
    disk.chmod(0o600)
    subprocess.run(["setfacl", "-m", f"u:{UID}:r", str(disk)], check=True, timeout=10)
    vm = maker.layout.vm("web")
    maker.define("web", spec_reading(maker, vm, [FileUse(str(disk), "disk", writable=True)]), ISOLATED)
    assert plain.start([vm], soon()) == {}
    assert f"user:{UID}:rw-" in acl(disk)
    plain.kill(vm, soon())
    assert f"user:{UID}:r--" in acl(disk)


def test_what_is_told_the_vmm_after_its_start_is_told_by_its_own_uid(maker: Maker, plain: PlainSupervisor) -> None:
    """It works in a directory of that uid's, where root would follow whatever link it finds."""
    vm = maker.define("web", maker.stub_spec("stay", after_start=(("/bin/sh", "-c", "id -u > vmm/who"),)), ISOLATED)
    assert plain.start([vm], soon()) == {}
    assert pathlib.Path(vm.sockets, "who").read_text() == f"{UID}\n"
    plain.kill(vm, soon())


def test_nothing_is_mounted_for_the_host_to_see(maker: Maker) -> None:
    """The verb that expects a mount namespace of its own, called by hand without one."""
    vm = maker.define("web", maker.stub_spec("stay"), ISOLATED)
    done = subprocess.run(["/bin/sh", vm.launch, "inside"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "no mount namespace of its own" in pathlib.Path(vm.problem).read_text()
    assert no_mounts_left(maker)
