# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The workflow provision, verify, publish or roll back, as AWX starts it: ansible-runner, a private data directory, extra variables as surveys give them,
and what the events and artifacts say read back and handed to the next node."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import typing as t

from ansible_collections.unkey.vmcp.tests.integration.e2e.harness import ROOT
from ansible_collections.unkey.vmcp.tests.integration.fleet.hosts import Hosts, Tree


@dataclasses.dataclass
class Job:
    """C(artifacts): what set_stats handed on; AWX gives it to the next nodes as extra variables."""

    status: str
    events: list[Tree]
    artifacts: Tree


def job(hosts: Hosts, number: int, playbook: str, extra_vars: Tree, *arguments: str) -> Job:
    private = hosts.top / f"awx_{number}"
    for name in ("project", "inventory", "env"):
        (private / name).mkdir(parents=True)
    (private / "project" / "playbooks").symlink_to(ROOT / "playbooks")
    (private / "inventory" / "hosts.json").write_text(json.dumps(hosts.inventory()))
    (private / "env" / "extravars").write_text(json.dumps(extra_vars))
    (private / "env" / "envvars").write_text(json.dumps({"ANSIBLE_COLLECTIONS_PATH": str(ROOT), "ANSIBLE_NOCOLOR": "1", "HOME": str(hosts.top)}))
    (private / "env" / "settings").write_text(json.dumps({"suppress_ansible_output": True, "job_timeout": 500}))
    words = [sys.executable, "-m", "ansible_runner", "run", str(private), "--playbook", playbook, "--ident", "job", "--cmdline", " ".join(arguments)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "UNKEY_VMCP_"))}
    environment["PATH"] = os.pathsep.join((*hosts.path, str(pathlib.Path(sys.executable).parent), environment["PATH"]))
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=550, check=False, stdin=subprocess.DEVNULL)
    artifacts = private / "artifacts" / "job"
    assert (artifacts / "status").exists(), done.stdout + done.stderr
    events = [json.loads(path.read_text()) for path in (artifacts / "job_events").glob("*.json")]
    (stats,) = [event for event in events if event["event"] == "playbook_on_stats"]
    return Job((artifacts / "status").read_text(), events, t.cast("Tree", stats["event_data"].get("artifact_data") or {}))


# What the surveys of the job templates hand on when nobody changes an answer.
SITE = {"vmcp_hosts": "", "vmcp_fenced_hosts": "", "vmcp_placement_moves": "false", "vmcp_fleet_prune": "false"}
VERIFY = {"vmcp_hosts": "", "vmcp_verify_settle": 0}


def test_provision_verify_publish(hosts: Hosts, vm: Tree) -> None:
    hosts.common |= {"vmcp_fleet_defaults": vm, "vmcp_fleet": [{"name": "web-{index}", "count": 2}]}
    made = job(hosts, 1, "playbooks/site.yml", SITE, "--skip-tags hosts")
    assert made.status == "successful"
    assert sorted(name for host in made.artifacts["vmcp_site"]["hosts"].values() for name in host["changed"]) == ["web-0", "web-1"]
    started = [event for event in made.events if event["event"] == "runner_on_ok" and event["event_data"]["task"] == "Make the fleet's VMs of this host"]
    assert started and all(event["event_data"]["res"]["changed"] for event in started)
    verified = job(hosts, 2, "playbooks/verify.yml", VERIFY | made.artifacts)
    assert verified.status == "successful"
    assert sorted(name for names in verified.artifacts["vmcp_verify"].values() for name in names) == ["web-0", "web-1"]
    file = hosts.top / "published.json"
    told = job(hosts, 3, "playbooks/publish.yml", {"vmcp_hosts": "", "vmcp_publish_file": str(file)} | made.artifacts | verified.artifacts)
    assert told.status == "successful" and json.loads(file.read_text()) == told.artifacts["vmcp_publish"]
    assert set(told.artifacts["vmcp_publish"]) == {"web-0", "web-1"} and told.artifacts["vmcp_publish"]["web-0"]["backend"] == vm["backend"]


def test_what_does_not_verify_is_rolled_back(hosts: Hosts, vm: Tree) -> None:
    hosts.common |= {"vmcp_vm_defaults": vm, "vmcp_vms": ["old"]}
    assert job(hosts, 1, "playbooks/site.yml", SITE, "--skip-tags hosts,fleet").status == "successful"
    hosts.common["vmcp_vms"] = ["old", "new"]
    made = job(hosts, 2, "playbooks/site.yml", SITE, "--skip-tags hosts,fleet")
    assert made.status == "successful"
    os.kill(int(pathlib.Path(hosts.ground("h2").run_dir, "new", "pid").read_text().split()[0]), 9)
    verified = job(hosts, 3, "playbooks/verify.yml", VERIFY | made.artifacts)
    assert verified.status == "failed"
    failed = [event["event_data"]["res"]["msg"] for event in verified.events if event["event"] == "runner_on_failed"]
    assert failed == ["h2: new has crashed."]
    back = job(hosts, 4, "playbooks/rollback.yml", made.artifacts)
    assert back.status == "successful" and back.artifacts["vmcp_rollback"] == {name: ["new"] for name in hosts.names}
    assert hosts.vms() == {name: {"old": "running"} for name in hosts.names}
