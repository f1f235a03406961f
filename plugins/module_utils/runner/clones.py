# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes and grows the disks that are made with a VM, before its definition is stored and before it starts."""

from __future__ import annotations

import dataclasses
import os
import time
import typing as t

from ..backends.registry import driver
from ..errors import FailedPrecondition
from ..host import clones
from ..model.cloud_init import SEED_FILE, documents
from ..model.definition import Definition
from ..model.resolving import resolved
from ..model.seed_network import network_config
from .disk_images import image_origin
from .live import peer_uid
from .work import Context, Work, attempt, running_as

RESIZE_S = 30.0


def sized(definition: Definition) -> dict[str, t.Optional[int]]:
    """Ids of the disks that are made with the VM, with the size that each is to have (None: as its image)."""
    chosen = definition.generated.get("disks") or {}
    entries = definition.config.get("storage") or []
    return {str(entry.get("id")): entry.get("size") for entry in entries if "file" in (chosen.get(str(entry.get("id"))) or {})}


def make_disks(context: Context, work: Work, definition: Definition, *, sync: bool) -> Definition:
    """Makes what is missing of the VM's disks, and grows those that nobody has open. The definition, with how each was made."""
    wanted = sized(definition)
    if not wanted:
        return definition
    chosen = dict(definition.generated["disks"])
    uid = definition.generated.get("uid")
    for entry, size in wanted.items():
        one = chosen[entry]
        if clones.is_there(work.vm, one):
            if size is not None and not work.found.runs:
                clones.grow(work.vm, one, size)
            continue
        image = None
        if "image" in one:
            origin = image_origin(context.store, one["image"])
            if origin.digest != one["digest"]:
                raise FailedPrecondition(f"Image {one['image']} was changed by another task at the same time. Run this task again.")
            image = (origin.path, origin.format, origin.size_bytes)
        made = clones.make(work.vm, one, image, size, uid, context.overlays, sync=sync)
        chosen[entry] = {**one, "method": made.method, "saved_bytes": made.saved_bytes}
    if not work.found.runs:
        drop_former(work, definition)
    return dataclasses.replace(definition, generated={**definition.generated, "disks": chosen})


def drop_former(work: Work, definition: Definition) -> None:
    """What was replaced, once the process that had it is gone."""
    for one in (definition.generated.get("disks") or {}).values():
        clones.drop_former(work.vm, one)


def make_seed(work: Work, definition: Definition, given: t.Mapping[str, t.Any], *, sync: bool) -> None:
    """The seed disk with the VM's first-boot data. One that a running VM has stays as it is for it."""
    if definition.generated.get("cloud_init") != "nocloud":
        return
    from ..host.seed import seed_bytes, write_seed

    if given.get("network_config") is None and (addresses := network_config(definition)):
        given = {**given, "network_config": addresses}
    files = documents(given, definition.name, str(definition.cloud_init_digest))
    write_seed(work.vm, seed_bytes(files), definition.generated.get("uid"), sync=sync)


def before_start(context: Context, work: Work) -> None:
    """What could not be done while the VM ran, and a seed disk that somebody removed."""
    definition = work.wanted()
    if definition.generated.get("cloud_init") == "nocloud" and not os.path.lexists(f"{work.vm.data}/{SEED_FILE}"):
        make_seed(work, definition, context.store.secrets(work.name).get("cloud_init") or {}, sync=True)
    for entry, size in sized(definition).items():
        one = definition.generated["disks"][entry]
        if size is not None and clones.is_there(work.vm, one):
            clones.grow(work.vm, one, size)
    drop_former(work, definition)


def resize(context: Context, works: t.Sequence[Work]) -> None:
    """Step C(resize): the VMM of each is told of the new sizes; one that does not extend the file itself finds it extended."""
    from ..model.validate import read_config

    def one(work: Work) -> None:
        running = running_as(context, work)
        backend, config = driver(running.backend), read_config(resolved(running, work.vm.data))
        sizes = sized(work.wanted())
        for entry in work.left[0].args["disks"]:
            size = sizes[entry]
            if size is None:
                continue
            if not backend.extends_disks:
                clones.grow(work.vm, running.generated["disks"][entry], size)
            backend.resize_disk(work.vm.api_socket, config, entry, size, time.monotonic() + RESIZE_S, peer_uid(running))

    attempt(context, works, one)
