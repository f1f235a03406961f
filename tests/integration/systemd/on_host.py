# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs our modules by Ansible on a host made for the tests, as its root, in the system's directories."""

from __future__ import annotations

import json
import os
import shutil
import sys
import typing as t

from ansible_collections.unkey.vmcp.tests.hosts.nspawn import REPOSITORY, Host

GREETING = "up on a host with systemd"
# Of all hosts here, which so are made from one tree.
PACKAGES = ("qemu-system-x86", "nftables", "dnsmasq-base")
ENVIRON = {"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "ANSIBLE_STDOUT_CALLBACK": "minimal", "ANSIBLE_HOME": "/root/.ansible", "ANSIBLE_NOCOLOR": "1"}


def backends() -> list[str]:
    real = shutil.which("firecracker") and shutil.which("jailer") and os.access("/dev/kvm", os.R_OK | os.W_OK)
    if not real:
        print("Firecracker under systemd is left out: firecracker and jailer are not both on PATH, or /dev/kvm does not open")
    return ["qemu", "firecracker"] if real else ["qemu"]


def task(host: Host, module: str, check: bool = True, **options: t.Any) -> dict[str, t.Any]:
    """Runs one module ad hoc on the host; its result."""
    if "wait_for" in options:
        # The default is for hosts that have nothing else to do.
        options.setdefault("wait_timeout", 600)
    command = [
        sys.executable,
        "-m",
        "ansible",
        "adhoc",
        "-i",
        "localhost,",
        "-c",
        "local",
        "localhost",
        "-m",
        f"unkey.vmcp.{module}",
        *(("-a", json.dumps(options)) if options else ()),
    ]
    done = host.run([*command, "-e", f"ansible_python_interpreter={sys.executable}"], environ=ENVIRON, timeout_s=900, check=False)
    body = done.stdout[done.stdout.index("{") :] if "{" in done.stdout else ""
    assert body, done.stdout + done.stderr
    result: dict[str, t.Any] = json.loads(body)
    assert done.returncode == 0 or not check, result
    return result
