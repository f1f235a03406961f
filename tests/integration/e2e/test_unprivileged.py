# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same VMs as a user who is not root: definitions below the home directory, no uid of their own, nothing that needs a privilege."""

from __future__ import annotations

import os
import pathlib
import shutil
import typing as t

import pytest

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import GREETING, Playground, Result, Tree, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import BACKENDS, use, vmm, why_not_for_others
from ansible_collections.unkey.vmcp.tests.venvs import python_for_others

# Of nobody on the hosts on which tests run.
UID = 64321
# /dev/kvm as this user could have it, in a mount namespace of the test: a node over the host's, of whom it is said.
_WITH_KVM = """
mknod --mode 0600 "$0" c $(stat -c '0x%t 0x%T' /dev/kvm) && chown "$1" "$0" && mount --bind "$0" /dev/kvm || exit 99
shift
exec "$@"
"""


def as_user(ground: Playground, kvm: bool, kvm_owner: int = UID) -> None:
    """From here on Ansible runs as an unprivileged user: ourselves, when we are one. C(kvm): with a /dev/kvm that is C(kvm_owner)'s alone."""
    if os.geteuid() != 0:
        return
    for name in ("setpriv", "unshare", "mknod"):
        if shutil.which(name) is None:
            pytest.skip(f"there is no {name} on PATH")
    lack = why_not_for_others()
    if lack:
        pytest.skip(f"Ansible cannot be run as another user: {lack}")
    ground.python = python_for_others()
    os.chown(ground.top, UID, UID)
    for path in ground.top.iterdir():
        os.chown(path, UID, UID)
    drop = ("setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", "--inh-caps=-all", "--")
    ground.prefix = ("unshare", "--mount", "--", "sh", "-c", _WITH_KVM, str(ground.top / "kvm"), str(kvm_owner), *drop) if kvm else drop


@pytest.fixture(params=BACKENDS)
def options(request: pytest.FixtureRequest, ground: Playground, guest: t.Callable[..., str], disk: str) -> Tree:
    use(request.param, ground)
    made = {"backend": request.param, "memory": "128M", "kernel": guest("polite"), "disks": [disk]}
    if request.param == "firecracker":
        made["security"] = {"jail": False}
    as_user(ground, kvm=request.param != "qemu")
    return made


def test_the_life_of_a_vm(ground: Playground, options: Tree, top: pathlib.Path) -> None:
    # The real Cloud Hypervisor asks by ACPI, which this guest does not speak.
    in_vain = options["backend"] == "cloudhypervisor" and vmm("cloudhypervisor").real

    def step(title: str, state: str, check: bool = False, **more: t.Any) -> Tree:
        return task(title, name="user", state=state, check=check, shutdown_timeout=2 if in_vain else 60, **more)

    plan: list[tuple[str, str, list[str], Tree]] = [
        ("boot", "running", ["define", "start"], {**options, "wait_for": [{"console": GREETING}]}),
        ("pause", "paused", ["pause"], {}),
        ("resume", "running", ["resume"], {}),
        ("restart", "restarted", ["shutdown", "start"], {"wait_for": [{"console": GREETING}]}),
        ("shut down", "shutdown", ["shutdown"], {}),
        ("boot again", "running", ["start"], {"wait_for": [{"console": GREETING}]}),
        ("remove", "absent", ["shutdown", "remove"], {}),
    ]
    steps = []
    for title, state, _actions, more in plan:
        steps += [step(f"{title}: check", state, True, **more), step(title, state, **more)]
        steps += [step(f"{title}: again", state, **more)] if state != "restarted" else []
    results = ground.play(steps)
    for title, state, actions, _more in plan:
        predicted, done = results.ok(f"{title}: check"), results.ok(title)
        assert done["actions"] == predicted["actions"] == actions and done["diff"] == predicted["diff"]
        assert predicted.touched == []
        if state != "restarted":
            assert not results.ok(f"{title}: again")["changed"]
    running = results["boot"]["vm"]
    assert (running["uid"], running["supervisor"]) == (None, "plain")


def test_defaults_and_refusals(ground: Playground, guest: t.Callable[..., str]) -> None:
    use("qemu", ground)
    kernel = guest("halt")
    as_user(ground, kvm=False)

    def bare(made: Tree) -> Tree:
        return {**made, "module_defaults": {"group/unkey.vmcp.vmcp": {}}}

    home = f"{ground.top}/.local/state/vmcp"
    results = ground.play(
        [
            bare(task("nothing", "vmcp_vm_info")),
            bare(task("not found", name="user", state="running", backend="qemu")),
            bare(task("console not found", "vmcp_console", name="user")),
            bare(task("define", name="user", backend="qemu", kernel=kernel)),
            bare(task("info", "vmcp_vm_info")),
            bare(task("remove", name="user", state="absent")),
            task("uid", name="uid", backend="qemu", kernel=kernel, security={"uid": 70000}),
            task("systemd", name="unit", backend="qemu", kernel=kernel, supervisor="systemd"),
            task("closed directory", name="root", backend="qemu", kernel=kernel, state_dir="/var/lib/vmcp"),
            task("host", "vmcp_host_info"),
        ]
    )
    nothing = results.ok("nothing")
    assert (nothing["vms"], nothing["state_dir"]) == ([], f"{home}/vms") and "become" in nothing["hint"]
    for name in ("not found", "console not found"):
        missed = results.refused(name, "not_found")
        assert f"{home}/vms" in missed["msg"] and "become: true" in missed["msg"], missed["msg"]
    assert results.ok("define")["changed"] and [vm["name"] for vm in results.ok("info")["vms"]] == ["user"]
    assert results.ok("remove")["changed"] and not list(pathlib.Path(home, "vms").iterdir())
    assert fields(results.refused("uid", "invalid_argument")) == ["security.uid"]
    assert fields(results.refused("systemd", "invalid_argument")) == ["supervisor"]
    closed: Result = results["closed directory"]
    assert closed.failed and closed["code"] in ("failed_precondition", "unavailable") and "/var/lib/vmcp" in closed["msg"]
    results.ok("host")


def test_kvm_that_is_denied(ground: Playground, guest: t.Callable[..., str]) -> None:
    use("firecracker", ground)
    kernel = guest("halt")
    if os.geteuid() != 0:
        pytest.skip("only root can take /dev/kvm away from a user")
    as_user(ground, kvm=True, kvm_owner=0)
    given = {"name": "user", "state": "running", "backend": "firecracker", "memory": "128M", "kernel": kernel, "security": {"jail": False}}
    results = ground.play([task("check", check=True, **given), task("boot", **given), task("host", "vmcp_host_info")])
    refused = results.refused("boot", "failed_precondition")
    for said in (str(refused["violations"]), str(results.ok("check")["would_need"])):
        assert "/dev/kvm" in said and "group" in said, said
    assert results.ok("host")["host"]["kvm"] == {"present": True, "usable": False, "hardware": False}
    (lack,) = (lack for lack in results["host"]["host"]["lacks"] if lack["what"] == "kvm")
    assert "Permission denied" in lack["message"] and "join the group that owns it" in lack["remedy"]
    assert not pathlib.Path(ground.state, "vms", "user").exists()


def fields(result: Result) -> list[str]:
    return [violation["field"] for violation in result["violations"]]
