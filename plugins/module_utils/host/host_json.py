# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's defaults, C(/etc/vmcp/host.json), which the host role writes. Standard library only."""

from __future__ import annotations

import dataclasses
import typing as t

from ..errors import FailedPrecondition, InvalidArgument, Violation
from ..model.units import MIB, parse_size
from ..model.words import BACKEND_CHOICES, BACKENDS, COLLECTION_VERSION
from .files import read_json
from .layout import HOST_JSON

SCHEMA = 1

# 70000-99999 lies above login users (1000-60000), systemd's dynamic users (61184-65519) and 65534/65535 (nobody, and -1 in 16 bits), and below the
# subordinate ids that useradd hands to users (from 100000) and the container ranges of systemd (524288 and up). So no uid of a VM is ever
# anybody else's, also not inside a user namespace.
UID_RANGE = (70000, 99999)
CONSOLE_MAX_BYTES = 16 * MIB
_BOOT_KEYS = ("kernel", "initrd", "firmware")


@dataclasses.dataclass(frozen=True)
class HostDefaults:
    """What stands in host.json, defaults filled in. C(boot): backend to C({kernel, initrd, firmware}), absolute paths."""

    backend: str = "auto"
    boot: t.Mapping[str, t.Mapping[str, str]] = dataclasses.field(default_factory=dict)
    uid_range: tuple[int, int] = UID_RANGE
    console_max_bytes: int = CONSOLE_MAX_BYTES
    extra: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)


def read_host_json(path: str = HOST_JSON) -> HostDefaults:
    """The defaults; built-in ones where the file is absent. FailedPrecondition for a newer schema, Internal for a torn
    file, InvalidArgument with all violations for values that make no sense."""
    try:
        body = read_json(path)
    except FileNotFoundError:
        return HostDefaults()
    if not isinstance(body, dict):
        raise InvalidArgument(f"{path} must be one JSON object. Apply the role unkey.vmcp.vmcp_host again, or correct the file.")
    schema = body.get("schema", SCHEMA)
    if not isinstance(schema, int) or schema > SCHEMA:
        raise FailedPrecondition(
            f"{path} has schema {schema}; this is unkey.vmcp {COLLECTION_VERSION}, which reads up to schema {SCHEMA}. "
            "Run the task with the version that wrote it."
        )
    violations: list[Violation] = []
    defaults = HostDefaults(
        backend=_backend(body.get("backend"), violations),
        boot=_boot(body.get("boot"), violations),
        uid_range=_uid_range(body.get("uid_range"), violations),
        console_max_bytes=_console_max_bytes(body.get("limits"), violations),
        extra={key: value for key, value in body.items() if key not in ("schema", "backend", "boot", "uid_range", "limits")},
    )
    if violations:
        raise InvalidArgument.of([Violation(f"{path}: {v.field}", v.message) for v in violations])
    return defaults


def _backend(value: t.Any, violations: list[Violation]) -> str:
    if value is None:
        return "auto"
    if value not in BACKEND_CHOICES:
        violations.append(Violation("backend", f"must be one of {', '.join(BACKEND_CHOICES)}, not {value!r}"))
        return "auto"
    return str(value)


def _boot(value: t.Any, violations: list[Violation]) -> dict[str, dict[str, str]]:
    boot: dict[str, dict[str, str]] = {}
    if value is None:
        return boot
    if not isinstance(value, dict):
        violations.append(Violation("boot", "must be an object: backend to {kernel, initrd, firmware}"))
        return boot
    for backend, paths in value.items():
        if backend not in BACKENDS or not isinstance(paths, dict):
            violations.append(Violation(f"boot.{backend}", f"must be an object under one of {', '.join(BACKENDS)}"))
            continue
        for key, path in paths.items():
            if path is None:
                continue
            if key not in _BOOT_KEYS or not isinstance(path, str) or not path.startswith("/"):
                violations.append(Violation(f"boot.{backend}.{key}", f"must be an absolute path under one of {', '.join(_BOOT_KEYS)}"))
                continue
            boot.setdefault(backend, {})[key] = path
    return boot


def _uid_range(value: t.Any, violations: list[Violation]) -> tuple[int, int]:
    if value is None:
        return UID_RANGE
    whole = isinstance(value, list) and len(value) == 2 and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    if not whole or not 1000 <= value[0] <= value[1] < 2**32 - 1:
        violations.append(Violation("uid_range", "must be [first, last] with 1000 <= first <= last < 4294967295"))
        return UID_RANGE
    return (value[0], value[1])


def _console_max_bytes(limits: t.Any, violations: list[Violation]) -> int:
    if limits is None:
        return CONSOLE_MAX_BYTES
    if not isinstance(limits, dict):
        violations.append(Violation("limits", "must be an object: {console_max_bytes}"))
        return CONSOLE_MAX_BYTES
    try:
        size = parse_size(limits.get("console_max_bytes", CONSOLE_MAX_BYTES))
    except ValueError as exc:
        violations.append(Violation("limits.console_max_bytes", str(exc)))
        return CONSOLE_MAX_BYTES
    if size < 64 << 10:
        violations.append(Violation("limits.console_max_bytes", "must be at least 64K: less does not hold one boot"))
    return size
