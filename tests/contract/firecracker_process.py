# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts Firecracker for the contract tests: the fake and, where there is one, the real binary, from the same launch specifications.

What the launch file does on a host is done here in its simplest form: documents written, stdout in the console log, nothing isolated.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import typing as t

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.firecracker.driver import Driver
from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import Isolation, LaunchSpec, Paths
from ansible_collections.unkey.vmcp.plugins.module_utils.backends.vmm_socket import connect
from ansible_collections.unkey.vmcp.plugins.module_utils.model.config import VmConfig
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.tests.contract.vmm_process import GREETING, VmmProcess, binaries, why_not_real
from ansible_collections.unkey.vmcp.tests.fakes import firecracker as fake
from ansible_collections.unkey.vmcp.tests.waiting import soon, until

_WHY_NOT = why_not_real("firecracker")
BINARIES = binaries("Firecracker", _WHY_NOT)


class Vmm(VmmProcess):
    """One Firecracker, fake or real, in a directory of the test."""

    def __init__(self, which: str, directory: pathlib.Path) -> None:
        super().__init__(which, directory, Driver())
        self.binary = str(fake.install(directory)) if which == "fake" else t.cast(str, shutil.which("firecracker"))

    def definition(self, **generated: t.Any) -> Definition:
        return Definition(name="web-1", backend="firecracker", backend_version=fake.VERSION, binary=self.binary, config={}, generated=generated)

    def launch(self, config: VmConfig, metadata: t.Any = None, **generated: t.Any) -> LaunchSpec:
        definition = self.definition(**generated)
        paths = Paths(files={use.alias: use.path for use in self.driver.uses(definition, config)[0]}, sockets="vmm")
        return self.driver.launch(definition, config, paths, Isolation(uid=None, jail=False, seccomp=True), self.layout, metadata)

    def start(self, config: VmConfig, metadata: t.Any = None, **generated: t.Any) -> LaunchSpec:
        """Starts the process and waits for its socket; the guest's greeting is not waited for."""
        spec = self.launch(config, metadata, **generated)
        for name, text in spec.documents.items():
            pathlib.Path(self.layout.document(name)).write_text(text, encoding="utf-8")
        self.run(spec.argv)
        return spec

    def run(self, argv: t.Sequence[str], **environment: str) -> None:
        assert self.process is None, "one process per Vmm"
        # The real one, as root, makes the taps that are missing: not in the host's own network.
        prefix = ("unshare", "--net", "--") if self.which == "real" and os.geteuid() == 0 else ()
        pathlib.Path(self.layout.vmm_log).touch()
        with open(self.layout.console_log, "wb") as console, open(f"{self.layout.dir}/stderr", "wb") as stderr:
            self.process = subprocess.Popen(
                [*prefix, *argv], cwd=self.layout.run, stdin=subprocess.DEVNULL, stdout=console, stderr=stderr, env={**os.environ, **environment}
            )
        until(lambda: pathlib.Path(self.socket).exists() or self.ended(), "an API socket")

    def empty(self, **environment: str) -> None:
        """A process without a VM, as somebody else would run it for an endpoint."""
        self.run((self.binary, "--api-sock", "vmm/api.sock", "--id", "web-1", "--log-path", self.layout.vmm_log), **environment)
        until(self._answers, "an answer")

    def greeted(self) -> None:
        until(lambda: GREETING in self.console, "the greeting")
        until(self._answers, "an answer")

    def _answers(self) -> bool:
        try:
            connect(self.socket, soon()).close()
        except OSError:
            # Not made yet, or made and not listened on yet.
            return False
        return True

    def state(self) -> str:
        return self.driver.observe(self.socket, soon(), os.geteuid()).state
