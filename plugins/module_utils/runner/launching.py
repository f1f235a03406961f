# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what starts a VM: its launch file and its VMM's documents, both made from the definition alone and therefore always made anew."""

from __future__ import annotations

import dataclasses
import typing as t

from ..backends.port import Isolation
from ..backends.registry import driver
from ..errors import FailedPrecondition, InvalidArgument, Violation
from ..host import allocations, files, following, launchfile, processes
from ..host.host_json import HostDefaults
from ..host.store import Store
from ..host.writing import FileText, Writing, commit
from ..model.cloud_init import for_mmds
from ..model.definition import Definition
from ..model.resolving import resolved
from ..model.validate import read_config
from ..model.words import SHUTDOWN_GRACE_S
from .nic_lacks import is_bridge

if t.TYPE_CHECKING:
    from ..host.layout import VmLayout
    from ..model.nic_facts import NicFacts
    from .seen_networks import Networks


def isolation_of(definition: Definition) -> Isolation:
    """The sandbox of a VM: what was settled when it was defined."""
    security = definition.security
    return Isolation(uid=definition.generated.get("uid"), jail=bool(security.get("jail")), seccomp=bool(security.get("seccomp", True)))


@dataclasses.dataclass(frozen=True)
class Launch:
    """All that a start of one VM is made from. C(files): what stands beside its definition, the launch file last. C(log): the VMM opens its log itself."""

    files: tuple[FileText, ...]
    uid: t.Optional[int]
    log: bool

    @property
    def text(self) -> str:
        return self.files[-1].text


def write_launch(vm: VmLayout, launch: Launch, definition: Definition) -> None:
    """Of a definition that is stored. Files that are the same already are left alone."""
    following.settle(vm)
    writing = Writing()
    try:
        add_launch(writing, vm, launch, definition.to_json())
    except BaseException:
        writing.abandon()
        raise
    commit([writing], vm.dir)


def add_launch(writing: Writing, vm: VmLayout, launch: Launch, definition: str, secrets: t.Sequence[FileText] = (), *, stored: bool = True) -> None:
    """C(definition): the text of C(vm.json). C(stored): it stands there already."""
    ready_for(vm, launch)
    new = None if stored else FileText(vm.definition, definition)
    following.write_all(writing, vm, (*secrets, *launch.files[:-1]), launch.files[-1], definition.encode(), new)


def ready_for(vm: VmLayout, launch: Launch) -> None:
    """Before the files are written: what a running process was started from is kept as long as it runs, for it is ended by its own launch file."""
    if launch.log and launch.uid is not None:
        files.ensure_file(vm.vmm_log, 0o600, launch.uid)
    if processes.current(vm) is not None:
        files.keep_former(vm.launch, vm.launch_running, following.followed(launch.text, following.told(vm)))


def told_metadata(definition: Definition, secrets: t.Mapping[str, t.Any]) -> t.Any:
    """What the VMM's metadata service is given: the user's metadata, and first-boot data that are to come that way."""
    metadata, given = secrets.get("metadata"), secrets.get("cloud_init")
    if given is None or definition.generated.get("cloud_init") != "mmds":
        return metadata
    return {**for_mmds(given, definition.name, str(definition.cloud_init_digest)), **(metadata or {})}


def launch_of(vm: VmLayout, definition: Definition, secrets: t.Mapping[str, t.Any]) -> Launch:
    """Pure. C(secrets): the VM's secret values. InvalidArgument for what the VMM cannot be told, FailedPrecondition for a part of it that is missing."""
    backend = driver(definition.backend)
    config = read_config(resolved(definition, vm.data))
    isolation = isolation_of(definition)
    used, _taps = backend.uses(definition, config)
    paths = launchfile.sandbox_paths(vm, used, isolation, jailed=isolation.jail and bool(definition.helpers.get("jailer")))
    spec = backend.launch(definition, config, paths, isolation, vm, told_metadata(definition, secrets))
    text = launchfile.render(
        vm,
        spec,
        isolation,
        shutdown_timeout_s=SHUTDOWN_GRACE_S,
        console_path=config.console.path if config.console.output == "file" else None,
    )
    uid = isolation.uid
    # Root's to write, the VM's to read: by its group.
    mode, gid = (0o600, -1) if uid is None else (0o640, uid)
    documents = [FileText(vm.document(name), content, mode, gid) for name, content in spec.documents.items()]
    policy = FileText(vm.policy, launchfile.render_policy(definition.restart_policy))
    return Launch((*documents, policy, FileText(vm.launch, text)), uid, spec.vmm_log_in_sandbox is not None)


Launchable = tuple[Definition, Launch]


def foresee(
    store: Store, wanted: t.Sequence[tuple[Definition, t.Any]], host: HostDefaults, root: bool
) -> dict[str, t.Union[Launchable, list[Violation], InvalidArgument]]:
    """Makes what would be written for each of C(wanted) (definition, secrets that are given anew, or None), so that a check refuses what the real run would.

    By name: definition with what will be chosen for it, and its launch (what C(allocate_all) gives then is usually the same, and nothing is
    made twice); or what the host lacks; or what is wrong."""
    networks = _networks(store) if any(definition.names_networks for definition, _secrets in wanted) else None
    given = allocations.predict_all(store.layout, {definition.name: allocation_request(definition, host, root) for definition, _secrets in wanted})
    seen: dict[str, t.Union[Launchable, list[Violation], InvalidArgument]] = {}
    for definition, fresh in wanted:
        name = definition.name
        secrets = {**store.secrets(name), **(fresh or {})}
        try:
            facts = networks.foresee(definition) if networks else {}
            chosen = with_allocation(definition, given[name], root, facts)
            seen[name] = (chosen, launch_of(store.layout.vm(name), chosen, secrets))
        except InvalidArgument as exc:
            seen[name] = exc
        except FailedPrecondition as exc:
            seen[name] = [Violation("config.network" if definition.names_networks else "backend", exc.msg)]
    return seen


def _networks(store: Store) -> Networks:
    """Imported here: VMs on no network of ours do not pay for it."""
    from .seen_networks import Networks

    return Networks(store.layout)


def allocation_request(definition: Definition, host: HostDefaults, root: bool) -> allocations.Wanted:
    network = definition.config.get("network") or []
    return allocations.Wanted(
        nic_ids=[nic["id"] for nic in network],
        uid_range=host.uid_range if root and definition.security.get("uid") is None else None,
        taken_macs=[nic["mac_address"] for nic in network if nic.get("mac_address")],
    )


def with_allocation(definition: Definition, given: allocations.Allocation, root: bool, facts: t.Mapping[str, NicFacts]) -> Definition:
    """The definition with what was chosen once: uid, context id, MAC addresses, taps for interfaces on bridges and networks, C(facts) of the latter."""
    chosen = definition.security.get("uid")
    uid = None if not root else given.uid if chosen is None else chosen
    network = definition.config.get("network") or []
    on_bridges = {nic["id"] for nic in network if nic.get("tap_device") and is_bridge(nic["tap_device"])}
    taps = {nic_id: tap for nic_id, tap in given.taps.items() if nic_id in on_bridges or nic_id in facts}
    kept = {key: value for key, value in definition.generated.items() if key != "nics"}
    chosen_now = {"uid": uid or None, "cid": given.cid, "macs": dict(given.macs), "taps": taps, **({"nics": dict(facts)} if facts else {})}
    return dataclasses.replace(definition, generated={**kept, **chosen_now})
