# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Firecracker's API: one function per call, a table of the parts that make up a VM, and no decisions."""

from __future__ import annotations

import typing as t

from ...errors import FailedPrecondition, Internal
from ..quoting import quoted
from ..unix_http import Connection, Reply

# Part of the configuration document -> path of the PUT request that has the same body.
PARTS = {
    "logger": "/logger",
    "metrics": "/metrics",
    "machine-config": "/machine-config",
    "cpu-config": "/cpu-config",
    "boot-source": "/boot-source",
    "drives": "/drives/{drive_id}",
    "network-interfaces": "/network-interfaces/{iface_id}",
    "vsock": "/vsock",
    "balloon": "/balloon",
    "mmds-config": "/mmds/config",
    "entropy": "/entropy",
    "pmem": "/pmem/{id}",
    "memory-hotplug": "/hotplug/memory",
}

# Its texts are matched on their beginnings: the ends hold serde's words, line numbers and paths.
_NOT_UNDERSTOOD = "An error occurred when deserializing the json body of a request"


class NotUnderstood(Internal):
    """Firecracker does not know a word of our request: a bug of ours, or a word that the user passed through C(backend_options)."""


class Client:
    """Raises as C(Connection) does; FailedPrecondition with Firecracker's own words when it refuses; Internal when it answers nonsense."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def instance(self) -> dict[str, t.Any]:
        """C({"id", "state", "vmm_version", "app_name"}); state is C(Not started), C(Running) or C(Paused)."""
        return self._get("/")

    def vm_config(self) -> dict[str, t.Any]:
        """The whole configuration, in the keys of the document; what is not set is null."""
        return self._get("/vm/config")

    def put_part(self, part: str, body: dict[str, t.Any]) -> None:
        """Sets one part (a key of C(PARTS)) of a VM that has not started."""
        self._send("PUT", PARTS[part].format_map(body), body)

    def patch_drive(self, drive_id: str, path: str) -> None:
        """Gives a drive of a running VM a file; the same one again makes it look at the size anew."""
        self._send("PATCH", f"/drives/{drive_id}", {"drive_id": drive_id, "path_on_host": path})

    def start(self) -> None:
        self._send("PUT", "/actions", {"action_type": "InstanceStart"})

    def send_ctrl_alt_del(self) -> None:
        self._send("PUT", "/actions", {"action_type": "SendCtrlAltDel"})

    def pause(self) -> None:
        self._send("PATCH", "/vm", {"state": "Paused"})

    def resume(self) -> None:
        self._send("PATCH", "/vm", {"state": "Resumed"})

    def balloon_statistics(self) -> dict[str, t.Any]:
        """Refused unless the balloon was configured with an interval for statistics."""
        return self._get("/balloon/statistics")

    def memory_hotplug(self) -> dict[str, t.Any]:
        """C({"total_size_mib", "plugged_size_mib", "requested_size_mib", …}) of a VM that has started."""
        return self._get("/hotplug/memory")

    def _get(self, path: str) -> dict[str, t.Any]:
        reply = self._connection.request("GET", path)
        if not reply.ok:
            raise _refusal(f"GET {path}", reply)
        if not isinstance(reply.value, dict):
            raise Internal(f"Firecracker answered 'GET {path}' with something that is no JSON object: {reply.text[:80]!r}.")
        return reply.value

    def _send(self, method: str, path: str, body: dict[str, t.Any]) -> None:
        reply = self._connection.request(method, path, body)
        if not reply.ok:
            raise _refusal(f"{method} {path}", reply)


def _refusal(request: str, reply: Reply) -> FailedPrecondition | Internal:
    fault = reply.value.get("fault_message") if isinstance(reply.value, dict) else None
    if not isinstance(fault, str):
        return Internal(f"Firecracker answered '{request}' with status {reply.status} and no reason: {reply.text[:200]!r}.")
    if fault.startswith(_NOT_UNDERSTOOD):
        return NotUnderstood(f"Firecracker does not understand '{request}': {quoted(fault)}")
    return FailedPrecondition(f"Firecracker refused '{request}': {quoted(fault)}")
