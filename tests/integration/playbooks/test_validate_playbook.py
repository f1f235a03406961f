# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The validate playbook as a pipeline runs it: through ansible-playbook, on this machine, without a host."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import typing as t

ROOT = pathlib.Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "tests" / "fixtures" / "example-configs"


def _validate(cwd: pathlib.Path, **variables: t.Any) -> tuple[int, str]:
    """Exit code and output, with the line breaks of wrapped messages as blanks."""
    command = [str(pathlib.Path(sys.executable).with_name("ansible-playbook")), "unkey.vmcp.validate", "-e", json.dumps(variables)]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_COLLECTIONS_PATH": str(ROOT), "PWD": str(cwd), "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)


def test_good_configurations_pass() -> None:
    code, output = _validate(EXAMPLES, vmcp_validate_files=["web-*.json", str(EXAMPLES / "ci-runner.json")])
    assert code == 0, output
    assert "ci-runner.json cloudhypervisor accepted; could run on cloudhypervisor, firecracker, qemu" in output
    assert "web-application.json cloudhypervisor accepted" in output


def test_all_violations_of_all_files_fail_the_play(tmp_path: pathlib.Path) -> None:
    (tmp_path / "one.json").write_text('{"config": {"memory": {"size": "1G"}}}')
    (tmp_path / "two.yml").write_text("cpu: {vcpu_count: 0}\nboot: {kernel_path: /k}\nconsole: {output: 'tty'}\n")
    (tmp_path / "three.yml").write_text("boot: {kernel_path: /k}\nconsole: {output: tty}\n")
    (tmp_path / "torn.json").write_text('{"config": ')
    code, output = _validate(tmp_path, vmcp_validate_files=["*.json", "*.yml"], vmcp_validate_backend="firecracker", vmcp_validate_version="1.16.1")
    assert code != 0
    assert "6 violations: " in output
    assert "one.json (firecracker): config.memory.size: is no key of the configuration. Did you mean 'size_bytes'?" in output
    assert "two.yml (firecracker): config.cpu.vcpu_count: must be at least 1." in output
    assert "three.yml (firecracker): config.console.output: 'tty' is not supported by Firecracker" in output
    assert "one.json (firecracker): config.boot.kernel_path: is required by Firecracker" in output
    assert "two.yml (firecracker): config.console.output: 'tty' is not supported" in output
    assert "torn.json (firecracker): config: cannot be read as JSON or YAML" in output


def test_several_backends_at_once() -> None:
    code, output = _validate(EXAMPLES, vmcp_validate_files="production.json", vmcp_validate_backend=["cloudhypervisor", "firecracker", "qemu"])
    assert code != 0
    assert "production.json cloudhypervisor accepted" in output
    assert "production.json firecracker refused, violations: 1" in output
    assert "1 violation: production.json (firecracker): config.boot.kernel_path" in output


def test_hosts_with_a_default_kernel() -> None:
    code, output = _validate(EXAMPLES, vmcp_validate_files="production.json", vmcp_validate_backend="firecracker", vmcp_validate_host_kernel=True)
    assert code == 0, output
    assert "ignored config.cpu.max_vcpu_count" in output


def test_nothing_to_validate_is_an_error(tmp_path: pathlib.Path) -> None:
    code, output = _validate(tmp_path, vmcp_validate_files="*.json")
    assert code != 0 and f"No file matches *.json (from {tmp_path})" in output
    code, output = _validate(tmp_path)
    assert code != 0 and "Say which files" in output
