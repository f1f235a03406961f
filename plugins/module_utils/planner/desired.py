# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what was asked and what is stored to the definition that should be. Pure.

The answer always names everything that is wrong at once: what is wrong in itself (C(violations)), what this backend ignores, and what only the host
lacks (C(lacks): no binary installed, no default kernel…), which check mode reports and a real run refuses.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ..backends.port import Installed
from ..capabilities.catalogue import capabilities_of
from ..capabilities.check import check
from ..capabilities.choose import choose
from ..errors import Violation
from ..model.cloud_init import datasource_of
from ..model.definition import Definition
from ..model.merge import fill_defaults, merge_config
from ..model.resolving import resolve
from ..model.task import VmRequest
from ..model.validate import validate
from .settings import autostart_of, jail_lacks, no_supervisor, restart_policy_of, security_of, supervisor_of, unmeetable
from .situation import HostView, Situation
from .storage import Shelf, settle

if t.TYPE_CHECKING:
    from ..model.config import VmConfig


@dataclasses.dataclass(frozen=True)
class Desired:
    definition: t.Optional[Definition]
    config: t.Optional[VmConfig] = None
    violations: tuple[Violation, ...] = ()
    lacks: tuple[Violation, ...] = ()
    ignored: tuple[Violation, ...] = ()
    notices: tuple[str, ...] = ()
    # Ids of disks that are smaller than they should be.
    grow: tuple[str, ...] = ()


def desire(
    request: VmRequest,
    situation: Situation,
    host: HostView,
    metadata_digest: t.Optional[str],
    now: str,
    shelf: t.Optional[Shelf] = None,
    cloud_init_digest: t.Optional[str] = None,
) -> Desired:
    """The definition after this task. C(metadata_digest), C(cloud_init_digest): of what is given, None for what is not. C(now): ISO 8601, for
    C(created_at). C(shelf): what there is to make disks from; None where no disk is ours to make."""
    stored = situation.definition
    tree = merge_config(stored.config if stored else {}, request.config or {})
    config, violations = validate(tree)
    if config is None:
        return Desired(None, violations=tuple(request.as_given(violations)))

    backend, reason = _backend(request, stored, config, host)
    installed, lacks = _version(request, stored, backend, host)
    if stored is None or stored.backend != backend:
        tree, kernel_lacks = _with_host_kernel(tree, backend, host)
        config, violations = validate(tree)
        if config is None:
            # What the task says may not go with what the host's default is.
            what = f"This host boots {backend} VMs that name nothing else from its default (/etc/vmcp/host.json)."
            return Desired(None, violations=tuple(dataclasses.replace(v, message=f"{v.message} {what}") for v in violations))
    else:
        kernel_lacks = []
    version = installed.version if installed else request.options.get("backend_version")
    storage = settle(tree, stored, backend, version, shelf or Shelf(), replace=request.option("allow_disruption") == "replace_data")
    told, violations = (config, []) if not storage.chosen else validate(resolve(tree, storage.chosen, shelf.data if shelf else ""))
    if told is None:
        return Desired(None, violations=tuple(request.as_given(violations)))
    verdict = check(
        told,
        backend,
        version,
        request=_as_it_will_be(request, stored, backend),
        host_kernel_default=bool(host.default_kernel(backend)),
        features=installed.features if installed else (),
    )
    security, security_violations = security_of(request, stored, backend, host)
    violations = [*verdict.violations, *storage.violations, *security_violations, *no_supervisor(request, host), *unmeetable(request, config)]
    settings = request.settings
    definition = Definition(
        name=situation.name,
        backend=backend,
        backend_version=installed.version if installed else request.options.get("backend_version") or "",
        binary=installed.binary if installed else "",
        helpers=dict(installed.helpers) if installed else {},
        config=fill_defaults(tree),
        workload=settings.get("workload", stored.workload if stored else None),
        labels=settings.get("labels", stored.labels if stored else {}),
        autostart=autostart_of(request, stored),
        protected=settings.get("protected", stored.protected if stored else False),
        restart_policy=restart_policy_of(request, stored, backend),
        security=security,
        supervisor=supervisor_of(request, stored, host),
        generated={**_generated(stored, backend, installed, host, config), **({"disks": storage.chosen} if storage.chosen else {}), **_first_boot(request)},
        metadata_digest=metadata_digest if metadata_digest is not None else (stored.metadata_digest if stored else None),
        cloud_init_digest=cloud_init_digest if cloud_init_digest is not None else (stored.cloud_init_digest if stored else None),
        backend_reason=reason,
        group=request.group or (stored.group if stored else None),
        created_at=stored.created_at if stored else now,
        extra=stored.extra if stored else {},
    )
    return Desired(
        definition,
        config,
        violations=tuple(request.as_given(violations)),
        lacks=(*lacks, *kernel_lacks, *jail_lacks(stored, installed, security), *storage.lacks),
        ignored=tuple(verdict.ignored),
        notices=(*(f"{n.field}: {n.message}" for n in verdict.notices), *storage.notices),
        grow=tuple(storage.grow),
    )


def _first_boot(request: VmRequest) -> dict[str, t.Any]:
    """How the guest gets its first-boot data, where this task gives any."""
    return {} if request.cloud_init is None else {"cloud_init": datasource_of(request.cloud_init)}


