# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The short option C(networks): a name in it is a network's, where this host has one of that name, else a tap's or a bridge's. Standard library only."""

from __future__ import annotations

import os
import re
import typing as t

from ..model.short_options import name_networks
from ..model.words import NAME_PATTERN

if t.TYPE_CHECKING:
    from ..host.layout import Layout


def with_networks(options: t.Mapping[str, t.Any], layout: Layout) -> dict[str, t.Any]:
    """The options of C(vmcp_vm), or an entry of C(vmcp_vms)."""

    def there(name: str) -> bool:
        return re.fullmatch(NAME_PATTERN, name) is not None and os.path.lexists(f"{layout.state_dir}/networks/{name}/network.json")

    if not options.get("networks"):
        return dict(options)
    return {**options, "networks": name_networks(options["networks"], there)}
