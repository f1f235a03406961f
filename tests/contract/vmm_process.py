# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VMM of the contract tests with an HTTP API, fake or real, in a directory of the test: what does not depend on which one it is."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import Driver
from ansible_collections.unkey.vmcp.plugins.module_utils.host.layout import Layout, VmLayout
from ansible_collections.unkey.vmcp.plugins.module_utils.model.config import VmConfig
from ansible_collections.unkey.vmcp.tests.guests import pvh_guest
from ansible_collections.unkey.vmcp.tests.waiting import PATIENCE_S

GREETING = "hello from the guest"


def why_not_real(*programs: str) -> str | None:
    """Why the real binaries are not run here; None when they are."""
    for name in programs:
        if shutil.which(name) is None:
            return f"there is no {name} on PATH"
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError as exc:
        return f"/dev/kvm does not open: {exc.strerror}"
    return None


def binaries(product: str, why_not: str | None) -> list[t.Any]:
    """Parameters of a test: the fake, and the real one where it can run."""
    return [
        pytest.param("fake", id="fake"),
        pytest.param("real", id="real", marks=[pytest.mark.real, pytest.mark.skipif(why_not is not None, reason=f"real {product} not run: {why_not}")]),
    ]


class Started:
    """A program that a test has started, or has not yet."""

    process: subprocess.Popen[bytes] | None = None

    def exit_code(self) -> int:
        assert self.process is not None
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE_S)


class VmmProcess(Started):
    def __init__(self, which: str, directory: pathlib.Path, driver: Driver) -> None:
        self.which = which
        self.directory = directory
        self.driver = driver
        self.layout: VmLayout = Layout(state_dir=str(directory / "state"), run_dir=str(directory / "run")).vm("web-1")
        for needed in (self.layout.dir, self.layout.sockets):
            pathlib.Path(needed).mkdir(parents=True)

    @property
    def socket(self) -> str:
        return self.layout.api_socket

    @property
    def console(self) -> str:
        return pathlib.Path(self.layout.console_log).read_bytes().decode("utf-8", "replace")

    @property
    def log(self) -> str:
        return pathlib.Path(self.layout.vmm_log).read_text(encoding="utf-8")

    def kernel(self, then: str = "halt") -> str:
        path = self.directory / f"{then}.elf"
        path.write_bytes(pvh_guest(GREETING, then))
        return str(path)

    def disk(self, name: str = "disk.img") -> str:
        path = self.directory / name
        path.write_bytes(bytes(1 << 20))
        return str(path)

    def config(self, then: str = "halt", **parts: t.Any) -> VmConfig:
        """A configuration with that guest; C(parts) over it."""
        boot = {"kernel_path": self.kernel(then), **parts.pop("boot", {})}
        return VmConfig.model_validate({"memory": {"size_bytes": "128M"}, **parts, "boot": boot})

    def ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None
