# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The QEMU backend: C(port.Driver) composed of translate, launch and client.

What a question does not need is imported where it is used: a task that changes nothing asks how its VM is, and no more."""

from __future__ import annotations

import typing as t

from ...errors import FailedPrecondition, Internal
from ..port import FileUse, Isolation, LaunchSpec, Observed, Paths, TapUse
from ..quoting import quoted
from .status import ask_status
from .words import RUN_STATES, STANDING_RUN_STATES, wire_id

if t.TYPE_CHECKING:
    from ...host.layout import VmLayout
    from ...model.config import VmConfig
    from ...model.definition import Definition


# What only the owner of the process can do, and why.
_OWNERS = {
    "define": (
        "QEMU behind {socket} has the VM that its command line gave it and cannot be given another one through its API. "
        "Define the VM by its name, without 'endpoint'."
    ),
    "shutdown": (
        "QEMU behind {socket} ends with its VM, and only the owner of its process may end that. "
        "Shut the guest down from inside, or stop the service that runs QEMU."
    ),
    "remove": "QEMU behind {socket} cannot drop its VM without ending, and only the owner of its process may end that.",
}


class Driver:
    """Stateless; one instance serves any number of VMs."""

    name = "qemu"
    has_monitor = True
    host_vsock = True
    extends_disks = True

    def launch(self, definition: Definition, config: VmConfig, paths: Paths, isolation: Isolation, layout: VmLayout, metadata: t.Optional[t.Any]) -> LaunchSpec:
        """QEMU has no metadata service: C(metadata) is the capability check's to refuse."""
        from . import launch

        return launch.launch_spec(definition, config, paths, isolation, layout)

    def uses(self, definition: Definition, config: VmConfig) -> tuple[tuple[FileUse, ...], tuple[TapUse, ...]]:
        from . import launch

        return launch.file_uses(config), launch.tap_uses(config, definition.generated)

    def observe(self, socket: str, deadline: float, peer_uid: t.Optional[int] = None) -> Observed:
        return self.ask(socket, deadline, peer_uid)()

    def ask(self, socket: str, deadline: float, peer_uid: t.Optional[int] = None) -> t.Callable[[], Observed]:
        answer = ask_status(socket, deadline, peer_uid)

        def observed() -> Observed:
            status = answer()
            return Observed(state=_state_of(status.run_state, socket), version=status.version, pid=status.pid)

        return observed

    def pause(self, socket: str, deadline: float, peer_uid: t.Optional[int] = None) -> None:
        from . import client

        with client.Connection(socket, deadline, peer_uid) as qmp:
            client.stop(qmp)

    def resume(self, socket: str, deadline: float, peer_uid: t.Optional[int] = None) -> None:
        from . import client

        with client.Connection(socket, deadline, peer_uid) as qmp:
            client.cont(qmp)

    def request_shutdown(self, socket: str, deadline: float, peer_uid: t.Optional[int] = None) -> bool:
        """Presses the power button. A paused guest would not see it, so it is resumed first. A microvm without ACPI has no button: False."""
        from . import client

        with client.Connection(socket, deadline, peer_uid) as qmp:
            if client.qom_get(qmp, "/machine", "acpi") == "off":
                return False
            client.cont(qmp)
            client.system_powerdown(qmp)
            return True

    def resize_disk(self, socket: str, config: VmConfig, disk_id: str, size_bytes: int, deadline: float, peer_uid: t.Optional[int] = None) -> None:
        from . import client

        with client.Connection(socket, deadline, peer_uid) as qmp:
            client.block_resize(qmp, wire_id("disk", disk_id), size_bytes)

    def describe(self, socket: str, deadline: float, peer_uid: t.Optional[int] = None) -> dict[str, t.Any]:
        """Paths in C(config) are as QEMU sees them; what QEMU does not tell is left out (see C(readback))."""
        from . import client, readback

        with client.Connection(socket, deadline, peer_uid) as qmp:
            try:
                facts = readback.collect(qmp)
                return {"config": readback.unified(facts), "counters": readback.counters(facts), "console_path": readback.console_path(facts)}
            except (KeyError, TypeError, AttributeError, ValueError) as exc:
                raise Internal(f"QEMU behind {socket} described its VM in a way that makes no sense: {type(exc).__name__}: {quoted(exc)}.") from exc

    def foresee_on(self, action: str, socket: str, config: t.Optional[VmConfig], deadline: float) -> None:
        if action in _OWNERS:
            raise FailedPrecondition(_OWNERS[action].format(socket=socket))

    def define_on(self, socket: str, config: VmConfig, deadline: float) -> None:
        raise FailedPrecondition(_OWNERS["define"].format(socket=socket))

    def boot_on(self, socket: str, deadline: float) -> None:
        """Starts a VM that was started with C(-S), or one that shut down while its VMM was kept (C(-no-shutdown))."""
        from . import client

        with client.Connection(socket, deadline) as qmp:
            if client.run_state(qmp) == "shutdown":
                client.system_reset(qmp)
            client.cont(qmp)

    def shutdown_on(self, socket: str, deadline: float) -> None:
        raise FailedPrecondition(_OWNERS["shutdown"].format(socket=socket))

    def remove_on(self, socket: str, deadline: float) -> None:
        raise FailedPrecondition(_OWNERS["remove"].format(socket=socket))


def _state_of(run_state: str, socket: str) -> str:
    if run_state in STANDING_RUN_STATES:
        return "paused"
    try:
        return RUN_STATES[run_state]
    except KeyError as exc:
        raise Internal(f"QEMU behind {socket} is in a run state that this version does not know: {run_state[:40]!r}.") from exc
