# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gathers the planner's view of the host. Discovery runs binaries, so it runs only when a plan may need its answer."""

from __future__ import annotations

import typing as t

from ..errors import InvalidArgument, Violation
from ..host import probe
from ..host.discovery import discover
from ..host.host_json import HostDefaults
from ..host.layout import Layout
from ..model.definition import Definition
from ..model.words import BACKEND_CHOICES, BACKENDS
from ..planner.situation import HostView

if t.TYPE_CHECKING:
    from ..model.task import VmRequest


def host_view(layout: Layout, defaults: HostDefaults, uid: int, environ: t.Mapping[str, str], request: VmRequest, stored: t.Optional[Definition]) -> HostView:
    """The host for one plan. A VM that keeps backend and version needs no discovery: its binary is pinned. Else only what may be chosen is looked for."""
    default, source = _default_backend(defaults, environ)
    asked = request.options.get("backend")
    if asked in (None, "auto"):
        asked = stored.backend if stored else default
    keeps = stored is not None and asked == stored.backend and not request.options.get("backend_version") and request.option("state") != "restarted"
    found = discover(() if keeps else BACKENDS if asked == "auto" else (asked,))
    kvm = probe.kvm()
    return HostView(
        installed=found.installed,
        problems={p.backend: p.message for p in found.problems},
        hardware_kvm=kvm.hardware,
        kvm_usable=kvm.usable,
        defaults={"backend": default, "backend_source": source, "boot": defaults.boot},
        root=uid == 0,
        systemd=uid == 0 and layout.is_system and probe.systemd_runs(),
    )


def _default_backend(defaults: HostDefaults, environ: t.Mapping[str, str]) -> tuple[str, str]:
    """The default for new VMs and where it comes from: a play's C(environment:) goes before the host's own default."""
    asked = environ.get("UNKEY_VMCP_BACKEND")
    if not asked:
        return defaults.backend, "the default of this host (host.json)"
    if asked not in BACKEND_CHOICES:
        raise InvalidArgument.of([Violation("UNKEY_VMCP_BACKEND", f"{asked!r} in the environment is no backend: give one of {', '.join(BACKEND_CHOICES)}.")])
    return asked, "UNKEY_VMCP_BACKEND in the environment"
