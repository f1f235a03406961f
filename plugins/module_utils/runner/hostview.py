# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gathers the planner's view of the host. Discovery runs binaries, so it runs only when a plan may need its answer."""

from __future__ import annotations

import typing as t

from ..errors import InvalidArgument, Violation
from ..host import probe
from ..host.discovery import Discovery, discover
from ..host.host_json import HostDefaults
from ..host.layout import Layout
from ..model.definition import Definition
from ..model.words import BACKEND_CHOICES, BACKENDS
from ..planner.situation import HostView

if t.TYPE_CHECKING:
    from ..model.task import VmRequest


class HostLook:
    """The host for the plans of one task. What is the same for all of them is looked at once, and only when a plan needs it."""

    def __init__(self, layout: Layout, defaults: HostDefaults, uid: int, environ: t.Mapping[str, str]) -> None:
        self._layout = layout
        self._defaults = defaults
        self._uid = uid
        self._default, self._source = _default_backend(defaults, environ)
        self._found: dict[str, Discovery] = {}
        self._kvm: t.Optional[probe.Kvm] = None
        self._views: dict[tuple[str, ...], HostView] = {}

    def view(self, request: VmRequest, stored: t.Optional[Definition]) -> HostView:
        """A VM that keeps backend and version needs no discovery: its binary is pinned. Else only what may be chosen is looked for."""
        asked = request.options.get("backend")
        if asked in (None, "auto"):
            asked = stored.backend if stored else self._default
        keeps = stored is not None and asked == stored.backend and not request.options.get("backend_version") and request.option("state") != "restarted"
        backends = () if keeps else BACKENDS if asked == "auto" else (str(asked),)
        if backends not in self._views:
            self._views[backends] = self._look(backends)
        return self._views[backends]

    def _look(self, backends: tuple[str, ...]) -> HostView:
        for backend in backends:
            if backend not in self._found:
                self._found[backend] = discover((backend,))
        found = [self._found[backend] for backend in backends]
        if self._kvm is None:
            self._kvm = probe.kvm()
        return HostView(
            installed=tuple(one for discovery in found for one in discovery.installed),
            problems={problem.backend: problem.message for discovery in found for problem in discovery.problems},
            hardware_kvm=self._kvm.hardware,
            kvm_usable=self._kvm.usable,
            defaults={"backend": self._default, "backend_source": self._source, "boot": self._defaults.boot},
            root=self._uid == 0,
            systemd=self._uid == 0 and self._layout.is_system and probe.systemd_runs(),
        )


def _default_backend(defaults: HostDefaults, environ: t.Mapping[str, str]) -> tuple[str, str]:
    """The default for new VMs and where it comes from: a play's C(environment:) goes before the host's own default."""
    asked = environ.get("UNKEY_VMCP_BACKEND")
    if not asked:
        return defaults.backend, "the default of this host (host.json)"
    if asked not in BACKEND_CHOICES:
        raise InvalidArgument.of([Violation("UNKEY_VMCP_BACKEND", f"{asked!r} in the environment is no backend: give one of {', '.join(BACKEND_CHOICES)}.")])
    return asked, "UNKEY_VMCP_BACKEND in the environment"
