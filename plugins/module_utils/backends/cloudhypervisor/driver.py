# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Cloud Hypervisor backend: C(port.Driver) composed of translate, launch and client.

What a question does not need is imported where it is used: a task that changes nothing asks how its VM is, and no more."""

from __future__ import annotations

import contextlib
import typing as t

from ...errors import FailedPrecondition, Internal, VmcpError
from ..port import FileUse, Isolation, LaunchSpec, Observed, Paths, TapUse
from ..quoting import quoted
from ..unix_http import Connection, send_request
from ..vmm_socket import parse_json
from . import client
from .words import parse_version, wire_id

if t.TYPE_CHECKING:
    from ...host.layout import VmLayout
    from ...model.config import VmConfig
    from ...model.definition import Definition

# Shutdown: booted once and stopped, its configuration kept. BreakPoint: a debugger holds the vCPUs.
_STATES = {"Created": "created", "Running": "running", "Paused": "paused", "Shutdown": "created", "BreakPoint": "paused"}


class Driver:
    """Stateless; one instance serves any number of VMs."""

    name = "cloudhypervisor"
    has_monitor = False
    host_vsock = False
    extends_disks = True

    def launch(self, definition: Definition, config: VmConfig, paths: Paths, isolation: Isolation, layout: VmLayout, metadata: t.Optional[t.Any]) -> LaunchSpec:
        """Cloud Hypervisor has no metadata service: C(metadata) is the capability check's to refuse."""
        from . import launch

        return launch.launch_spec(definition, config, paths, isolation, layout)

    def uses(self, definition: Definition, config: VmConfig) -> tuple[tuple[FileUse, ...], tuple[TapUse, ...]]:
        from . import launch

        return launch.file_uses(config), launch.tap_uses(config, definition.generated)

    def observe(self, socket: str, deadline: float, peer_uid: t.Optional[int] = None) -> Observed:
        return self.ask(socket, deadline, peer_uid)()

    def ask(self, socket: str, deadline: float, peer_uid: t.Optional[int] = None) -> t.Callable[[], Observed]:
        reply = send_request(socket, "GET", f"{client.BASE}vm.info", None, deadline, peer_uid)
        return lambda: _observed(*reply(), socket)

    def pause(self, socket: str, deadline: float, peer_uid: t.Optional[int] = None) -> None:
        self._reach("paused", client.pause, socket, deadline, peer_uid)

    def resume(self, socket: str, deadline: float, peer_uid: t.Optional[int] = None) -> None:
        self._reach("running", client.resume, socket, deadline, peer_uid)

    def request_shutdown(self, socket: str, deadline: float, peer_uid: t.Optional[int] = None) -> bool:
        """Presses the power button. A paused guest would not see it, so it is resumed first."""
        self.resume(socket, deadline, peer_uid)
        client.power_button(Connection(socket, deadline, peer_uid))
        return True

    def resize_disk(self, socket: str, config: VmConfig, disk_id: str, size_bytes: int, deadline: float, peer_uid: t.Optional[int] = None) -> None:
        root = any(disk.id == disk_id and disk.is_root_device for disk in config.storage)
        client.resize_disk(Connection(socket, deadline, peer_uid), wire_id("root" if root else "disk", disk_id), size_bytes)

    def describe(self, socket: str, deadline: float, peer_uid: t.Optional[int] = None) -> dict[str, t.Any]:
        """Counters are empty for a VM that is not booted. Paths in C(config) are as the VMM sees them (see C(readback.unified))."""
        from . import readback

        connection = Connection(socket, deadline, peer_uid)
        info = client.info(connection)
        config = info.get("config")
        if not isinstance(config, dict):
            raise Internal(f"Cloud Hypervisor behind {socket} described its VM without a configuration.")
        booted = _STATES.get(str(info.get("state"))) in ("running", "paused")
        try:
            serial = config.get("serial") or {}
            console_path = serial.get("file") if serial.get("mode") == "Pty" else None
            tree = readback.unified(config)
        except (KeyError, TypeError, AttributeError, ValueError) as exc:
            raise Internal(f"Cloud Hypervisor behind {socket} described its VM in a way that makes no sense: {type(exc).__name__}: {quoted(exc)}.") from exc
        return {"config": tree, "counters": client.counters(connection) if booted else {}, "console_path": console_path}

    def foresee_on(self, action: str, socket: str, config: t.Optional[VmConfig], deadline: float) -> None:
        if action == "define" and config is not None:
            _document(Connection(socket, deadline), config)

    def define_on(self, socket: str, config: VmConfig, deadline: float) -> None:
        """What a refused configuration leaves behind is dropped, so that it can be tried again."""
        connection = Connection(socket, deadline)
        body = _document(connection, config)
        was_absent = self.observe(socket, deadline).state == "absent"
        try:
            client.create(connection, body)
        except FailedPrecondition:
            if was_absent:
                with contextlib.suppress(VmcpError):  # what it said first is what matters; it may be gone by now
                    client.delete(connection)
            raise

    def boot_on(self, socket: str, deadline: float) -> None:
        """A boot that fails late leaves a VM that can neither boot nor run until it is shut down; that is done, so that it can be tried again."""
        connection = Connection(socket, deadline)
        was_created = self.observe(socket, deadline).state == "created"
        try:
            client.boot(connection)
        except FailedPrecondition:
            if was_created:
                with contextlib.suppress(VmcpError):  # where it failed early, nothing was left behind
                    client.shutdown(connection)
            raise

    def shutdown_on(self, socket: str, deadline: float) -> None:
        """Idempotent; the VM is defined and not booted afterwards."""
        if self.observe(socket, deadline).state in ("running", "paused"):
            client.shutdown(Connection(socket, deadline))

    def remove_on(self, socket: str, deadline: float) -> None:
        """Idempotent, and true of a booted VM too."""
        client.delete(Connection(socket, deadline))

    def _reach(self, state: str, call: t.Callable[[Connection], None], socket: str, deadline: float, peer_uid: t.Optional[int]) -> None:
        """Their transitions are refused in the state that they lead to. Asked before, and again after a refusal: somebody may have been faster."""
        if self.observe(socket, deadline, peer_uid).state == state:
            return
        try:
            call(Connection(socket, deadline, peer_uid))
        except FailedPrecondition:
            if self.observe(socket, deadline, peer_uid).state != state:
                raise


def _observed(status: int, content: bytes, socket: str) -> Observed:
    text = content.decode("utf-8", "replace")
    if status == 200:
        return Observed(state=_state_of(text, socket))
    if client.is_no_vm(status, text):
        return Observed(state="absent")
    raise FailedPrecondition(f"Cloud Hypervisor would not describe its VM: {client.refusal_words(status, text)}.", details={"vmm_status": status})


def _document(connection: Connection, config: VmConfig) -> dict[str, t.Any]:
    from .translate import document
    from .wiring import Wiring

    """In the words of the version that is behind the socket."""
    version = parse_version(str(client.ping(connection).get("version", "")))
    return document(config, Wiring(version=version))


def _state_of(text: str, socket: str) -> str:
    try:
        state = parse_json(text)["state"]
        return _STATES[state]
    except (ValueError, KeyError, TypeError) as exc:
        raise Internal(f"Cloud Hypervisor behind {socket} described its VM in a way that makes no sense: {text[:80]!r}.") from exc
