# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(vmcp_network_info): the networks of a host, whether they are up, and who has which address. Standard library only; takes no lock."""

from __future__ import annotations

import json
import typing as t

from ..call import Call, Outcome
from ..errors import VmcpError
from ..host.layout import Layout
from ..host.network import dns, programs
from ..host.network.store import NetworkStore
from .network_describe import describe_network


def run_network_info(call: Call) -> Outcome:
    layout = Layout.resolve(call.options.get("state_dir"), call.options.get("run_dir"), call.environ, call.uid)
    store = NetworkStore(layout)
    there = store.names()
    wanted = [str(name) for name in call.options.get("names") or there]
    links = _links()
    networks = [_one(store, name, links) for name in sorted(set(wanted)) if name in there]
    missing = sorted(set(wanted) - set(there))
    return Outcome({"changed": False, "networks": networks, "missing": missing, "state_dir": store.dir})


def _one(store: NetworkStore, name: str, links: t.Mapping[str, bool]) -> dict[str, t.Any]:
    """One that cannot be read is told as such, and the others all the same."""
    files = store.files(name)
    try:
        definition = store.get(name)
        members = store.members(name)
        interface = definition.bridge or definition.generated.get("device") or definition.parent
        leases = dns.leases(files) if definition.dhcp else None
    except VmcpError as exc:
        return {"name": name, "error": exc.msg, "code": exc.code}
    return describe_network(definition, members, up=links.get(interface or "", False), dns=dns.state(files), leases=leases)


def _links() -> dict[str, bool]:
    """Interfaces of the host, and whether they are up; none where there is no C(ip), which C(vmcp_host_info) tells."""
    if not programs.is_there("ip"):
        return {}
    try:
        listed = json.loads(programs.run(["ip", "-j", "link"]))
    except (programs.RefusedError, ValueError):
        return {}
    return {entry["ifname"]: "UP" in entry["flags"] for entry in listed if "ifname" in entry}
