# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options around the configuration: short ones, the environment, the choice of a backend, protection, and what the six example configurations give."""

from __future__ import annotations

import json
import pathlib
import typing as t

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import ROOT, Playground, Result, Tree, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import BACKENDS, Vmm, use

EXAMPLES = ROOT / "tests" / "fixtures" / "example-configs"
GIB = 1 << 30


def fields(result: Result) -> list[str]:
    return [violation["field"] for violation in result["violations"]]


def test_options(ground: Playground, qemu: Vmm, guest: t.Callable[..., str], disk: str) -> None:
    kernel = guest("halt")
    short = {"vcpus": 2, "max_vcpus": "4", "memory": "256M", "kernel": kernel, "kernel_args": "quiet", "disks": [{"path": disk, "read_only": True}]}
    long = {
        "cpu": {"vcpu_count": 2, "max_vcpu_count": 4},
        "memory": {"size_bytes": 268435456},
        "boot": {"kernel_path": kernel, "kernel_args": "quiet"},
        "storage": [{"path": disk, "is_root_device": True, "read_only": True}],
    }
    asked = {"backend": "qemu"}
    results = ground.play(
        [
            task("short", name="short", **asked, **short),
            task("long", name="long", **asked, config={"config": long}),
            task("long is short", name="short", **asked, config=long),
            task("both, equal", name="short", memory="0.25G", config={"memory": {"size_bytes": 268435456}}),
            task("both, different", name="short", memory="1G", vcpus=3, config={"memory": {"size_bytes": "2G"}, "cpu": {"vcpu_count": 4}}),
            task(
                "all at once",
                name="short",
                config={"cpu": {"vcpu_count": 0}, "memry": {}, "numa": {}, "storage": [{"path": "/x", "readonly": True}]},
                restart_policy={"on_crash": "maybe"},
            ),
            task("nothing to make it from", name="shirt", state="running", backend="qemu"),
            task("nothing to restart", name="shirt", state="restarted", kernel=kernel, backend="qemu"),
            task("lack", name="lack", kernel="/nonexistent/vmlinux", disks=["/nonexistent/disk"], backend="qemu"),
            task("lack, check", name="lack", kernel="/nonexistent/vmlinux", disks=["/nonexistent/disk"], backend="qemu", check=True),
            task("protect", name="short", protected=True),
            task("protected", name="short", state="absent"),
            task("protected, check", name="short", state="absent", check=True),
            task("unprotect", name="short", protected=False),
            task("absent", name="short", state="absent"),
            task("absent again", name="short", state="absent"),
            task("absent for ever", name="never", state="absent", check=True),
            task("serverless", name="job", kernel=kernel, workload="serverless", backend="qemu"),
            task("by label", name="job", labels={"fleet": "a", "n": 1}),
            task("info by label", "vmcp_vm_info", labels={"fleet": "a", "n": "1"}),
            task("info by state", "vmcp_vm_info", states=["running"]),
            task("info of names", "vmcp_vm_info", names=["job", "nobody"]),
        ]
    )
    one, other = results.ok("short")["vm"], results.ok("long")["vm"]
    assert one["config"] == other["config"] and one["config"]["memory"]["size_bytes"] == 268435456
    assert not results.ok("long is short")["changed"] and not results.ok("both, equal")["changed"]
    assert fields(results.refused("both, different", "invalid_argument")) == ["vcpus", "memory"]
    all_at_once = fields(results.refused("all at once", "invalid_argument"))
    assert {"config.cpu.vcpu_count", "config.memry", "config.numa", "config.storage[0].readonly", "restart_policy.on_crash"} <= set(all_at_once)
    said = {v["field"]: v["message"] for v in results["all at once"]["violations"]}
    assert "memory" in said["config.memry"] and "read_only" in said["config.storage[0].readonly"] and "this version" in said["config.numa"]

    assert "short" in results.refused("nothing to make it from", "not_found")["msg"]
    results.refused("nothing to restart", "not_found")
    assert not pathlib.Path(ground.state, "vms", "shirt").exists()
    lack = results.refused("lack", "failed_precondition")
    assert fields(lack) == ["config.boot.kernel_path", "config.storage[0].path"]
    check = results.ok("lack, check")
    assert [need["field"] for need in check["would_need"]] == fields(lack) and check["changed"] and check.touched == []
    assert any("/nonexistent/vmlinux" in str(warning) for warning in check["warnings"])

    results.ok("protect")
    assert "protected: false" in results.refused("protected", "failed_precondition")["msg"]
    results.refused("protected, check", "failed_precondition")
    results.ok("unprotect")
    assert results.ok("absent")["changed"] and not results.ok("absent again")["changed"]
    assert not results.ok("absent for ever")["changed"] and results["absent for ever"].touched == []

    assert results.ok("serverless")["vm"]["autostart"] is False and other["autostart"] is True
    assert [vm["name"] for vm in results.ok("info by label")["vms"]] == ["job"]
    assert results.ok("info by state")["vms"] == []
    found = results.ok("info of names")
    assert ([vm["name"] for vm in found["vms"]], found["missing"]) == (["job"], ["nobody"])


