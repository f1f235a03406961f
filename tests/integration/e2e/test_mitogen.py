# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our modules under Mitogen for Ansible, which runs task after task in one Python that stays: nothing of a task may be left there for the next.

In an environment of its own, with pinned versions; made once and kept.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.model.words import COLLECTION_VERSION
from ansible_collections.unkey.vmcp.tests.integration.e2e import vmms
from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import GREETING, ROOT, Playground, Result, Tree, task
from ansible_collections.unkey.vmcp.tests.integration.e2e.vmms import Vmm
from ansible_collections.unkey.vmcp.tests.venvs import VenvUnavailable, venv

PACKAGES = ("ansible-core==2.19.14", "mitogen==0.3.54")
MANY = 6


@pytest.fixture(scope="module")
def python() -> pathlib.Path:
    try:
        return venv(PACKAGES, ROOT / "requirements.txt")
    except VenvUnavailable as exc:
        pytest.skip(str(exc))


@pytest.fixture
def mitogen(ground: Playground, python: pathlib.Path) -> Playground:
    """The playground, with every play of it under Mitogen."""
    (plugins,) = python.parents[1].glob("lib/python*/site-packages/ansible_mitogen/plugins/strategy")
    ground.python = str(python)
    ground.environment |= {"ANSIBLE_STRATEGY_PLUGINS": str(plugins), "ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_DEPRECATION_WARNINGS": "false"}
    return ground


@pytest.fixture
def vmm(mitogen: Playground) -> Vmm:
    """Firecracker where the real one can be started, else QEMU."""
    firecracker = vmms.vmm("firecracker")
    return vmms.use("firecracker" if firecracker.real and vmms.why_not_started(firecracker) is None else "qemu", mitogen)


@pytest.fixture
def defaults(vmm: Vmm, guest: t.Callable[..., str]) -> Tree:
    return {"backend": vmm.backend, "memory": "128M", "kernel": guest("halt"), "shutdown_timeout": 0, **vmm.options}


def interpreter(title: str) -> Tree:
    """Tells, by a module of Ansible's own, which process runs the modules and how many files it may open."""
    return {"name": title, "ansible.builtin.command": "sh -c 'echo $PPID $(ulimit -n)'", "changed_when": False}


def said(result: Result) -> list[str]:
    return t.cast(str, result["stdout"]).split()


def test_a_vm_and_many_through_one_interpreter(mitogen: Playground, defaults: Tree) -> None:
    running = {**defaults, "name": "one", "state": "running", "wait_for": [{"console": GREETING}]}
    fleet = {**defaults, "name": "fn-{index}", "count": MANY}
    results = mitogen.play(
        [
            interpreter("before"),
            task("would start", check=True, **running),
            task("start", **running),
            task("same", **running),
            task("would change nothing", check=True, **running),
            task("refused", name="one", config={"cpu": {"vcpu_count": "two"}}),
            task("would restart", check=True, name="one", memory="192M", allow_disruption="restart"),
            task("info", "vmcp_vm_info", names=["one"]),
            task("many would start", "vmcp_vms", check=True, vms=[{**fleet, "state": "running"}], overcommit=True),
            task("many start", "vmcp_vms", vms=[{**fleet, "state": "running"}], overcommit=True, wait_timeout=600),
            task("many same", "vmcp_vms", vms=[{**fleet, "state": "running"}], overcommit=True, wait_timeout=600),
            task("console", "vmcp_console", name="fn-1", lines=5),
            task("stop", name="one", state="shutdown", shutdown_timeout=0),
            task("stop again", name="one", state="shutdown"),
            task("many would go", "vmcp_vms", check=True, vms=[{**fleet, "state": "absent"}]),
            task("many go", "vmcp_vms", vms=[{**fleet, "state": "absent"}]),
            task("go", name="one", state="absent"),
            task("gone", "vmcp_vm_info"),
            interpreter("after"),
        ]
    )
    assert said(results["before"]) == said(results["after"]), "all in one process, which may open no more files than before"
    would = results.ok("would start")
    assert (would["changed"], would["actions"], would.touched) == (True, ["define", "start"], [])
    assert results.ok("start")["actions"] == ["define", "start"]
    for title in ("same", "would change nothing"):
        assert (results.ok(title)["changed"], results[title]["actions"]) == (False, []), title
    assert [found["field"] for found in results.refused("refused", "invalid_argument")["violations"]] == ["config.cpu.vcpu_count"]
    assert results.ok("would restart")["disruption"] == "restart"
    assert [vm["state"] for vm in results.ok("info")["vms"]] == ["running"]

    assert results.ok("many would start")["summary"]["started"] == MANY
    assert results.ok("many start")["summary"]["started"] == MANY
    assert results.ok("many same")["summary"]["unchanged"] == MANY
    assert GREETING in json.dumps(results.ok("console"))
    assert results.ok("stop")["vm"]["state"] == "shutdown"
    assert results.ok("stop again")["changed"] is False
    assert results.ok("many would go").touched == []
    assert results.ok("many go")["summary"]["removed"] == MANY
    assert results.ok("go")["actions"] == ["remove"]
    assert results.ok("gone")["vms"] == []


