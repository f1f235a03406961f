# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one error tree of the collection.

    VmcpError
    ├── InvalidArgument      what the user wrote is wrong in itself
    ├── NotFound             the VM, file or version named does not exist
    ├── AlreadyExists        a name or resource is taken
    ├── FailedPrecondition   right in itself, but not in the present state of VM or host
    ├── Unavailable          a VMM, lock or service does not answer; trying again may help
    ├── DeadlineExceeded     a deadline of the task ran out
    └── Internal             ours: a bug, or a VMM that breaks its own contract

Foreign errors (OSError, httpx, QMP) become one of these at the edge where they arise, once per transport;
only the bootstrap turns them into C(fail_json).
"""

from __future__ import annotations

import dataclasses
import typing as t


@dataclasses.dataclass(frozen=True)
class Violation:
    """One thing wrong with the request. C(field) is the option's path (C(config.storage[0].path)), C(message) a sentence with its remedy."""

    field: str
    message: str

    def as_dict(self) -> dict[str, str]:
        return {"field": self.field, "message": self.message}


class VmcpError(Exception):
    """Base. C(msg) is one readable sentence with the next step; C(details) are extra keys for the task's result (JSON values)."""

    code = "internal"

    def __init__(self, msg: str, *, violations: t.Sequence[Violation] = (), details: dict[str, t.Any] | None = None) -> None:
        super().__init__(msg)
        self.msg = msg
        self.violations = tuple(violations)
        self.details = dict(details or {})

    def as_result(self) -> dict[str, t.Any]:
        """The shape in which every failure is reported: C(msg), C(code), C(violations), and the details."""
        return {**self.details, "msg": self.msg, "code": self.code, "violations": [v.as_dict() for v in self.violations]}


class InvalidArgument(VmcpError):
    code = "invalid_argument"

    @classmethod
    def of(cls, violations: t.Sequence[Violation]) -> InvalidArgument:
        """All violations at once; the message shows the first and counts the others."""
        first = violations[0]
        more = f" ({len(violations) - 1} more in 'violations')" if len(violations) > 1 else ""
        return cls(f"{first.field}: {first.message}{more}", violations=violations)


class NotFound(VmcpError):
    code = "not_found"


class AlreadyExists(VmcpError):
    code = "already_exists"


class FailedPrecondition(VmcpError):
    code = "failed_precondition"


class Unavailable(VmcpError):
    code = "unavailable"


class DeadlineExceeded(VmcpError):
    code = "deadline_exceeded"


class Internal(VmcpError):
    code = "internal"
