# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what starts a VM: its launch file and its VMM's documents, both made from the definition alone and therefore always made anew."""

from __future__ import annotations

from ..backends.port import Isolation
from ..backends.registry import driver
from ..host import files, launchfile
from ..host.host_json import HostDefaults
from ..host.store import Store
from ..model.definition import Definition
from ..model.validate import read_config
from ..model.words import SHUTDOWN_GRACE_S


def isolation_of(definition: Definition) -> Isolation:
    """The sandbox of a VM: what was settled when it was defined."""
    security = definition.security
    return Isolation(uid=definition.generated.get("uid"), jail=bool(security.get("jail")), seccomp=bool(security.get("seccomp", True)))


def write_launch_files(store: Store, definition: Definition, host: HostDefaults) -> None:
    """Writes documents first and the launch file last; files that are the same already are left alone."""
    vm = store.layout.vm(definition.name)
    backend = driver(definition.backend)
    config = read_config(definition.config)
    isolation = isolation_of(definition)
    used, _taps = backend.uses(definition, config)
    paths = launchfile.sandbox_paths(vm, used, isolation, jailed=isolation.jail and bool(definition.helpers.get("jailer")))
    spec = backend.launch(definition, config, paths, isolation, vm, store.secrets(definition.name).get("metadata"))
    text = launchfile.render(
        vm,
        spec,
        isolation,
        restart_policy=definition.restart_policy,
        shutdown_timeout_s=SHUTDOWN_GRACE_S,
        console_max_bytes=host.console_max_bytes,
        console_path=config.console.path if config.console.output == "file" else None,
    )
    for name, content in spec.documents.items():
        files.write_if_different(vm.document(name), content)
    files.write_if_different(vm.launch, text)
