# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Firecracker backend: C(port.Driver), composed of translate, launch and client.

These are imported where they are used: a task that finds nothing to do only observes, and a module's code is compiled anew on every run.
"""

from __future__ import annotations

import typing as t

from ...errors import FailedPrecondition, Internal, InvalidArgument, Violation
from ..port import Observed
from ..quoting import quoted
from ..unix_http import Connection, send_request
from ..vmm_socket import parse_json

if t.TYPE_CHECKING:
    from ...host.layout import VmLayout
    from ...model.config import VmConfig
    from ...model.definition import Definition
    from ..port import FileUse, Isolation, LaunchSpec, Paths, TapUse
    from .client import Client

_STATES = {"Running": "running", "Paused": "paused"}
_ENDS_WITH_ITS_VM = (
    "A Firecracker process ends with its VM and its API cannot end it: whoever runs the process behind {socket} stops it. "
    "state=shutdown only asks the guest (Ctrl+Alt+Del)."
)


class Driver:
    name = "firecracker"
    has_monitor = False
    host_vsock = False
    extends_disks = False

    def launch(self, definition: Definition, config: VmConfig, paths: Paths, isolation: Isolation, layout: VmLayout, metadata: t.Optional[t.Any]) -> LaunchSpec:
        from .launch import launch_spec

        return launch_spec(definition, config, paths, isolation, layout, metadata)

    def uses(self, definition: Definition, config: VmConfig) -> tuple[tuple[FileUse, ...], tuple[TapUse, ...]]:
        from . import translate

        return translate.file_uses(config), translate.tap_uses(config, definition.generated.get("taps", {}))

    def observe(self, socket: str, deadline: float, peer_uid: t.Optional[int] = None) -> Observed:
        return self.ask(socket, deadline, peer_uid)()

    def ask(self, socket: str, deadline: float, peer_uid: t.Optional[int] = None) -> t.Callable[[], Observed]:
        get = _begin_get(socket, "/", deadline, peer_uid)
        return lambda: _observed(get(), socket, deadline, peer_uid)

    def pause(self, socket: str, deadline: float, peer_uid: t.Optional[int] = None) -> None:
        _client(socket, deadline, peer_uid).pause()

    def resume(self, socket: str, deadline: float, peer_uid: t.Optional[int] = None) -> None:
        _client(socket, deadline, peer_uid).resume()

    def request_shutdown(self, socket: str, deadline: float, peer_uid: t.Optional[int] = None) -> bool:
        try:
            _client(socket, deadline, peer_uid).send_ctrl_alt_del()
        except FailedPrecondition as exc:
            if "SendCtrlAltDel does not support" in exc.msg:  # aarch64 has no keyboard controller
                return False
            raise
        return True

    def resize_disk(self, socket: str, config: VmConfig, disk_id: str, size_bytes: int, deadline: float, peer_uid: t.Optional[int] = None) -> None:
        """The file has its new size already; Firecracker looks at it again when it is given the path that it has."""
        from . import translate

        client = _client(socket, deadline, peer_uid)
        ids = [translate.disk_wire_id(position, disk) for position, disk in enumerate(config.storage) if disk.id == disk_id]
        found = [drive for drive in client.vm_config().get("drives") or [] if isinstance(drive, dict) and drive.get("drive_id") in ids]
        if not found or not isinstance(found[0].get("path_on_host"), str):
            raise Internal(f"The Firecracker behind {socket} has no drive for disk {disk_id}, with which it was started.")
        client.patch_drive(str(found[0]["drive_id"]), str(found[0]["path_on_host"]))

    def describe(self, socket: str, deadline: float, peer_uid: t.Optional[int] = None) -> dict[str, t.Any]:
        from . import readback

        client = _client(socket, deadline, peer_uid)
        wire = client.vm_config()
        try:
            return {"config": readback.config_of(wire), "counters": _counters(client, wire), "console_path": None}
        except (KeyError, TypeError, AttributeError) as exc:
            raise Internal(f"What answers 'GET /vm/config' on {socket} is no Firecracker known here: {type(exc).__name__}: {quoted(exc)}.") from exc

    def foresee_on(self, action: str, socket: str, config: t.Optional[VmConfig], deadline: float) -> None:
        if action in ("shutdown", "remove"):
            raise FailedPrecondition(_ENDS_WITH_ITS_VM.format(socket=socket))
        if action == "define" and config is not None:
            self._missing_parts(socket, config, deadline)

    def define_on(self, socket: str, config: VmConfig, deadline: float) -> None:
        client = _client(socket, deadline, None)
        for part, body in self._missing_parts(socket, config, deadline):
            _put(client, part, body, from_user=part in config.backend_options.firecracker)

    def _missing_parts(self, socket: str, config: VmConfig, deadline: float) -> list[tuple[str, t.Any]]:
        """What the VMM does not have yet, in the order in which it takes it. Reads only; refuses what it cannot take."""
        from . import translate

        state = self.observe(socket, deadline).state
        if state != "absent":
            raise FailedPrecondition(
                f"The Firecracker behind {socket} already has a VM ({state}), and its API cannot take it away. Start another process for this configuration."
            )
        wire = translate.document(config, translate.Wiring())
        current = _client(socket, deadline, None).vm_config()
        strangers = ", ".join(translate.strangers(current, wire))
        if strangers:
            raise FailedPrecondition(
                f"The Firecracker behind {socket} already has {strangers}, and its API cannot take that away. Start another process for this configuration."
            )
        return [(part, body) for part, body in translate.parts_in_order(wire) if not translate.holds(current, part, body)]

    def boot_on(self, socket: str, deadline: float) -> None:
        _client(socket, deadline, None).start()

    def shutdown_on(self, socket: str, deadline: float) -> None:
        raise FailedPrecondition(_ENDS_WITH_ITS_VM.format(socket=socket))

    def remove_on(self, socket: str, deadline: float) -> None:
        raise FailedPrecondition(_ENDS_WITH_ITS_VM.format(socket=socket))


def _client(socket: str, deadline: float, peer_uid: t.Optional[int]) -> Client:
    from .client import Client

    return Client(Connection(socket, deadline, peer_uid))


def _put(client: Client, part: str, body: dict[str, t.Any], from_user: bool) -> None:
    from .client import NotUnderstood

    try:
        client.put_part(part, body)
    except NotUnderstood as exc:
        if not from_user:
            raise
        refused = Violation(f"config.backend_options.firecracker.{part}", exc.msg)
    else:
        return
    # Outside of the handler: ansible-test's pylint takes an exception that it cannot resolve for none.
    raise InvalidArgument.of([refused])


def _observed(instance: dict[str, t.Any], socket: str, deadline: float, peer_uid: t.Optional[int]) -> Observed:
    said, state = instance.get("vmm_version"), instance.get("state")
    version = said if isinstance(said, str) else None
    if isinstance(state, str) and state in _STATES:
        return Observed(state=_STATES[state], version=version)
    if state != "Not started":
        raise Internal(f"What answers on {socket} is no Firecracker: its state is {state!r:.60}.")
    # Only an endpoint stays in this state, with or without a VM to start; only then is a second request needed to tell.
    source = _begin_get(socket, "/vm/config", deadline, peer_uid)().get("boot-source")
    kernel = source.get("kernel_image_path") if isinstance(source, dict) else None
    return Observed(state="created" if kernel else "absent", version=version)


def _begin_get(socket: str, path: str, deadline: float, peer_uid: t.Optional[int]) -> t.Callable[[], dict[str, t.Any]]:
    """The no-change path's request, on the standard library alone; what is returned waits for the reply."""
    reply = send_request(socket, "GET", path, None, deadline, peer_uid)

    def get() -> dict[str, t.Any]:
        status, body = reply()
        try:
            value = parse_json(body)
        except ValueError as exc:
            raise Internal(f"What answers on {socket} is no Firecracker: 'GET {path}' gave status {status} and no JSON: {body[:80]!r}.") from exc
        if status != 200 or not isinstance(value, dict):
            raise Internal(f"What answers on {socket} is no Firecracker: 'GET {path}' gave status {status}: {body[:200]!r}.")
        return value

    return get


def _counters(client: Client, wire: dict[str, t.Any]) -> dict[str, t.Any]:
    """What Firecracker counts and its API tells; all else goes to its metrics file."""
    counters: dict[str, t.Any] = {}
    if (wire.get("balloon") or {}).get("stats_polling_interval_s") and client.instance()["state"] != "Not started":
        counters["balloon"] = client.balloon_statistics()
    if wire.get("memory-hotplug") and client.instance()["state"] != "Not started":
        counters["memory_hotplug"] = client.memory_hotplug()
    return counters
