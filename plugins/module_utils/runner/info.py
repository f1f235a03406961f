# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(vmcp_vm_info): what exists and how it is. Standard library only, unless configurations are read back from VMMs (C(gather))."""

from __future__ import annotations

import time
import typing as t

from ..call import Call, Outcome
from ..errors import VmcpError
from ..host import events, processes
from ..host.layout import Layout
from ..host.store import Store
from ..model.definition import Definition
from ..planner.situation import Situation
from . import collector
from .describe import describe
from .live import peer_uid, situations
from .pending import drift_of, pending_of

DESCRIBE_S = 5.0


@collector.at_rest()
def run_info(call: Call) -> Outcome:
    options = call.options
    layout = Layout.resolve(options.get("state_dir"), options.get("run_dir"), call.environ, call.uid)
    store = Store(layout)
    if options.get("endpoint"):
        return _of_endpoint(call, str(options["endpoint"]))
    wanted = options.get("names")
    there = set(store.names())
    names = [n for n in wanted if n in there] if wanted is not None else sorted(there)
    gather = options.get("gather", [])
    vms = []
    for found in situations(store, names):
        if found.exists and _selected(found, options):
            vms.append(_element(store, found, gather))
    missing = [n for n in wanted or () if n not in there]
    result: dict[str, t.Any] = {"changed": False, "vms": vms, "missing": missing, "state_dir": layout.vms}
    if not there and call.uid != 0:
        result["hint"] = f"Searched {layout.vms}. VMs made as root are seen with become only."
    return Outcome(result)


def _selected(found: Situation, options: t.Mapping[str, t.Any]) -> bool:
    if options.get("states") and found.state not in options["states"]:
        return False
    labels = found.definition.labels if found.definition else {}
    return all(labels.get(k) == _as_stored(v) for k, v in (options.get("labels") or {}).items())


def _as_stored(value: t.Any) -> str:
    """A label's value as definitions keep it: YAML makes booleans and numbers of words."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _element(store: Store, found: Situation, gather: t.Sequence[str]) -> dict[str, t.Any]:
    vm = store.layout.vm(found.name)
    element = describe(found, vm, pending=pending_of(found))
    if found.definition is None:
        return element
    if found.process:
        element["boot_ms"] = events.boot_duration_ms(events.read(vm), found.process.boot_id)
    if "memory" in gather:
        element["memory"] = _memory(found)
    if "events" in gather:
        element["events"] = events.read(vm)
    if ("counters" in gather or "drift" in gather) and found.process and not found.unresponsive:
        element.update(_from_vmm(found, found.booted or found.definition, store, gather))
    return element


def _memory(found: Situation) -> t.Optional[dict[str, t.Any]]:
    """What the VMM's process holds, and how much of that is not the guest's: the guest's own pages are counted as far as they are touched."""
    if found.process is None or found.definition is None:
        return None
    held = processes.memory_bytes(found.process.pid)
    guest = _guest_bytes(found.process.pid, int((found.definition.config.get("memory") or {}).get("size_bytes") or 0))
    return {"resident_bytes": held, "overhead_bytes": None if held is None or guest is None else max(0, held - guest)}


def _guest_bytes(pid: int, size_bytes: int) -> t.Optional[int]:
    """Resident bytes of the mappings that are large enough to be the guest's memory. None when /proc does not let us see them."""
    total = 0
    try:
        with open(f"/proc/{pid}/smaps", encoding="ascii", errors="replace") as stream:
            big = False
            for line in stream:
                if line.startswith("Size:"):
                    big = int(line.split()[1]) * 1024 >= min(size_bytes, 128 << 20) // 2
                elif big and line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    except OSError:
        return None
    return total


def _from_vmm(found: Situation, running: Definition, store: Store, gather: t.Sequence[str]) -> dict[str, t.Any]:
    from ..backends.registry import driver

    try:
        said = driver(running.backend).describe(store.layout.vm(found.name).api_socket, time.monotonic() + DESCRIBE_S, peer_uid(running))
    except VmcpError as exc:
        return {"unresponsive": exc.msg}
    element: dict[str, t.Any] = {}
    if said.get("console_path"):
        element["console_path"] = said["console_path"]
    if "counters" in gather:
        element["counters"] = said.get("counters")
    if "drift" in gather:
        element["drift"] = drift_of(running, said.get("config") or {})
    return element


def _of_endpoint(call: Call, endpoint: str) -> Outcome:
    call.require_libraries()
    from .endpoint import backend_of, real_path
    from .endpoint import describe as describe_endpoint
    from .live import OBSERVE_S

    socket = real_path(endpoint.removeprefix("unix://"))
    backend, api = backend_of(socket, call.options.get("backend"), call.environ)
    state = api.observe(socket, time.monotonic() + OBSERVE_S).state
    vms = [] if state == "absent" else [describe_endpoint(None, backend, api, socket, state)]
    return Outcome({"changed": False, "vms": vms, "missing": [], "state_dir": None})
