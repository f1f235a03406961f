# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration as a backend is to be told it: disks and clones as paths. Pure, standard library only."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ..host.layout import VmLayout
    from ..model.definition import Definition


def resolved(definition: Definition, vm: VmLayout) -> dict[str, t.Any]:
    return definition.config
