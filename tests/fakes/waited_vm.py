# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM that is waited for (C(runner.conditions.Target)), whose state is what a test sets."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.unkey.vmcp.plugins.module_utils.errors import Internal, VmcpError


@dataclasses.dataclass
class WaitedVm:
    name: str = "web"
    console_log: str = "/nonexistent"
    lives: bool = True
    returns: bool = False
    runs: bool = True
    tail: tuple[str, ...] = ()

    def alive(self) -> bool:
        return self.lives

    def may_return(self) -> bool:
        return self.returns

    def running(self) -> bool:
        return self.lives and self.runs

    def open_vsock(self, port: int, timeout_s: float) -> bool:
        return False

    def answers(self, nic_id: t.Optional[str]) -> t.Callable[[], bool]:
        return lambda: False

    def console_tail(self, lines: int) -> list[str]:
        return list(self.tail[-lines:])

    def obituary(self) -> VmcpError:
        return Internal(f"{self.name} is dead")
