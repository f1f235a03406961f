# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts real QEMUs for the contract tests, from the launch specifications of the driver.

What the launch file does on a host is done here in its simplest form: stdout in the console log, a uid by setpriv. C(test_qemu_on_host.py) has the real one.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import Isolation, LaunchSpec, Observed, Paths
from ansible_collections.unkey.vmcp.plugins.module_utils.backends.qemu.driver import Driver
from ansible_collections.unkey.vmcp.plugins.module_utils.errors import Unavailable
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout
from ansible_collections.unkey.vmcp.plugins.module_utils.model.config import VmConfig
from ansible_collections.unkey.vmcp.plugins.module_utils.model.definition import Definition
from ansible_collections.unkey.vmcp.tests import guests, linux_guest
from ansible_collections.unkey.vmcp.tests.contract.vmm_process import Started
from ansible_collections.unkey.vmcp.tests.waiting import PATIENCE_S, soon, until

BINARY = shutil.which("qemu-system-x86_64")
needs_qemu = pytest.mark.skipif(BINARY is None, reason="real QEMU not run: there is no qemu-system-x86_64 on PATH")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

GREETING = "hello from the guest"
LINUX_GREETING = "hello from linux"


class Vm(Started):
    """One QEMU in a directory of the test. TCG: what runs everywhere."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.driver = Driver()
        self.layout = Layout(state_dir=str(directory / "state"), run_dir=str(directory / "run")).vm("web-1")
        self.uid: int | None = None
        for needed in (self.layout.data, self.layout.sockets):
            pathlib.Path(needed).mkdir(parents=True)

    # --- what the VM is ------------------------------------------------------------------------------------
    def tiny(self, then: str = "halt", **parts: t.Any) -> dict[str, t.Any]:
        """A configuration whose guest greets and then does C(then) (see C(guests.THEN))."""
        kernel = self.directory / f"{then}.elf"
        kernel.write_bytes(guests.pvh_guest(GREETING, then))
        kernel.chmod(0o644)
        return {"memory": {"size_bytes": "128M"}, **parts, "boot": {"kernel_path": str(kernel), **parts.get("boot", {})}}

    def linux(self, args: str = "", **parts: t.Any) -> dict[str, t.Any]:
        try:
            guest = linux_guest.linux_guest(linux_guest.cache_directory(), LINUX_GREETING)
        except linux_guest.GuestUnavailable as exc:
            pytest.skip(f"no Linux guest: {exc}")
        boot = {"kernel_path": str(guest.kernel), "initrd_path": str(guest.initrd), "kernel_args": f"console=ttyS0 quiet {args}".strip()}
        return {"memory": {"size_bytes": "256M"}, **parts, "boot": boot}

    def disk(self, name: str = "disk.img", size: int = 1 << 20) -> str:
        path = self.directory / name
        with path.open("wb") as stream:
            stream.truncate(size)
        return str(path)

    def launch(self, config: dict[str, t.Any], workload: str | None = None, restart_policy: dict[str, t.Any] | None = None, **generated: t.Any) -> LaunchSpec:
        model = VmConfig.model_validate(config)
        definition = Definition(
            name="web-1",
            backend="qemu",
            backend_version="",
            binary=str(BINARY),
            config=config,
            workload=workload,
            restart_policy=restart_policy or {},
            generated={"qemu_accel": "tcg", **generated},
        )
        paths = Paths(files={use.alias: use.path for use in self.driver.uses(definition, model)[0]}, sockets="vmm")
        return self.driver.launch(definition, model, paths, Isolation(uid=self.uid, jail=True, seccomp=True), self.layout, None)

    # --- the process ---------------------------------------------------------------------------------------
    def start(self, config: dict[str, t.Any], *, prefix: t.Sequence[str] = (), **how: t.Any) -> LaunchSpec:
        """Starts the process, waits until it serves QMP, runs C(after_start)."""
        spec = self.launch(config, **how)
        with open(self.layout.console_log, "ab") as console, open(self.layout.vmm_log, "ab") as log:
            stdout = console if spec.stdout_is_console else log
            self.process = subprocess.Popen([*prefix, *spec.argv], cwd=self.layout.run, stdin=subprocess.DEVNULL, stdout=stdout, stderr=log, umask=0o077)
        until(lambda: self._serves() or (self.process is not None and self.process.poll() is not None), lambda: "a QMP server")
        assert self.process.poll() is None, self.log
        for command in spec.after_start:
            subprocess.run(command, cwd=self.layout.run, check=True, timeout=PATIENCE_S)
        return spec

    def _serves(self) -> bool:
        with contextlib.suppress(Unavailable):
            return bool(self.observe().state)
        return False

    def observe(self) -> Observed:
        return self.driver.observe(self.layout.monitor_socket, soon(), self.uid)

    def describe(self) -> dict[str, t.Any]:
        return self.driver.describe(self.layout.api_socket, soon())

    @property
    def state(self) -> str:
        return self.observe().state

    @property
    def console(self) -> str:
        return pathlib.Path(self.layout.console_log).read_text(encoding="utf-8", errors="replace")

    @property
    def log(self) -> str:
        return pathlib.Path(self.layout.vmm_log).read_text(encoding="utf-8", errors="replace")

    def says(self, text: str, times: int = 1) -> None:
        until(lambda: self.console.count(text) >= times, lambda: f"{text!r} on the console: {self.console[-2000:]!r}; log: {self.log[-2000:]!r}")


@contextlib.contextmanager
def vm_in(directory: pathlib.Path) -> t.Iterator[Vm]:
    vm = Vm(directory)
    try:
        yield vm
    finally:
        vm.close()
