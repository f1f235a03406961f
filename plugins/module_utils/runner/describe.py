# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM as results show it: one shape for vmcp_vm and vmcp_vm_info. Standard library only."""

from __future__ import annotations

import os
import typing as t

from ..backends.registry import driver
from ..host import processes
from ..host.layout import VmLayout
from ..model.definition import Definition
from ..model.resolving import path_of
from ..planner.situation import Situation
from .interfaces import nics
from .live import vsock_path


def describe(
    situation: Situation, vm: VmLayout, *, pending: t.Sequence[str] = (), definition: t.Optional[Definition] = None, state: t.Optional[str] = None
) -> dict[str, t.Any]:
    """The result's C(vm). C(definition) and C(state) stand in for what was found, for what a check-mode run would leave."""
    definition = definition or situation.definition
    state = state or situation.state
    if definition is None:
        found: dict[str, t.Any] = {"name": situation.name, "state": state}
        if situation.broken:
            found["error"] = situation.broken
        return found
    process = situation.process if state in ("running", "paused") else None
    body: dict[str, t.Any] = {
        "name": definition.name,
        "state": state,
        "stop_reason": _stop_reason(situation, state),
        "backend": definition.backend,
        "backend_version": definition.backend_version,
        "backend_reason": definition.backend_reason,
        "binary": definition.binary,
        "workload": definition.workload,
        "labels": definition.labels,
        "autostart": definition.autostart,
        "protected": definition.protected,
        "restart_policy": definition.restart_policy,
        "security": definition.security,
        "supervisor": definition.supervisor,
        "config": definition.config,
        "metadata_digest": definition.metadata_digest,
        "cloud_init_digest": definition.cloud_init_digest,
        "disks": disks(definition, vm),
        "created_at": definition.created_at,
        "uid": definition.generated.get("uid"),
        "nics": nics(definition),
        "sockets": sockets(definition, vm),
        "console": console(definition, vm),
        "pending": list(pending),
        "last_exit": _exit(situation),
        "pid": process.pid if process else None,
        "boot_id": process.boot_id if process else None,
        "uptime_s": round(processes.uptime_s(process), 1) if process else None,
    }
    if situation.unresponsive:
        body["unresponsive"] = situation.unresponsive
    if situation.booted_unread:
        body["error"] = situation.booted_unread
    return body


def _stop_reason(situation: Situation, state: str) -> t.Optional[str]:
    if state not in ("shutdown", "crashed"):
        return None
    return situation.last_exit.reason if situation.last_exit else "request"


def _exit(situation: Situation) -> t.Optional[dict[str, t.Any]]:
    last = situation.last_exit
    return {"reason": last.reason, "code": last.code, "signal": last.signal, "at": last.at, "boot_id": last.boot_id} if last else None


def disks(definition: Definition, vm: VmLayout) -> list[dict[str, t.Any]]:
    """Those that are ours to make: C([{id, image or disk, path, format, method, saved_bytes}])."""
    kept = ("image", "digest", "disk", "format", "backing", "filesystem", "method", "saved_bytes")
    chosen = definition.generated.get("disks") or {}
    return [{"id": entry, "path": path_of(one, vm.data), **{key: one[key] for key in kept if key in one}} for entry, one in chosen.items()]


def sockets(definition: Definition, vm: VmLayout) -> dict[str, t.Any]:
    wired = definition.config.get("vsock") is not None and not driver(definition.backend).host_vsock
    return {"api": vm.api_socket, "vsock": vsock_path(definition, vm) if wired else None}


def console(definition: Definition, vm: VmLayout) -> dict[str, t.Any]:
    wanted = definition.config.get("console") or {}
    output = wanted.get("output", "file") if wanted.get("enabled", True) else "null"
    path = wanted.get("path") or {"file": vm.console_log, "socket": vm.console_socket}.get(output)
    try:
        size = os.stat(path).st_size if path and output == "file" else None
    except OSError:
        # Not booted yet, or not ours to see.
        size = None
    return {"output": output, "path": path, "size_bytes": size}
