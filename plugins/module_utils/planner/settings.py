# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a definition has beside the configuration tree, from what was asked, what was kept and the defaults. Pure."""

from __future__ import annotations

import typing as t

from ..backends.port import Installed
from ..capabilities.catalogue import capabilities_of, supports
from ..errors import Violation
from ..model.definition import Definition
from ..model.task import VmRequest
from .situation import HostView

if t.TYPE_CHECKING:
    from ..model.config import VmConfig


def security_of(request: VmRequest, stored: t.Optional[Definition], backend: str, host: HostView) -> tuple[dict[str, t.Any], list[Violation]]:
    """The sandbox is on unless opted out. A jailer needs root; VMMs that sandbox themselves do not. Where there is no jail, the definition speaks of none."""
    asked = request.settings.get("security", {})
    # A VM that changes its backend gets the new backend's default sandbox, except for what this task says.
    kept = stored.security if stored and stored.backend == backend else {}
    jailer = capabilities_of(backend).traits.jailer
    security = _settled({"jail": host.root or jailer is None, "seccomp": True}, kept, asked)
    if not supports(backend, "security.jail=true"):
        del security["jail"]
    violations = []
    if jailer and security["jail"] and not host.root:
        violations.append(Violation("security.jail", f"the {jailer} needs root. Run the task with become, or set security.jail: false."))
    if asked.get("uid") not in (None, 0) and not host.root:
        violations.append(Violation("security.uid", "only root can run a VMM under another uid. Run the task with become, or leave it out."))
    return security, violations


def jail_lacks(stored: t.Optional[Definition], installed: t.Optional[Installed], security: t.Mapping[str, t.Any]) -> list[Violation]:
    """A backend's jailer must be installed, and its VMM be a static binary."""
    jailer = capabilities_of(installed.backend).traits.jailer if installed else None
    if installed is None or jailer is None or not security["jail"]:
        return []
    if not installed.helpers.get(jailer):
        remedy = f"Install the {jailer} of the same release there, or set security.jail: false."
        return [Violation("security.jail", f"no {jailer} was found beside {installed.binary} or on the PATH. {remedy}")]
    if not stored and not installed.static:
        remedy = "Use the static release, or set security.jail: false."
        return [Violation("security.jail", f"{installed.binary} is dynamically linked and cannot run in the jailer's empty root. {remedy}")]
    return []


def autostart_of(request: VmRequest, stored: t.Optional[Definition]) -> bool:
    default = stored.autostart if stored else request.settings.get("workload") != "serverless"
    return bool(request.settings.get("autostart", default))


def restart_policy_of(request: VmRequest, stored: t.Optional[Definition], backend: str) -> dict[str, t.Any]:
    return _settled(_restart_policy(request, backend), stored.restart_policy if stored else {}, request.settings.get("restart_policy", {}))


def _restart_policy(request: VmRequest, backend: str) -> dict[str, t.Any]:
    """A guest's reboot means the same everywhere: it boots again. A serverless VM that reboots has done its work, where the VMM can end then."""
    ends = request.settings.get("workload") == "serverless" and supports(backend, "restart_policy.on_reboot=stop")
    return {"on_reboot": "stop" if ends else "restart", "on_crash": "no", "max_per_hour": 5}


def _settled(defaults: t.Mapping[str, t.Any], kept: t.Mapping[str, t.Any], asked: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What is asked over what was kept over the defaults; an explicit null asks for the default again, or for nothing where there is none."""
    settled = {**defaults, **kept, **{key: defaults.get(key) if value is None else value for key, value in asked.items()}}
    return {key: value for key, value in settled.items() if value is not None}


def supervisor_of(request: VmRequest, stored: t.Optional[Definition], host: HostView) -> str:
    asked = request.settings.get("supervisor", "auto")
    if asked != "auto":
        return str(asked)
    if stored:
        return stored.supervisor
    return "systemd" if host.systemd else "plain"


def no_supervisor(request: VmRequest, host: HostView) -> list[Violation]:
    if request.settings.get("supervisor") != "systemd" or host.systemd:
        return []
    return [
        Violation(
            "supervisor",
            "systemd needs root, the system's directories (no state_dir or run_dir), and a host that was booted with systemd. Leave it out, or give plain.",
        )
    ]


def unmeetable(request: VmRequest, config: VmConfig) -> list[Violation]:
    """Conditions of which nothing could ever be seen."""
    console = config.console
    kept = console.enabled and console.output == "file"
    found = []
    for index, condition in enumerate(request.wait_for):
        if "console" in condition and not kept:
            how = f"goes to {console.output}" if console.enabled else "is off"
            found.append(
                Violation(f"wait_for[{index}].console", f"can never be met: the console {how}. Set config.console to {{enabled: true, output: file}}.")
            )
        if "address" in condition and not any(nic.network for nic in config.network):
            found.append(Violation(f"wait_for[{index}].address", "can never be met: no interface is on a network. Give config.network[].network."))
        if "vsock" in condition and config.vsock is None:
            found.append(Violation(f"wait_for[{index}].vsock", "can never be met: the VM has no vsock. Give config.vsock."))
    return found
