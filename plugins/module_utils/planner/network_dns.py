# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of a network's dnsmasq: addresses for its members alone, their names, and the host's own resolvers for the rest. Pure."""

from __future__ import annotations

import ipaddress
import typing as t

if t.TYPE_CHECKING:
    from ..model.network_definition import NetworkDefinition

LEASE_TIME = "1h"


def config(network: NetworkDefinition, paths: t.Mapping[str, str], user: str) -> str:
    """The file. C(paths): of C(dhcp_hosts), C(dns_hosts), C(leases) and C(pid). C(user): whom it becomes once it has its sockets."""
    lines = [
        f"# dnsmasq of network {network.name}, written by unkey.vmcp; changes are overwritten.",
        f"interface={network.bridge}",
        f"user={user}",
        "except-interface=lo",
        "bind-dynamic",
        "no-hosts",
        "no-ping",
        f"domain={network.domain}",
        f"local=/{network.domain}/",
        "domain-needed",
        "bogus-priv",
        f'addn-hosts="{paths["dns_hosts"]}"',
        f'pid-file="{paths["pid"]}"',
    ]
    servers = network.settings.get("dns_servers") or ()
    if servers:
        lines += ["no-resolv", *(f"server={server}" for server in servers)]
    lines += [f'dhcp-hostsfile="{paths["dhcp_hosts"]}"', f'dhcp-leasefile="{paths["leases"]}"', "quiet-dhcp", "quiet-dhcp6", "quiet-ra"]
    if network.ipv4:
        own = ipaddress.ip_interface(network.ipv4)
        # 'static': only those whom we know. Nothing else on the network is given an address.
        lines += [f"dhcp-range={own.network.network_address},static,{own.netmask},{LEASE_TIME}", f"dhcp-option=option:router,{own.ip}"]
        lines.append(f"dhcp-option=option:dns-server,{own.ip}")
    if network.ipv6:
        six = ipaddress.ip_interface(network.ipv6)
        lines += [f"dhcp-range={six.network.network_address},static,{six.network.prefixlen},{LEASE_TIME}", "enable-ra"]
        lines.append(f"dhcp-option=option6:dns-server,[{six.ip}]")
    if network.mtu:
        lines.append(f"dhcp-option=option:mtu,{network.mtu}")
        if network.ipv6:
            lines.append(f"ra-param={network.bridge},mtu:{network.mtu},0")
    return "\n".join(lines) + "\n"
