# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes definitions, and what follows from them: allocations first, then launch files and documents, the definitions last."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from ..errors import FailedPrecondition, VmcpError
from ..host import allocations
from ..host.locks import held
from ..host.writing import FileText, Writing, are_few, commit
from ..model.definition import Definition
from ..model.words import REPLACES_LABEL
from .clones import make_disks, make_seed
from .launching import Launch, add_launch, allocation_request, launch_of, with_allocation
from .live import start_with_host
from .managed_files import ManagedFiles
from .path_users import PathUsers, fresh_paths
from .shelf import disk_users
from .work import Context, Work, attempt, by_supervisor

if t.TYPE_CHECKING:
    from ..model.nic_facts import NicFacts

# A definition, its launch file, its policy, a document or two.
_FILES_OF_A_VM = 5


def define(context: Context, works: t.Sequence[Work]) -> None:
    """C(define) and C(update)."""
    try:
        given = _allocate(context, works)
    except VmcpError as exc:
        for work in works:
            work.error = exc
        return
    facts = _on_networks(context, works, given)
    works = [work for work in works if work.error is None]
    few = are_few(_FILES_OF_A_VM * len(works))
    writings: dict[str, Writing] = {}
    definitions: dict[str, Definition] = {}

    def prepare(work: Work) -> None:
        writing = Writing()
        try:
            definitions[work.name] = _prepare(context, work, given[work.name], facts.get(work.name, {}), writing, sync=few)
        except VmcpError:
            writing.abandon()
            raise
        writings[work.name] = writing

    prepared = attempt(context, works, prepare)
    if not prepared:
        return
    try:
        with _disks_settled(context, prepared, definitions):
            commit([writings[work.name] for work in prepared], context.store.layout.state_dir)
    except VmcpError as exc:
        for work in prepared:
            writings[work.name].abandon()
            work.error = exc
        return
    for work in prepared:
        work.definition = definitions[work.name]
        work.launch_is_written = True
    _leave_former(context, prepared)
    for supervisor, _listed in by_supervisor(context, prepared):
        supervisor.ensure_installed()
    attempt(context, prepared, lambda work: start_with_host(context.store.layout, work.vm, work.wanted(), work.found.definition))


def _leave_former(context: Context, works: t.Sequence[Work]) -> None:
    """Networks that definitions name no longer. A VM that runs goes on as it was started, until it is started again."""
    stopped = [work for work in works if not work.found.runs and work.found.definition is not None and work.found.definition.on_networks]
    if stopped:
        from .networking import settle

        settle(context, stopped)


@contextlib.contextmanager
def _disks_settled(context: Context, works: t.Sequence[Work], definitions: t.Mapping[str, Definition]) -> t.Iterator[None]:
    """While definitions that name disks are stored, nobody else stores one: a disk is written to by one VM at a time. Looked at again, now that it counts."""
    files = ManagedFiles(context.store)
    named = {
        (disk, name): bool(entry.get("read_only"))
        for name, definition in definitions.items()
        for entry in definition.config.get("storage") or []
        if (disk := files.disk_of(entry)) is not None
    }
    fresh = {work.name: paths for work in works if (paths := _fresh_paths(work, definitions[work.name]))}
    if not named and not fresh:
        yield
        return
    with held(context.store.layout.disks_lock, "settling who uses which disk", context.lock_timeout_s):
        if named:
            _refuse_named(context, files, named, definitions)
        _refuse_paths(context, fresh, definitions)
        yield


def _fresh_paths(work: Work, definition: Definition) -> set[str]:
    before = work.found.definition
    return fresh_paths(definition.config.get("storage") or [], (before.config.get("storage") or []) if before else [])


def _refuse_named(context: Context, files: ManagedFiles, named: t.Mapping[tuple[str, str], bool], definitions: t.Mapping[str, Definition]) -> None:
    users = disk_users(context.store, files)
    for (disk, name), read_only in named.items():
        own = (name, definitions[name].labels.get(REPLACES_LABEL))
        others = [vm for vm, reads in users.get(disk, []) if vm not in own and vm not in definitions and not (reads and read_only)]
        if others:
            raise _given_away(f"Disk {disk}", others[0])


def _refuse_paths(context: Context, fresh: t.Mapping[str, set[str]], definitions: t.Mapping[str, Definition]) -> None:
    """Those of this task have been held against each other when they were planned."""
    users = PathUsers(context.store, but=definitions)
    for name, paths in fresh.items():
        for entry in definitions[name].config.get("storage") or []:
            path = entry.get("path")
            others = users.others(str(path), name, definitions[name].labels.get(REPLACES_LABEL)) if path in paths else ()
            if others and not (others[0].read_only and entry.get("read_only")):
                raise _given_away(str(path), others[0].vm)


def _given_away(what: str, vm: str) -> FailedPrecondition:
    return FailedPrecondition(f"{what} was given to VM {vm} by another task at the same time. Take it out of one of them.")


def _allocate(context: Context, works: t.Sequence[Work]) -> dict[str, allocations.Allocation]:
    """What is chosen once: uid, context id, MAC addresses, and taps for interfaces on bridges."""
    wanted = {work.name: allocation_request(work.wanted(), context.host, context.root) for work in works}
    return allocations.allocate_all(context.store.layout, wanted, lock_timeout_s=context.lock_timeout_s, tell=context.tell)


def _on_networks(context: Context, works: t.Sequence[Work], given: t.Mapping[str, allocations.Allocation]) -> dict[str, dict[str, NicFacts]]:
    """Those that cannot be on their networks have their error."""
    concerned = [work for work in works if work.wanted().names_networks]
    if not concerned:
        return {}
    from .networking import take_part

    try:
        return take_part(context, [work.wanted() for work in concerned], given)
    except VmcpError as exc:
        for work in concerned:
            work.error = exc
        return {}


def _prepare(context: Context, work: Work, given: allocations.Allocation, facts: t.Mapping[str, NicFacts], writing: Writing, *, sync: bool) -> Definition:
    """Writes all that belongs to one VM beside its names. C(sync): directories are made durable one by one."""
    store, vm = context.store, work.vm
    definition = with_allocation(work.wanted(), given, context.root, facts)
    store.ensure_dirs(vm, definition.generated.get("uid"), sync=sync)
    secrets: list[FileText] = []
    if work.plan.metadata is not None:
        text, digests = store.secrets_text(work.name, {**store.secrets(work.name), **work.plan.metadata})
        fresh: dict[str, t.Any] = {f"{name}_digest": digests[name] for name in work.plan.metadata}
        definition = dataclasses.replace(definition, **fresh)
        secrets.append(FileText(vm.secrets, text))
    launch = _launch(context, work, definition)
    if "cloud_init" in (work.plan.metadata or {}):
        make_seed(work, definition, work.plan.metadata["cloud_init"], sync=sync)
    definition = make_disks(context, work, definition, sync=sync)
    text = definition.to_json()
    store.keep_booted(work.name, text)
    add_launch(writing, vm, launch, text, secrets, stored=False)
    return definition


def _launch(context: Context, work: Work, definition: Definition) -> Launch:
    foreseen = context.foreseen.get(work.name)
    by_digest = definition.generated.get("cloud_init") == "mmds"
    if foreseen is not None and foreseen[0].generated == definition.generated and not by_digest:
        # What was predicted has come true: it is not made twice.
        return foreseen[1]
    return launch_of(work.vm, definition, {**context.store.secrets(work.name), **(work.plan.metadata or {})})
