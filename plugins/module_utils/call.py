# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What passes between a program (Ansible's bootstrap, or any other) and the core. Standard library only."""

from __future__ import annotations

import dataclasses
import typing as t

# What our action plugin adds to a task's options: C({hash: of the code on the controller, archive: path of a zip of it on this host, or nothing}).
CODE_OPTION = "_code"
# In the answer to the action plugin: the code is not on this host, and nothing was done.
CODE_MISSING = "_code_missing"


@dataclasses.dataclass(frozen=True)
class Call:
    """One task as the core sees it. C(options): what was given, options left out are absent. C(act): False in check mode: nothing may be touched.

    C(require_libraries): called before the first model is used; raises FailedPrecondition with the remedy, or runs the task again elsewhere."""

    options: t.Mapping[str, t.Any]
    act: bool
    environ: t.Mapping[str, str]
    uid: int
    warn: t.Callable[[str], None]
    require_libraries: t.Callable[[], None]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """C(result) goes to the user as it is; C(diff) only where the user asked for it."""

    result: t.Mapping[str, t.Any]
    diff: t.Optional[t.Mapping[str, t.Any]] = None
