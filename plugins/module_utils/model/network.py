# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task asks of a network: the options of C(vmcp_network), validated all at once, merged over what is stored.

Whatever is wrong in itself is told here; what this host cannot do is the planner's business.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ..errors import Violation
from ..thirdparty_pydantic import ValidationError
from .network_consistency import broken_rules
from .network_options import NetworkOptions
from .options import OPTIONS
from .walk import nearest, notation
from .words import NAME_PATTERN, name_rule

DISRUPTIONS_OF_NETWORKS = ("none", "restart")


STORED = tuple(getattr(NetworkOptions, "model_fields", {}))
# How a task goes about it; beside these there is nothing.
OTHER = ("name", "state", "force", "allow_disruption", "lock_timeout", "state_dir", "run_dir")


@dataclasses.dataclass(frozen=True)
class NetworkRequest:
    """What was asked. C(settings): all that a definition keeps, what is stored included. C(given): the options that this task gave."""

    name: str
    state: str
    settings: dict[str, t.Any]
    given: frozenset[str]
    force: bool = False
    allow_disruption: str = "none"
    lock_timeout_s: int = 60


def validate_network(params: t.Mapping[str, t.Any], stored: t.Optional[t.Mapping[str, t.Any]] = None) -> tuple[t.Optional[NetworkRequest], list[Violation]]:
    """The request, or None and all violations. C(stored): the settings of the network as it is, None for a new one. Lists and dictionaries that are given
    replace what is stored whole."""
    given = {key: value for key, value in params.items() if value is not None}
    violations = [Violation(str(key), f"is no option.{nearest(str(key), (*STORED, *OTHER))}") for key in given if key not in STORED and key not in OTHER]
    name = str(given.get("name", ""))
    if not re.fullmatch(NAME_PATTERN, name):
        violations.append(Violation("name", f"must be {name_rule(name)}."))
    state = given.get("state", "present")
    if state not in ("present", "absent"):
        violations.append(Violation("state", "must be one of present, absent."))
    if given.get("allow_disruption", "none") not in DISRUPTIONS_OF_NETWORKS:
        violations.append(Violation("allow_disruption", f"must be one of {', '.join(DISRUPTIONS_OF_NETWORKS)}."))
    lock_timeout = _lock_timeout(given, violations)
    merged = {**(stored or {}), **{key: value for key, value in given.items() if key in STORED}}
    if stored and state == "present" and merged.get("kind") != stored.get("kind"):
        # What else does not fit the other kind would only be an echo of this.
        text = f"cannot become {merged.get('kind')!s:.40}: network {name} is of kind {stored.get('kind')}. Remove it first (state: absent)."
        return None, [*violations, Violation("kind", text)]
    settings = _settings(merged, violations) if state == "present" else dict(stored or {})
    if violations:
        return None, violations
    return (
        NetworkRequest(
            name,
            state,
            settings,
            frozenset(key for key in given if key in STORED),
            bool(given.get("force", False)),
            given.get("allow_disruption", "none"),
            lock_timeout,
        ),
        [],
    )


def _lock_timeout(given: t.Mapping[str, t.Any], violations: list[Violation]) -> int:
    try:
        return int(OPTIONS["lock_timeout"].read(given.get("lock_timeout", 60)))
    except ValueError as exc:
        violations.append(Violation("lock_timeout", f"{exc}."))
        return 0


def _settings(merged: t.Mapping[str, t.Any], violations: list[Violation]) -> dict[str, t.Any]:
    try:
        options = NetworkOptions.model_validate({key: value for key, value in merged.items() if value is not None})
    except ValidationError as exc:
        errors = exc.errors(include_url=False)
        violations += [Violation(notation(tuple(e["loc"]), ""), _sentence(e)) for e in errors]
        wrong = {str(e["loc"][0]) for e in errors}
        right = NetworkOptions.model_validate({key: value for key, value in merged.items() if value is not None and key not in wrong})
        violations += broken_rules(right, wrong)
        return {}
    for forward in options.forward:
        forward.vm_port = forward.vm_port or forward.host_port
    violations += broken_rules(options)
    return options.model_dump(mode="json", exclude_none=True)


def _sentence(error: t.Mapping[str, t.Any]) -> str:
    if error["type"] == "extra_forbidden":
        return "is no key here. Leave it out."
    if error["type"] == "missing":
        return "is required."
    text = str(error["msg"]).removeprefix("Value error, ").rstrip(".")
    return f"{text[:1].lower()}{text[1:]}." if error["type"] != "value_error" else f"{text}."
