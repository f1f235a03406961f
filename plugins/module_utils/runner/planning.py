# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From requests and situations to plans: the same for one VM and for a thousand. The host is looked at once for all of them; nothing is touched."""

from __future__ import annotations

import dataclasses
import typing as t

from ..backends.registry import driver
from ..capabilities.check import check_the_rest
from ..errors import InvalidArgument, Violation, VmcpError
from ..host import events
from ..host.host_json import HostDefaults, read_host_json
from ..model.words import BACKENDS
from ..planner.desired import Desired, desire
from ..planner.make import lacks_a_source, plan_removal, plan_restart, plan_vm
from .hostview import HostLook
from .lacks import binary_lacks, device_lacks, host_lacks, seed_lacks
from .launching import Launchable, foresee
from .nic_lacks import limit_lacks
from .shelf import Shelves

if t.TYPE_CHECKING:
    from ..host.store import Store
    from ..model.config import VmConfig
    from ..model.task import VmRequest
    from ..planner.plan import Plan
    from ..planner.situation import Situation
    from .seen_networks import Networks


class Planning:
    """Plans VMs of one host. C(foreseen): what would be written for VMs that are defined, changed or started, by name."""

    def __init__(self, store: Store, uid: int, environ: t.Mapping[str, str]) -> None:
        self.store = store
        self.root = uid == 0
        self.defaults: HostDefaults = read_host_json()
        self.foreseen: dict[str, Launchable] = {}
        self._host = HostLook(store.layout, self.defaults, uid, environ)
        self._seen_networks: t.Optional[Networks] = None
        self._shelves = Shelves(store)
        self._lacks: dict[tuple[t.Any, ...], tuple[VmConfig, list[Violation]]] = {}

    def plan(self, request: VmRequest, found: Situation) -> Plan:
        """One VM's plan. Refusals as C(plan_vm) and C(plan_removal). What is to be launched is not yet tried: see C(foresee)."""
        if request.option("state") == "absent":
            return plan_removal(request, found)
        if lacks_a_source(request, found):
            found = dataclasses.replace(found, nearest=tuple(self.store.nearest_names(found.name)), searched=self.store.searched())
        secrets = {key: value for key, value in (("metadata", request.metadata), ("cloud_init", request.cloud_init)) if value is not None}
        digests = {key: self.store.secrets_digest(found.name, {key: value}) or "new" for key, value in secrets.items()}
        labels = request.settings.get("labels", found.definition.labels if found.definition else None)
        shelf = self._shelves.of(found.name, found.definition, request.config, labels)
        desired = desire(request, found, self._host.view(request, found.definition), digests.get("metadata"), events.now(), shelf, digests.get("cloud_init"))
        plan = plan_vm(request, found, desired, self._host_lacks(request, found, desired))
        if plan.definition is not None:
            self._shelves.claim(plan.definition)
        return dataclasses.replace(plan, metadata=secrets) if secrets else plan

    def restart(self, request: VmRequest, found: Situation, grace_s: int) -> Plan:
        """The plan to stop a VM and start it again as it is defined. C(request): names it, and asks for nothing."""
        shelf = self._shelves.of(found.name, found.definition, None, found.definition.labels if found.definition else None)
        desired = desire(request, found, self._host.view(request, found.definition), None, events.now(), shelf)
        return plan_restart(found, desired, self._host_lacks(request, found, desired), grace_s)

    def foresee(self, plans: t.Sequence[Plan]) -> dict[str, t.Union[Plan, InvalidArgument]]:
        """The plans by name, with what their launching would lack; or what the VMM could not be told."""
        wanted = [
            (plan.definition, plan.metadata)
            for plan in plans
            if plan.definition is not None and not plan.would_need and any(step.action in ("define", "update", "start") for step in plan.steps)
        ]
        result: dict[str, t.Union[Plan, InvalidArgument]] = {plan.name: plan for plan in plans}
        if not wanted:
            return result
        for name, seen in foresee(self.store, wanted, self.defaults, self.root).items():
            plan = result[name]
            if isinstance(seen, InvalidArgument):
                result[name] = seen
            elif isinstance(seen, tuple):
                self.foreseen[name] = seen
                if not isinstance(plan, InvalidArgument) and any(step.action in ("define", "update") for step in plan.steps):
                    # With what will be chosen, so that a check tells addresses.
                    result[name] = dataclasses.replace(plan, definition=seen[0])
            elif not isinstance(plan, InvalidArgument):
                result[name] = dataclasses.replace(plan, would_need=tuple(seen))
        return result

    def _networks(self) -> Networks:
        if self._seen_networks is None:
            # Imported here: VMs on no network of ours do not pay for it.
            from .seen_networks import Networks

            self._seen_networks = Networks(self.store.layout)
        return self._seen_networks

    def _host_lacks(self, request: VmRequest, found: Situation, desired: Desired) -> list[Violation]:
        """Equal configurations lack the same: they are looked at once."""
        if desired.config is None or desired.definition is None:
            return []
        definition, config = desired.definition, desired.config
        powered = request.option("state") in ("running", "paused", "restarted") or found.runs
        uid = definition.security.get("uid") or definition.generated.get("uid")
        # A uid matters to taps and sockets alone.
        minds_uid = bool(config.network or config.console.path or config.vsock)
        key = (id(config), definition.backend, definition.binary, definition.generated.get("qemu_accel"), uid if minds_uid else None, powered)
        if key not in self._lacks:
            lacks = host_lacks(config, definition.backend, uid, self.root, self._networks() if definition.names_networks else None)
            files, taps = driver(definition.backend).uses(definition, config)
            lacks += seed_lacks(files) + limit_lacks(taps, self.root)
            if powered:
                lacks += binary_lacks(definition.binary)
                lacks += device_lacks(config, definition.backend, definition.generated.get("qemu_accel"))
            # With the configuration, so that its identity is not given to another one.
            self._lacks[key] = (config, lacks)
        return self._lacks[key][1]


def stored_config(store: Store, name: str) -> t.Optional[dict[str, t.Any]]:
    """What a partial configuration will be merged into, so that everything is said at once. None where it cannot be read: planning says why."""
    try:
        definition = store.load(name)
    except VmcpError:
        return None
    return definition.config if definition else {}


def beyond_the_backend(options: t.Mapping[str, t.Any]) -> list[Violation]:
    """What the backend that the task names could not do, of the part of the task that is right."""
    backend = options.get("backend")
    return check_the_rest(options, str(backend), None) if backend in BACKENDS else []
