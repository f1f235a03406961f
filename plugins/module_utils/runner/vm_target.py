# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM of ours as those see it who wait for something of it, or read its console: C(waits.Target). Standard library only."""

from __future__ import annotations

import socket
import time
import typing as t

from ..backends.registry import driver
from ..errors import FailedPrecondition, VmcpError
from ..host import files, processes
from .interfaces import nics
from .live import ask_state, end_of, peer_uid, vsock_cid, vsock_path

if t.TYPE_CHECKING:
    from ..backends.port import Driver
    from ..host.layout import VmLayout
    from ..model.definition import Definition


class LiveVm:
    """C(waits.Target) for a VM of ours."""

    def __init__(self, definition: Definition, vm: VmLayout) -> None:
        self.name = definition.name
        self.definition = definition
        self.vm = vm
        self.console_log = definition.config.get("console", {}).get("path") or vm.console_log

    def driver(self) -> Driver:
        return driver(self.definition.backend)

    def alive(self) -> bool:
        return processes.current(self.vm) is not None

    def may_return(self) -> bool:
        """The guest rebooted, or its VMM crashed, and policy starts its VM again."""
        policy = self.definition.restart_policy
        return policy.get("on_reboot") == "restart" or policy.get("on_crash") == "restart"

    def running(self) -> bool:
        try:
            return ask_state(self.definition, self.vm) == "running"
        except VmcpError:
            # Not yet listening, or busy: the deadline of the wait decides how long that may last.
            return False

    def open_vsock(self, port: int, timeout_s: float) -> bool:
        """Through the host kernel's vsock, or the unix socket to which the VMM bridges it."""
        try:
            if self.driver().host_vsock:
                with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as stream:
                    stream.settimeout(timeout_s)
                    stream.connect((vsock_cid(self.definition), port))
                    return True
            return _unix_vsock_accepts(vsock_path(self.definition, self.vm), port, timeout_s, peer_uid(self.definition))
        except (OSError, VmcpError):
            # Refused or not there yet: the deadline of the wait decides how long that may last.
            return False

    def answers(self, nic_id: t.Optional[str]) -> t.Callable[[], bool]:
        """By id of the interface; None: each that has an address."""
        from ..host.neighbours import Neighbour

        facts = self.definition.generated.get("nics", {})
        wanted = [nic for nic in nics(self.definition) if nic.get("addresses") and nic_id in (None, nic["id"])]
        if not wanted:
            which = f"VM {self.name} has no address that is known" if nic_id is None else f"Interface {nic_id} of VM {self.name} has no address that is known"
            raise FailedPrecondition(f"{which}, so it cannot be waited for (wait_for: address). Put it on a network of unkey.vmcp.vmcp_network.")
        direct = [nic["id"] for nic in wanted if not facts[nic["id"]].get("bridge")]
        if direct:
            raise FailedPrecondition(
                f"Interface {direct[0]} of VM {self.name} is on a macvtap network, where a guest and its own host do not hear each other, "
                "so it cannot be asked for its address (wait_for: address). Wait for a line on its console, or for an interface on another network."
            )
        asked = [Neighbour(facts[nic["id"]]["bridge"], nic["mac_address"], nic["addresses"], next(iter(nic["gateways"]), None)) for nic in wanted]
        met: set[int] = set()

        def all_answer() -> bool:
            met.update(at for at, one in enumerate(asked) if at not in met and one())
            return len(met) == len(asked)

        return all_answer

    def console_tail(self, lines: int) -> list[str]:
        return files.last_lines(self.console_log, lines)

    def obituary(self) -> VmcpError:
        return end_of(self.definition, self.vm)


def _unix_vsock_accepts(path: str, port: int, timeout_s: float, peer: t.Optional[int]) -> bool:
    from ..backends.vmm_socket import connect

    with connect(path, time.monotonic() + timeout_s, peer) as stream:
        stream.settimeout(timeout_s)
        stream.sendall(f"CONNECT {port}\n".encode())
        return stream.recv(32).startswith(b"OK ")
