# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(vmcp_host_info): what this host can do, and what it lacks, each with its remedy. Standard library only; works where nothing is installed."""

from __future__ import annotations

import typing as t

from ..call import Call, Outcome
from ..host import probe
from ..host.hardening_vms import audit_vms
from ..host.host_json import read_host_json
from ..host.layout import Layout
from ..host.store import Store


def run_host_info(call: Call) -> Outcome:
    options = call.options
    layout = Layout.resolve(options.get("state_dir"), options.get("run_dir"), call.environ, call.uid)
    facts: dict[str, t.Any] = probe.host_facts()
    defaults = read_host_json()
    facts["defaults"] = {
        "backend": defaults.backend,
        "boot": {k: dict(v) for k, v in defaults.boot.items()},
        "uid_range": list(defaults.uid_range),
        "console_max_bytes": defaults.console_max_bytes,
    }
    store = Store(layout)
    facts["vms"] = len(store.names())
    facts["hardening"] += audit_vms(store)
    facts["state_dir"], facts["run_dir"] = layout.state_dir, layout.run_dir
    return Outcome({"changed": False, "host": facts})
