# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what starts a VM: its launch file and its VMM's documents, both made from the definition alone and therefore always made anew."""

from __future__ import annotations

import dataclasses
import typing as t

from ..backends.port import Isolation, LaunchSpec
from ..backends.registry import driver
from ..errors import FailedPrecondition, Violation
from ..host import allocations, files, launchfile, processes
from ..host.host_json import HostDefaults
from ..host.store import Store
from ..model.definition import Definition
from ..model.validate import read_config
from ..model.words import SHUTDOWN_GRACE_S
from .lacks import is_bridge

if t.TYPE_CHECKING:
    from ..host.layout import VmLayout


def isolation_of(definition: Definition) -> Isolation:
    """The sandbox of a VM: what was settled when it was defined."""
    security = definition.security
    return Isolation(uid=definition.generated.get("uid"), jail=bool(security.get("jail")), seccomp=bool(security.get("seccomp", True)))


def write_launch_files(store: Store, definition: Definition) -> None:
    """Writes documents first and the launch file last; files that are the same already are left alone. What a running process was started from is
    kept as long as it runs: it is ended by its own launch file."""
    vm = store.layout.vm(definition.name)
    spec, text = launch_texts(vm, definition, store.secrets(definition.name).get("metadata"))
    uid = definition.generated.get("uid")
    for name, content in spec.documents.items():
        # Root's to write, the VM's to read: by its group.
        files.write_if_different(vm.document(name), content, mode=0o600 if uid is None else 0o640, gid=-1 if uid is None else uid)
    if uid is not None and spec.vmm_log_in_sandbox:
        files.ensure_file(vm.vmm_log, 0o600, uid)
    files.write_if_different(vm.policy, launchfile.render_policy(definition.restart_policy))
    if processes.current(vm) is not None:
        files.keep_former(vm.launch, vm.launch_running, text)
    files.write_if_different(vm.launch, text)


def launch_texts(vm: VmLayout, definition: Definition, metadata: t.Any) -> tuple[LaunchSpec, str]:
    """How it is started (with the documents) and its launch file. Pure. InvalidArgument for what the VMM cannot be told, FailedPrecondition for a
    part of it that is missing."""
    backend = driver(definition.backend)
    config = read_config(definition.config)
    isolation = isolation_of(definition)
    used, _taps = backend.uses(definition, config)
    paths = launchfile.sandbox_paths(vm, used, isolation, jailed=isolation.jail and bool(definition.helpers.get("jailer")))
    spec = backend.launch(definition, config, paths, isolation, vm, metadata)
    text = launchfile.render(
        vm,
        spec,
        isolation,
        shutdown_timeout_s=SHUTDOWN_GRACE_S,
        console_path=config.console.path if config.console.output == "file" else None,
    )
    return spec, text


def launch_lacks(store: Store, definition: Definition, host: HostDefaults, root: bool, metadata: t.Any) -> list[Violation]:
    """Makes what would be written and throws it away, so that a check refuses what the real run would. InvalidArgument as C(launch_texts)."""
    request = allocation_request(definition, host, root)
    given = allocations.predict(store.layout, definition.name, request.nic_ids, uid_range=request.uid_range, taken_macs=request.taken_macs)
    if metadata is None:
        metadata = store.secrets(definition.name).get("metadata")
    try:
        launch_texts(store.layout.vm(definition.name), with_allocation(definition, given, root), metadata)
    except FailedPrecondition as exc:
        return [Violation("backend", exc.msg)]
    return []


@dataclasses.dataclass(frozen=True)
class AllocationRequest:
    """What a definition wants chosen. C(uid_range) None: no uid."""

    nic_ids: list[str]
    uid_range: t.Optional[tuple[int, int]]
    taken_macs: list[str]


def allocation_request(definition: Definition, host: HostDefaults, root: bool) -> AllocationRequest:
    network = definition.config.get("network") or []
    return AllocationRequest(
        nic_ids=[nic["id"] for nic in network],
        uid_range=host.uid_range if root and definition.security.get("uid") is None else None,
        taken_macs=[nic["mac_address"] for nic in network if nic.get("mac_address")],
    )


def with_allocation(definition: Definition, given: allocations.Allocation, root: bool) -> Definition:
    """The definition with what was chosen once: uid, context id, MAC addresses, and taps for interfaces on bridges."""
    chosen = definition.security.get("uid")
    uid = None if not root else given.uid if chosen is None else chosen
    network = definition.config.get("network") or []
    taps = {nic["id"]: given.taps[nic["id"]] for nic in network if nic.get("tap_device") and is_bridge(nic["tap_device"])}
    return dataclasses.replace(definition, generated={**definition.generated, "uid": uid or None, "cid": given.cid, "macs": dict(given.macs), "taps": taps})