def test_what_a_task_is_given_is_not_there_for_the_next(mitogen: Playground, vmm: Vmm, defaults: Tree) -> None:
    """Its environment, its warnings, and what would be remembered of a VM that is made anew with other values."""
    unsaid = {key: value for key, value in defaults.items() if key != "backend"}
    results = mitogen.play(
        [
            task("nonsense", check=True, environment={"UNKEY_VMCP_BACKEND": "nonsense"}, name="one", **unsaid),
            task("by environment", environment={"UNKEY_VMCP_BACKEND": vmm.backend}, name="one", labels={"made": "first"}, **unsaid),
            task("removed", name="one", state="absent"),
            task("second", name="one", **{**defaults, "memory": "192M"}),
            task("info", "vmcp_vm_info", names=["one"]),
        ]
    )
    assert results["nonsense"].failed and "UNKEY_VMCP_BACKEND" in results["nonsense"]["msg"]
    assert results.ok("by environment")["vm"]["backend"] == vmm.backend
    assert results.ok("removed")["changed"] and results.ok("second")["changed"]
    (found,) = results.ok("info")["vms"]
    assert (found["config"]["memory"]["size_bytes"], found["labels"]) == (192 << 20, {})
    assert not results["second"].get("warnings") and not results["info"].get("warnings")


@pytest.fixture
def bare(mitogen: Playground, python: pathlib.Path, top: pathlib.Path) -> Playground:
    """Modules run by a Python without libraries, on a host whose /opt is empty: for these plays alone."""
    if os.geteuid() != 0:
        pytest.skip("only root can have an /opt of its own")
    if pathlib.Path(sys.base_prefix).is_relative_to("/opt"):
        pytest.skip(f"an empty /opt would hide the Python of these tests, {sys.base_prefix}")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(top / "bare")], check=True, timeout=600)
    mitogen.modules_python = str(top / "bare" / "bin" / "python")
    mitogen.prefix = ("unshare", "--mount", "--propagation", "slave", "sh", "-c", 'mount -t tmpfs none /opt && exec "$@"', "sh")
    return mitogen


def test_a_runtime_that_is_installed_between_two_tasks_is_found(bare: Playground, python: pathlib.Path, guest: t.Callable[..., str]) -> None:
    """As a play does that applies the role vmcp_host after something else. Mitogen has loaded the models without their library by then."""
    vmms.use("qemu", bare, start=False)
    (libraries,) = python.parents[1].glob("lib/python*/site-packages")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    directory = f"/opt/vmcp/runtime/{COLLECTION_VERSION}-0123456789abcdef"
    manifest = json.dumps({"python": version, "interpreter": bare.modules_python, "files": {}})
    vm = {"name": "one", "backend": "qemu", "kernel": guest("halt"), "memory": "128M"}
    steps = [
        interpreter("before"),
        task("without", **vm),
        {"name": "a place", "ansible.builtin.file": {"path": directory, "state": "directory", "mode": "0755"}},
        {"name": "libraries", "ansible.builtin.file": {"path": f"{directory}/lib", "src": str(libraries), "state": "link"}},
        {"name": "manifest", "ansible.builtin.copy": {"dest": f"{directory}/RUNTIME.json", "content": manifest, "mode": "0644"}},
        task("with", **vm),
        task("again", **vm),
        task("gone", name="one", state="absent"),
        interpreter("after"),
    ]
    results = bare.play(steps)
    assert said(results["before"]) == said(results["after"])
    assert "pydantic is missing" in results.refused("without", "failed_precondition")["msg"]
    assert results.ok("with")["actions"] == ["define"]
    assert results.ok("again")["changed"] is False
    assert results.ok("gone")["actions"] == ["remove"]
