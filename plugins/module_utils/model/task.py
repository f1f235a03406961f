# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task asks for one VM: the options of C(vmcp_vm) around the configuration tree, validated all at once."""

from __future__ import annotations

import collections.abc
import dataclasses
import math
import typing as t

from ..errors import Violation
from .conditions import read_conditions
from .config import VmConfig
from .options import OPTIONS, RESERVED_OPTIONS, STORED, OptionError
from .short_options import SHORT_OPTIONS, fold_short_options, given_names
from .validate import nearest, validate_given

OTHER_KEYS = ("name", "config", "wait_for", "metadata")


@dataclasses.dataclass(frozen=True)
class VmRequest:
    """What was asked, validated and normalised. Unset is kept apart from default: the dicts have only what was given.

    C(config): the configuration as given, short options folded in, sizes in bytes, explicit nulls kept (C(merge_config) reads it); None when the task
    brings no configuration at all, C({}) for an empty one. C(parsed): the same as a C(VmConfig) with defaults.
    C(settings): what the definition keeps beside the configuration: C(workload), C(labels), C(autostart), C(protected), C(restart_policy),
    C(security), C(supervisor); dicts inside have only the keys given, except C(labels), which is complete.
    C(options): the other options of the task, as given (C(state), C(backend), C(endpoint), C(wait_timeout) …); C(option()) knows their defaults.
    C(wait_for): one dict per condition: C({"running": True}), C({"console": REGEX}), C({"tcp": PORT, "host": ADDRESS}), C({"file": PATH}), C({"vsock": PORT}).
    C(metadata): any JSON mapping; None when not given.
    """

    name: t.Optional[str]
    config: t.Optional[dict[str, t.Any]] = None
    parsed: t.Optional[VmConfig] = None
    settings: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    options: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    wait_for: tuple[dict[str, t.Any], ...] = ()
    metadata: t.Optional[dict[str, t.Any]] = None

    def option(self, name: str) -> t.Any:
        """An option of the task as given, or its default."""
        return self.options[name] if name in self.options else OPTIONS[name].default

    @property
    def endpoint_path(self) -> t.Optional[str]:
        """The socket of C(endpoint), without C(unix://)."""
        endpoint = self.options.get("endpoint")
        return endpoint.removeprefix("unix://") if endpoint else None


def validate_request(params: t.Mapping[str, t.Any]) -> tuple[t.Optional[VmRequest], list[Violation]]:
    """The request, or None and all violations. C(params): the task's options; one whose value is null counts as not given (C(AnsibleModule) fills them in)."""
    violations: list[Violation] = []
    given = {key: value for key, value in params.items() if value is not None}
    violations += _unknown(params)
    name = _read(given, "name", violations)
    values = {key: _read(given, key, violations) for key in OPTIONS if key != "name" and key in given}
    if name is None and "name" not in given and "endpoint" not in given:
        violations.append(Violation("name", "is required."))
    config, parsed = _configuration(given, violations)
    wait_for, found = read_conditions(given.get("wait_for", []))
    violations += found
    metadata = given.get("metadata")
    violations += _metadata(metadata)
    if violations:
        return None, violations
    settings = {key: value for key, value in values.items() if key in STORED}
    options = {key: value for key, value in values.items() if key not in STORED}
    return VmRequest(name, config, parsed, settings, options, wait_for, _copy(metadata) if metadata is not None else None), []


def _configuration(given: t.Mapping[str, t.Any], violations: list[Violation]) -> tuple[t.Optional[dict[str, t.Any]], t.Optional[VmConfig]]:
    if "config" not in given and not any(key in given for key in SHORT_OPTIONS):
        return None, None
    tree, found = fold_short_options(given, given.get("config"))
    if found:
        # The tree was left without what the short options contradict; what else is wrong in it is still told.
        violations += found
    parsed, found, config = validate_given(tree)
    violations += given_names(found, given)
    return config, parsed


def _read(given: t.Mapping[str, t.Any], key: str, violations: list[Violation]) -> t.Any:
    if key not in given:
        return None
    try:
        return OPTIONS[key].read(given[key])
    except OptionError as exc:
        violations += [Violation(f"{key}{where}", text) for where, text in exc.found]
    except ValueError as exc:
        violations.append(Violation(key, f"{str(exc).rstrip('.')}."))
    return None


def _unknown(params: t.Mapping[str, t.Any]) -> t.Iterator[Violation]:
    known = (*OPTIONS, *SHORT_OPTIONS, *OTHER_KEYS)
    for key in params:
        if key in RESERVED_OPTIONS:
            yield Violation(str(key), "is reserved: this version of unkey.vmcp does not have it yet. Leave it out.")
        elif key not in known:
            hint = nearest(key, known) if isinstance(key, str) else ""
            yield Violation(str(key), f"is no option.{hint or ' Known are: ' + ', '.join(sorted(set(known))) + '.'}")


def _metadata(value: t.Any) -> list[Violation]:
    if value is None or (isinstance(value, collections.abc.Mapping) and _is_json(value, 0)):
        return []
    # The value may hold secrets: it is never shown.
    return [Violation("metadata", "must be a dictionary of JSON values, with text as keys.")]


def _is_json(value: t.Any, depth: int) -> bool:
    if depth > 64:
        return False
    if isinstance(value, collections.abc.Mapping):
        return all(isinstance(key, str) and _is_json(item, depth + 1) for key, item in value.items())
    if isinstance(value, collections.abc.Sequence) and not isinstance(value, (str, bytes)):
        return all(_is_json(item, depth + 1) for item in value)
    return value is None or isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value))


def _copy(value: t.Any) -> t.Any:
    if isinstance(value, collections.abc.Mapping):
        return {str(key): _copy(item) for key, item in value.items()}
    if isinstance(value, collections.abc.Sequence) and not isinstance(value, (str, bytes)):
        return [_copy(item) for item in value]
    return value
