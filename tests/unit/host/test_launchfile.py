# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pathlib
import shlex
import shutil
import subprocess
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import FileUse, Isolation, LaunchSpec, TapUse
from ansible_collections.unkey.vmcp.plugins.module_utils.errors import InvalidArgument
from ansible_collections.unkey.vmcp.plugins.module_utils.host import trimming
from ansible_collections.unkey.vmcp.plugins.module_utils.host.launchfile import render, render_policy, sandbox_paths, table_word
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout

VM = Layout("/var/lib/vmcp", "/run/vmcp").vm("web")
NASTY = '/srv/it\'s $HOME `id` "x" %n \\ ; rm -rf * & | <é>'
ISOLATED = Isolation(uid=70000, jail=True, seccomp=True)
BARE = Isolation(uid=None, jail=False, seccomp=True)


def text_of(spec: LaunchSpec, isolation: Isolation = ISOLATED, **options: t.Any) -> str:
    return render(VM, spec, isolation, **{"shutdown_timeout_s": 30, **options})


def function(text: str, name: str) -> str:
    return text.split(f"\n{name}() {{\n", 1)[1].split("\n}", 1)[0].strip()


def words(text: str, name: str) -> list[str]:
    return shlex.split(function(text, name))


def shell_accepts(text: str) -> None:
    for shell in ("dash", "bash", "busybox"):
        if shutil.which(shell):
            command = [shell, "sh", "-n"] if shell == "busybox" else [shell, "-n"]
            done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=50, check=False)
            assert (done.returncode, done.stderr) == (0, ""), shell


def test_every_word_survives_the_shell() -> None:
    spec = LaunchSpec(
        argv=(NASTY, "-append", NASTY),
        files=(FileUse(NASTY, "disk", writable=True), FileUse(f"{VM.data}/{NASTY[1:]}", "own")),
        taps=(TapUse("tap0", ours=True, bridge="br0", mtu=9000, queue_pairs=4, vlan=7), TapUse("theirs", ours=False)),
        devices=(NASTY,),
        after_start=((NASTY, "boot"),),
        stop=(NASTY, "power-button"),
    )
    text = text_of(spec, console_path=NASTY)
    shell_accepts(text)
    assert words(text, "vmm_files") == ["expose", "disk", NASTY, table_word(NASTY), "rw", "own", "own", NASTY[1:]]
    assert words(text, "vmm_taps") == ["tap", "tap0", "br0", "9000", "7", "multi_queue", "vnet_hdr", "make_taps"]
    assert shlex.split(function(text, "vmm_devices").splitlines()[0]) == ["need_device", NASTY]
    assert shlex.split(function(text, "vmm_devices").splitlines()[-1])[:3] == ["device", NASTY, table_word(NASTY)]
    assert words(text, "after_start") == ["after", NASTY, "boot"]
    assert words(text, "ask_to_stop") == ["as_vm", "timeout", "-k", "1", "5", NASTY, "power-button"]
    assert words(text, "exec_vmm")[-6:] == [NASTY, "-append", NASTY, ">>", "$console", "9>&-"]


def test_a_launch_with_nothing_special_is_a_shell_file_too() -> None:
    text = text_of(LaunchSpec(argv=("/usr/bin/vmm",)))
    shell_accepts(text)
    assert function(text, "vmm_taps") == ":"
    assert function(text, "can_ask_to_stop") == "false"


@pytest.mark.parametrize("script", [trimming.once(NASTY, 1 << 20), trimming.loop(NASTY, NASTY, NASTY, 1 << 20, 15)])
def test_the_other_scripts_are_shell_too(script: str) -> None:
    shell_accepts(script)


def test_a_line_break_is_refused_by_name() -> None:
    for spec in (
        LaunchSpec(argv=("/usr/bin/vmm", "a\nb")),
        LaunchSpec(argv=("/usr/bin/vmm",), files=(FileUse("/srv/a\nb", "disk"),)),
        LaunchSpec(argv=("/usr/bin/vmm",), after_start=(("a\0b",),)),
    ):
        with pytest.raises(InvalidArgument, match="line break or NUL"):
            text_of(spec)
    with pytest.raises(InvalidArgument, match="line break or NUL"):
        text_of(LaunchSpec(argv=("/usr/bin/vmm",)), console_path="/srv/a\nb")


def test_privileges_are_dropped_by_setpriv_or_the_jailer() -> None:
    dropped = function(text_of(LaunchSpec(argv=("/usr/bin/vmm", "--x"))), "exec_vmm")
    assert "setpriv --reuid 70000 --regid 70000 $groups_option --no-new-privs --inh-caps=-all --bounding-set=-all -- /usr/bin/vmm --x" in dropped
    jailed = function(text_of(LaunchSpec(argv=("/opt/firecracker", "--config-file", "/files/fc"), jailer="/opt/jailer")), "exec_vmm").splitlines()
    assert shlex.split(jailed[-1]) == [
        "exec",
        *("/opt/jailer", "--id", "web", "--exec-file", "/opt/firecracker", "--uid", "70000", "--gid", "70000"),
        *("--chroot-base-dir", "/run/vmcp/web/jail", "--", "--config-file", "/files/fc", ">>", "$console", "9>&-"),
    ]
    bare = function(text_of(LaunchSpec(argv=("/opt/firecracker",), jailer="/opt/jailer"), BARE), "exec_vmm")
    assert "setpriv" not in bare
    assert "jailer" not in bare