def test_environment_and_choice(ground: Playground, qemu: Vmm, guest: t.Callable[..., str], top: pathlib.Path) -> None:
    kernel = guest("halt")
    elsewhere = {"UNKEY_VMCP_STATE_DIR": f"{top}/other", "UNKEY_VMCP_RUN_DIR": f"{top}/run"}
    results = ground.play(
        [
            task("environment", name="env", kernel=kernel, environment={"UNKEY_VMCP_BACKEND": "qemu"}),
            task("option wins", name="wins", kernel=kernel, backend="qemu", environment={"UNKEY_VMCP_BACKEND": "firecracker"}),
            task("existing VM stays", name="env", state="present", environment={"UNKEY_VMCP_BACKEND": "firecracker"}),
            task("no backend", name="none", kernel=kernel, environment={"UNKEY_VMCP_BACKEND": "xen"}),
            task("auto", name="auto", kernel=kernel, backend="auto", config={"backend_options": {"qemu": {"args": ["-S"]}}}),
            task("auto keeps", name="auto", backend="auto", memory="256M"),
            task("without KVM of hardware", name="plain", kernel=kernel, backend="auto", check=True),
            {
                **task("elsewhere", "vmcp_vm", name="away", state="running", kernel=kernel, backend="qemu", environment=elsewhere),
                "module_defaults": {"group/unkey.vmcp.vmcp": {}},
            },
            {**task("elsewhere, info", "vmcp_vm_info", environment=elsewhere), "module_defaults": {"group/unkey.vmcp.vmcp": {}}},
            {**task("elsewhere, removed", name="away", state="absent", environment=elsewhere), "module_defaults": {"group/unkey.vmcp.vmcp": {}}},
            task("host", "vmcp_host_info"),
        ]
    )
    env = results.ok("environment")
    assert (env["vm"]["backend"], env["backend_reason"]) == ("qemu", "UNKEY_VMCP_BACKEND in the environment")
    assert results.ok("option wins")["backend_reason"] == "asked for"
    assert not results.ok("existing VM stays")["changed"] and results["existing VM stays"]["vm"]["backend"] == "qemu"
    assert "UNKEY_VMCP_BACKEND" in results.refused("no backend", "invalid_argument")["msg"]
    assert results.ok("auto")["vm"]["backend"] == "qemu" and results["auto"]["backend_reason"] not in ("", "asked for")
    assert results.ok("auto keeps")["vm"]["backend"] == "qemu"
    kvm = results.ok("host")["host"]["kvm"]
    if not (kvm["hardware"] and kvm["usable"]):
        chosen = results.ok("without KVM of hardware")
        assert chosen["vm"]["backend"] == "qemu" and "KVM" in chosen["backend_reason"]
    assert results.ok("elsewhere")["changed"]
    away = results.ok("elsewhere, info")
    assert ([(vm["name"], vm["state"]) for vm in away["vms"]], away["state_dir"]) == ([("away", "running")], f"{top}/other/vms")
    assert away["vms"][0]["sockets"]["api"].startswith(f"{top}/run/away/")
    assert results.ok("elsewhere, removed")["changed"]
    assert not [*pathlib.Path(top, "other", "vms").iterdir(), *pathlib.Path(top, "run").iterdir()]


# By configuration and backend: fields with violations, ignored fields, words of the notice.
EXPECTED: dict[tuple[str, str], tuple[list[str], list[str], str]] = {
    ("production", "firecracker"): (["config.boot.kernel_path"], ["config.cpu.max_vcpu_count"], ""),
    ("web-application", "firecracker"): ([], ["config.cpu.max_vcpu_count"], ""),
    ("database-server", "firecracker"): ([], ["config.cpu.max_vcpu_count"], "above the 32GiB"),
    ("lambda-function", "cloudhypervisor"): ([], [], "below the 512MiB"),
}


def has_default_kernel(backend: str) -> bool:
    """Whether this very host names a kernel for VMs without one. The role writes that; a test must not."""
    try:
        boot = json.loads(pathlib.Path("/etc/vmcp/host.json").read_text(encoding="utf-8")).get("boot") or {}
    except FileNotFoundError:
        return False
    return bool((boot.get(backend) or {}).get("kernel"))


def test_example_configurations(ground: Playground) -> None:
    """What users have already is accepted as it is, by C(--check) on a host that has none of their files."""
    options = {backend: use(backend, ground, start=False).options for backend in BACKENDS}
    documents: dict[str, Tree] = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(EXAMPLES.glob("*.json"))}
    assert len(documents) == 6
    steps = [
        task(f"{stem} {backend}", name=stem, backend=backend, config=document, **options[backend])
        for stem, document in documents.items()
        for backend in BACKENDS
    ]
    results = ground.play(steps, arguments=["--check"])
    for stem in documents:
        for backend in BACKENDS:
            result = results[f"{stem} {backend}"]
            assert result.touched == []
            violations, ignored, notice = EXPECTED.get((stem, backend), ([], [], ""))
            if violations and not has_default_kernel(backend):
                assert fields(results.refused(f"{stem} {backend}", "invalid_argument")) == violations
                continue
            results.ok(f"{stem} {backend}")
            assert (result["actions"], result["changed"]) == (["define"], True)
            assert [item["field"] for item in result["ignored"]] == ignored, (stem, backend)
            said = [str(warning) for warning in result.get("warnings", []) if "The host lacks" not in str(warning)]
            if notice:
                assert any(notice in text for text in said), (stem, backend, said)
            else:
                assert len(said) == len(ignored), (stem, backend, said)
    assert not pathlib.Path(ground.state).exists()