def _as_it_will_be(request: VmRequest, stored: t.Optional[Definition], backend: str) -> VmRequest:
    """The request with what is stored beside the tree: another backend may not be able to do what an earlier task asked for."""
    if stored is None:
        return request
    policy = restart_policy_of(request, stored, backend)
    metadata = request.metadata if request.metadata is not None or stored.metadata_digest is None else {}
    cloud_init = request.cloud_init
    if cloud_init is None and stored.cloud_init_digest is not None:
        cloud_init = {"datasource": stored.generated.get("cloud_init")}
    return dataclasses.replace(request, settings={**request.settings, "restart_policy": policy}, metadata=metadata, cloud_init=cloud_init)


def _backend(request: VmRequest, stored: t.Optional[Definition], config: VmConfig, host: HostView) -> tuple[str, str]:
    given = request.options.get("backend")
    # The defaults of environment and host are for new VMs: they never move one that exists.
    asked = given or ("auto" if stored else host.defaults.get("backend")) or "auto"
    if asked != "auto":
        source = "asked for" if given else host.defaults.get("backend_source", "the default of this host (host.json)")
        return asked, source if stored is None or stored.backend != asked else stored.backend_reason or source
    if stored is not None:
        return stored.backend, stored.backend_reason
    choice = choose(config, request, host.installed, host.hardware_kvm, host.defaults.get("backend"), host_kernels=tuple(host.defaults.get("boot") or ()))
    return choice.backend, choice.reason


def _version(request: VmRequest, stored: t.Optional[Definition], backend: str, host: HostView) -> tuple[t.Optional[Installed], list[Violation]]:
    """The pinned version stays until the task names another one, the backend changes, or the VM is restarted (which takes 'current')."""
    candidates = host.of(backend)
    asked = request.options.get("backend_version")
    if asked and asked != "current":
        for candidate in candidates:
            if candidate.version == asked or candidate.version.startswith(f"{asked}."):
                return candidate, []
        there = ", ".join(c.version for c in candidates) or "none"
        return None, [
            Violation(
                "backend_version", f"{backend} {asked} is not installed on this host (installed: {there}). Install it with the role unkey.vmcp.vmcp_{backend}."
            )
        ]
    if stored and stored.backend == backend and asked != "current" and request.option("state") != "restarted":
        return Installed(backend, stored.backend_version, stored.binary, stored.helpers), _binary_lack(stored, candidates)
    current = next((c for c in candidates if c.current), None)
    if current is None:
        problem = (
            host.problems.get(backend)
            or f"{backend} is not installed on this host. Install it with the role unkey.vmcp.vmcp_{backend}, or put its binary on the PATH of root."
        )
        return None, [Violation("backend", problem)]
    return current, []


def _binary_lack(stored: Definition, candidates: t.Sequence[Installed]) -> list[Violation]:
    # Only where discovery ran and does not know the pinned binary any more; the runner tells a missing file when it starts it.
    if candidates and all(c.binary != stored.binary for c in candidates):
        there = ", ".join(f"{c.version} ({c.binary})" for c in candidates)
        return [
            Violation(
                "backend_version",
                f"{stored.binary}, with which this VM was made ({stored.backend_version}), is gone; installed: {there}. Give backend_version: current.",
            )
        ]
    return []


def _with_host_kernel(tree: dict[str, t.Any], backend: str, host: HostView) -> tuple[dict[str, t.Any], list[Violation]]:
    """Fills in the host's default kernel when the tree names nothing to boot; it is recorded, so that a new default never drifts an old VM."""
    boot = dict(tree.get("boot") or {})
    if any(boot.get(k) for k in ("kernel_path", "firmware_path", "igvm_path")):
        return tree, []
    defaults = host.default_kernel(backend)
    if not defaults:
        # Whether a backend can do without is for the matrix: it says so with the role and the option.
        return tree, []
    if defaults.get("kernel"):
        boot["kernel_path"] = defaults["kernel"]
        if defaults.get("initrd") and not boot.get("initrd_path"):
            boot["initrd_path"] = defaults["initrd"]
    else:
        boot["firmware_path"] = defaults["firmware"]
    return {**tree, "boot": boot}, []


def _generated(stored: t.Optional[Definition], backend: str, installed: t.Optional[Installed], host: HostView, config: VmConfig) -> dict[str, t.Any]:
    """What can be settled without allocating: QEMU's accelerator and versioned machine, so that an upgrade of QEMU does not change the guest's hardware."""
    generated = {key: value for key, value in stored.generated.items() if key != "disks"} if stored else {}
    traits = capabilities_of(backend).traits
    if not traits.needs_kvm and "qemu_accel" not in generated:
        options = config.backend_options.qemu
        asked = (options.machine if options else {}).get("accel")
        generated["qemu_accel"] = asked or ("kvm" if host.hardware_kvm and host.kvm_usable else "tcg")
    if traits.pins_machine and installed and "qemu_machine" not in generated:
        alias = next((feature.removeprefix("q35=") for feature in installed.features if feature.startswith("q35=")), None)
        generated["qemu_machine"] = alias or "pc-q35-" + ".".join(installed.version.split(".")[:2])
    return generated
