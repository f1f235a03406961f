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
from .cloud_init import violations_of
from .conditions import read_conditions
from .options import OPTIONS, RESERVED_OPTIONS, STORED, OptionError
from .short_options import fold_short_options, given_names, options_used
from .validate import validate_given
from .walk import nearest
from .words import SHORT_OPTIONS

OTHER_KEYS = ("name", "config", "wait_for", "metadata", "cloud_init")


@dataclasses.dataclass(frozen=True)
class VmRequest:
    """What was asked, validated and normalised. Unset is kept apart from default: the dicts have only what was given.

    C(config): the configuration as given, short options folded in, sizes in bytes, explicit nulls kept (C(merge_config) reads it); None when the task
    brings no configuration at all, C({}) for an empty one. Short of C(stored) (see C(validate_request)) its values have not all been held against
    each other: validate what it merges into.
    C(settings): what the definition keeps beside the configuration: C(workload), C(labels), C(autostart), C(protected), C(restart_policy),
    C(security), C(supervisor); dicts inside have only the keys given, with None for an explicit null (the default again), except C(labels), which is
    complete.
    C(options): the other options of the task, as given (C(state), C(backend), C(endpoint), C(wait_timeout) …); C(option()) knows their defaults.
    C(wait_for): one dict per condition: C({"running": True}), C({"console": REGEX}), C({"tcp": PORT, "host": ADDRESS}), C({"file": PATH}), C({"vsock": PORT}).
    C(metadata): any JSON mapping; None when not given. C(cloud_init): see C(cloud_init). C(short_options): those whose values went into C(config).
    C(group): the name pattern of the group that the VM is one of (C(Definition.group)); None says nothing about it.
    """

    name: t.Optional[str]
    config: t.Optional[dict[str, t.Any]] = None
    settings: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    options: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    wait_for: tuple[dict[str, t.Any], ...] = ()
    metadata: t.Optional[dict[str, t.Any]] = None
    cloud_init: t.Optional[dict[str, t.Any]] = None
    short_options: tuple[str, ...] = ()
    group: t.Optional[str] = None

    def option(self, name: str) -> t.Any:
        """An option of the task as given, or its default."""
        return self.options[name] if name in self.options else OPTIONS[name].default

    def as_given(self, violations: t.Sequence[Violation]) -> list[Violation]:
        """Violations of the merged configuration, in the words of the task: C(memory) where the value came from that short option."""
        return given_names(violations, self.short_options)

    @property
    def endpoint_path(self) -> t.Optional[str]:
        """The socket of C(endpoint), without C(unix://)."""
        endpoint = self.options.get("endpoint")
        return endpoint.removeprefix("unix://") if endpoint else None


def validate_request(params: t.Mapping[str, t.Any], *, stored: t.Optional[t.Mapping[str, t.Any]] = None) -> tuple[t.Optional[VmRequest], list[Violation]]:
    """The request, or None and all violations. C(params): the task's options; one whose value is null counts as not given (C(AnsibleModule) fills them in).

    C(stored): the stored configuration of the VM, C({}) for one that is known to be new; None when it is not known yet."""
    violations: list[Violation] = []
    given = {key: value for key, value in params.items() if value is not None}
    violations += _unknown(params)
    name = _read(given, "name", violations)
    values = {key: _read(given, key, violations) for key in OPTIONS if key != "name" and key in given}
    if name is None and "name" not in given and "endpoint" not in given:
        violations.append(Violation("name", "is required."))
    config, short = _configuration(given, stored, violations)
    wait_for, found = read_conditions(given.get("wait_for", []))
    violations += found
    metadata = given.get("metadata")
    violations += _metadata(metadata)
    cloud_init = given.get("cloud_init")
    violations += violations_of(cloud_init, lambda value: _is_json(value, 0))
    if violations:
        return None, violations
    settings = {key: value for key, value in values.items() if key in STORED}
    options = {key: value for key, value in values.items() if key not in STORED}
    return (
        VmRequest(
            name,
            config,
            settings,
            options,
            wait_for,
            metadata=None if metadata is None else _copy(metadata),
            cloud_init=None if cloud_init is None else _copy(cloud_init),
            short_options=short,
        ),
        [],
    )


def _configuration(
    given: t.Mapping[str, t.Any], stored: t.Optional[t.Mapping[str, t.Any]], violations: list[Violation]
) -> tuple[t.Optional[dict[str, t.Any]], tuple[str, ...]]:
    if "config" not in given and not any(key in given for key in SHORT_OPTIONS):
        return None, ()
    tree, found = fold_short_options(given, given.get("config"))
    # Where they contradict each other the tree keeps its own value; what else is wrong in it is still told.
    violations += found
    short = options_used(given)
    _config, found, config = validate_given(tree, stored=stored)
    violations += given_names(found, short)
    return config, short


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
        return all(isinstance(key, str) and _is_json(key, depth) and _is_json(item, depth + 1) for key, item in value.items())
    if isinstance(value, collections.abc.Sequence) and not isinstance(value, (str, bytes)):
        return all(_is_json(item, depth + 1) for item in value)
    if isinstance(value, str):
        # YAML lets halves of a character through, which no file and no guest could be given.
        return not any("\ud800" <= c <= "\udfff" for c in value)
    return value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value))


def _copy(value: t.Any) -> t.Any:
    if isinstance(value, collections.abc.Mapping):
        return {str(key): _copy(item) for key, item in value.items()}
    if isinstance(value, collections.abc.Sequence) and not isinstance(value, (str, bytes)):
        return [_copy(item) for item in value]
    return value
