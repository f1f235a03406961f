# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts Cloud Hypervisor for the contract tests: the fake and, where there is one, the real binary, from the same launch specifications.

What the launch file does on a host is done here in its simplest form: documents written, stdout in the console log, the commands after the start
run one by one; with a uid of its own, in a mount and a network namespace of the test.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.cloudhypervisor.driver import Driver
from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import Isolation, LaunchSpec, Paths
from ansible_collections.unkey.vmcp.plugins.module_utils.model.config import VmConfig
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.tests.contract.vmm_process import GREETING, VmmProcess, binaries, why_not_real
from ansible_collections.unkey.vmcp.tests.fakes import ch_remote
from ansible_collections.unkey.vmcp.tests.fakes import cloudhypervisor as fake
from ansible_collections.unkey.vmcp.tests.fakes.openapi import find
from ansible_collections.unkey.vmcp.tests.waiting import PATIENCE_S, soon, until

UID = 70001
TAP = "vmtest0"


def why_not_jailed() -> str | None:
    if os.geteuid() != 0:
        return "not root"
    for name in ("setpriv", "unshare", "ip"):
        if shutil.which(name) is None:
            return f"there is no {name} on PATH"
    lsm = pathlib.Path("/sys/kernel/security/lsm")
    if lsm.is_file() and "landlock" not in lsm.read_text():
        return "this kernel runs without Landlock"
    return None


_WHY_NOT = why_not_real("cloud-hypervisor", "ch-remote")
BINARIES = binaries("Cloud Hypervisor", _WHY_NOT)
REAL_JAILED = [
    pytest.mark.root,
    pytest.mark.real,
    pytest.mark.skipif(_WHY_NOT is not None, reason=f"real Cloud Hypervisor not run: {_WHY_NOT}"),
    pytest.mark.skipif(why_not_jailed() is not None, reason=f"Landlock and a uid of its own not tried: {why_not_jailed()}"),
]

# Device nodes of the VM's uid over those of the host, as the launch file makes them, and a tap of it; nothing of it outlives the namespaces.
_JAIL = f"""
for node in kvm net/tun; do
    own=$0/dev_${{node#net/}}
    cp -a /dev/$node "$own" && chown {UID} "$own" && mount --bind "$own" /dev/$node
done
mount -t sysfs sysfs /sys
ip tuntap add dev {TAP} mode tap user {UID}
ip link set dev {TAP} mtu 1400 up
exec setpriv --reuid {UID} --regid {UID} --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all -- "$@"
"""


class Vmm(VmmProcess):
    """One Cloud Hypervisor, fake or real, in a directory of the test."""

    def __init__(self, which: str, directory: pathlib.Path) -> None:
        super().__init__(which, directory, Driver())
        self.binary = str(fake.install(directory)) if which == "fake" else t.cast(str, shutil.which("cloud-hypervisor"))
        self.remote = str(ch_remote.install(directory)) if which == "fake" else t.cast(str, shutil.which("ch-remote"))
        document = "" if which == "real" or find(fake.DOCUMENT) else " (not checked against the API document, which is not beside the clone)"
        print(f"runs the {which} Cloud Hypervisor{document}")

    def definition(self, **generated: t.Any) -> Definition:
        helpers = {"ch-remote": self.remote}
        return Definition(
            name="web-1", backend="cloudhypervisor", backend_version=fake.VERSION, binary=self.binary, config={}, helpers=helpers, generated=generated
        )

    def launch(self, config: VmConfig, isolation: Isolation | None = None, **generated: t.Any) -> LaunchSpec:
        definition = self.definition(**generated)
        paths = Paths(files={use.alias: use.path for use in self.driver.uses(definition, config)[0]}, sockets="vmm")
        return self.driver.launch(definition, config, paths, isolation or Isolation(uid=None, jail=False, seccomp=True), self.layout, None)

    def start(self, config: VmConfig, **generated: t.Any) -> LaunchSpec:
        """Starts, creates and boots as a launch file would; the guest's greeting is not waited for."""
        spec = self.launch(config, **generated)
        self.run(spec.argv, **spec.environment)
        self.after_start(spec)
        return spec

    def start_jailed(self, config: VmConfig, **generated: t.Any) -> LaunchSpec:
        """The same with a uid of its own and Landlock, in namespaces with a tap (C(TAP)) of that uid."""
        spec = self.launch(config, Isolation(uid=UID, jail=True, seccomp=True), **generated)
        for directory in (self.directory, pathlib.Path(self.layout.run).parent, pathlib.Path(self.layout.run)):
            directory.chmod(0o711)
        os.chown(self.layout.sockets, UID, UID)
        for use in spec.files:
            os.chmod(use.path, 0o644)
            if use.writable:
                os.chown(use.path, UID, UID)
        self.run(("unshare", "--mount", "--net", "--propagation", "private", "--", "sh", "-euc", _JAIL, str(self.directory), *spec.argv), **spec.environment)
        self.after_start(spec)
        return spec

    def after_start(self, spec: LaunchSpec) -> None:
        for name, text in spec.documents.items():
            pathlib.Path(self.layout.document(name)).write_text(text, encoding="utf-8")
        for command in spec.after_start:
            done = self.command(command)
            assert done.returncode == 0, f"{command}: {done.stderr}\n{self.log}"

    def command(self, command: t.Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=self.layout.run, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    def run(self, argv: t.Sequence[str], **environment: str) -> None:
        assert self.process is None, "one process per Vmm"
        with open(self.layout.console_log, "ab") as console, open(self.layout.vmm_log, "ab") as log:
            self.process = subprocess.Popen(argv, cwd=self.layout.run, stdin=subprocess.DEVNULL, stdout=console, stderr=log, env={**os.environ, **environment})
        # A stale socket may have the name already, and a new one has it a moment before it is served.
        until(lambda: self.ended() or self._is_served(), "an API socket that is served")
        assert not self.ended(), self.log

    def empty(self, **environment: str) -> None:
        """A process without a VM, as somebody else would run it for an endpoint."""
        self.run((self.binary, "--api-socket", "path=vmm/api.sock"), **environment)

    def _is_served(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(os.path.relpath(self.socket))
            return True
        return False

    def greeted(self) -> None:
        until(lambda: GREETING in self.console, "the greeting")

    def state(self) -> str:
        return self.driver.observe(self.socket, soon(), None).state