def test_the_console_goes_where_it_is_to() -> None:
    argv = ("/usr/bin/vmm",)
    assert function(text_of(LaunchSpec(argv=argv)), "exec_vmm").endswith('vmm >> "$console" 9>&-')
    assert function(text_of(LaunchSpec(argv=argv, stdout_is_console=False)), "exec_vmm").endswith("vmm 9>&-")
    assert function(text_of(LaunchSpec(argv=argv, stdout_is_console=False, stdout_dropped=True)), "exec_vmm").endswith("vmm > /dev/null 9>&-")


def test_paths_are_what_the_vmm_sees() -> None:
    uses = [FileUse("/srv/disk", "disk"), FileUse("efivars", "efivars", seed="/usr/share/x")]
    jailed = sandbox_paths(VM, uses, ISOLATED, jailed=True)
    assert (jailed.files["disk"], jailed.documents) == ("/files/disk", "/files/")
    dropped = sandbox_paths(VM, uses, ISOLATED, jailed=False)
    assert (dropped.files["disk"], dropped.documents, dropped.sockets) == ("files/disk", "files/", "vmm")
    bare = sandbox_paths(VM, uses, BARE, jailed=False)
    assert (bare.files["disk"], bare.files["efivars"], bare.documents) == ("/srv/disk", f"{VM.data}/efivars", "")


def test_only_what_lies_in_data_is_the_vms_own() -> None:
    def first(path: str) -> str:
        return words(text_of(LaunchSpec(argv=("/usr/bin/vmm",), files=(FileUse(path, "disk"),)), BARE), "vmm_files")[0]

    assert first("disk") == first(f"{VM.data}/disk") == first("a/../disk") == "own"
    assert first(f"{VM.data}/../disk") == first(f"{VM.data}.old/disk") == first("/srv/disk") == "expose"
    with pytest.raises(InvalidArgument, match=r"'\.\./secrets\.json' is not below the VM's data directory"):
        first("../secrets.json")


def test_policy_is_in_a_file_of_its_own() -> None:
    assert render_policy({"on_reboot": "stop", "on_crash": "restart", "max_per_hour": 0}) == "on_reboot=stop\non_crash=restart\nmax_per_hour=0\n"
    assert render_policy({}) == "on_reboot=restart\non_crash=no\nmax_per_hour=5\n"
    assert "\nexit_zero_is_reboot=yes\n" in text_of(LaunchSpec(argv=("/usr/bin/vmm",), exit_zero_is_reboot=True))


def test_a_path_is_one_word_of_a_table_of_file_systems() -> None:
    assert table_word("/srv/a b\tc\\d") == "/srv/a\\040b\\011c\\134d"


def test_what_runs_is_ended_by_its_own_launch_file(tmp_path: pathlib.Path) -> None:
    vm = Layout(str(tmp_path / "state"), str(tmp_path / "run")).vm("web")
    pathlib.Path(vm.dir).mkdir(parents=True)
    pathlib.Path(vm.launch).write_text(render(vm, LaunchSpec(argv=("/usr/bin/vmm",)), BARE, shutdown_timeout_s=30))
    pathlib.Path(vm.launch_running).write_text('echo "the former: $*"\n')
    said = subprocess.run(["sh", vm.launch, "ended", "systemd"], capture_output=True, text=True, timeout=50, check=True).stdout
    assert said == "the former: ended systemd\n"


def test_a_shell_that_reads_the_file_sees_no_unset_variable(tmp_path: pathlib.Path) -> None:
    """set -u ends a script at the first name that was mistyped; 'ended' and 'clear' come through most of the file on an empty host."""
    vm = Layout(str(tmp_path / "state"), str(tmp_path / "run")).vm("web")
    pathlib.Path(vm.dir).mkdir(parents=True)
    pathlib.Path(vm.launch).write_text(render(vm, LaunchSpec(argv=("/usr/bin/vmm",)), BARE, shutdown_timeout_s=30))
    pathlib.Path(vm.policy).write_text(render_policy({}))
    for verb in ("clear", "ended", "stop"):
        done = subprocess.run(["sh", vm.launch, verb], capture_output=True, text=True, timeout=50, check=False)
        assert (done.returncode, done.stderr) == (0, ""), verb
    assert subprocess.run(["sh", vm.launch, "fly"], capture_output=True, timeout=50, check=False).returncode == 2


@pytest.mark.parametrize("console", [f"{VM.data}/console.log", f"{VM.sockets}/console.log", "/var/lib/vmcp/vms/other/data/x"])
def test_root_writes_no_console_where_a_vm_could_have_put_a_link(console: str) -> None:
    with pytest.raises(InvalidArgument, match=r"config\.console\.path.*directory of a VM"):
        text_of(LaunchSpec(argv=("/usr/bin/vmm",)), console_path=console)
    text_of(LaunchSpec(argv=("/usr/bin/vmm",)), BARE, console_path=console)


@pytest.mark.parametrize("path", ["/var/lib/vmcp/vms/other/data/disk.img", VM.definition])
def test_root_gives_no_vm_what_lies_in_the_directory_of_another(path: str) -> None:
    with pytest.raises(InvalidArgument, match="directory of a VM"):
        text_of(LaunchSpec(argv=("/usr/bin/vmm",), files=(FileUse(path, "disk"),)))
    text_of(LaunchSpec(argv=("/usr/bin/vmm",), files=(FileUse(f"{VM.data}/disk.img", "disk"), FileUse("/var/lib/vmcp/images/x", "other"))))
