#!/usr/bin/python
# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vmcp_network
short_description: Make, change and remove a network for VMs
description:
  - Makes a network that VMs join by its name (M(unkey.vmcp.vmcp_vm)), with addresses, names, a way out and a policy, and keeps it over reboots of the
    host.
  - Rules are in nftables tables of the collection's own and are replaced as a whole. Nothing of anybody else's is changed, but that accepting rules for
    the network are put into chains that would drop its traffic (Docker, ufw, an administrator's own).
  - An option that is left out leaves what the network has. Lists and dictionaries that are given replace what it has.
version_added: 0.1.0
author:
  - unkey.vmcp contributors (@unkeyed)
extends_documentation_fragment:
  - unkey.vmcp.vmcp
  - unkey.vmcp.vmcp.lock
  - unkey.vmcp.vmcp.attributes
options:
  name:
    description: Name of the network. 1 to 63 characters of a-z, 0-9 and C(-).
    type: str
    required: true
  state:
    description:
      - V(present) makes the network, or changes it to what is given.
      - V(absent) removes it with all that was made for it. Refused while VMs use it, unless O(force).
    type: str
    choices: [present, absent]
    default: present
  kind:
    description:
      - V(bridge) is a bridge of its own, behind the host. The default for a new network.
      - V(adopted) is the bridge O(interface), which is there already and is not changed.
      - V(uplink) is a bridge with O(interface), or the V(vlan) on it, as a port, so that VMs are on the real LAN.
      - V(macvtap) gives VMs interfaces directly on O(interface). Not with Firecracker.
      - V(vxlan) is one network that spans several hosts.
      - Cannot be changed.
    type: str
    choices: [bridge, adopted, uplink, macvtap, vxlan]
  ipv4:
    description:
      - The host's address on the network, with the length of its prefix, as in V(10.80.0.1/24). It is the VMs' gateway.
      - For O(kind=vxlan) the network itself may be given (V(10.90.0.0/16)), the same on all hosts. Each host then has one of the first addresses.
    type: str
  ipv6:
    description: The same for IPv6, as in V(fd00:80::1/64).
    type: str
  nat:
    description:
      - Let VMs out under the host's own address, by its routes (V(true)) or through the interface that is named alone. Nobody outside can begin a
        connection to a VM then, but by O(forward).
      - Switches the host's forwarding on, and back when no network needs it any more.
    type: raw
  dhcp:
    description: Serve addresses and the names of VMs on the network, with dnsmasq, which must be installed.
    type: bool
  domain:
    description: What the names of the VMs end in. V(NAME.internal) if left out.
    type: str
  dns_servers:
    description: Whom dnsmasq asks for other names, or, without O(dhcp), what guests are told. The host's own resolvers if left out.
    type: list
    elements: str
  dns_names:
    description:
      - Names that dnsmasq answers for beside those of the VMs on this host, each with its address or a list of them. A name without a dot is one in O(domain).
      - With O(kind=vxlan) so the names of the VMs on the other hosts, as M(unkey.vmcp.vmcp_network_info) tells them there. What is said of addresses that this
        host gives itself is left out, since it knows its own VMs.
    type: dict
  range:
    description:
      - The first and the last address that VMs may be given, as in V(10.80.0.10-10.80.0.99), one entry for each family. All of the network if left out.
      - For O(kind=vxlan) each host gives from a part of its own, by its place among the sorted peers, if left out. Give each host its range where hosts may
        be added.
    type: list
    elements: str
  mtu:
    description: Largest packet. 1500, or what O(interface) or the network beneath a vxlan allows, if left out.
    type: int
  isolate:
    description: VMs on the network do not reach each other.
    type: bool
  anti_spoofing:
    description: A VM sends from its own MAC address and addresses only. On unless switched off.
    type: bool
  egress:
    description:
      - Where VMs may go beyond the network, as C({default, allow, deny}). C(default) is V(allow) or V(deny).
      - C(allow) and C(deny) are lists of C({cidr, ports, protocol}), each part optional. C(protocol) is V(tcp), V(udp) or V(icmp). Ports may be ranges
        (V(8000-8100)).
      - What C(deny) names is refused first, then what C(allow) names is let through.
    type: dict
  forward:
    description:
      - Ports of the host that lead to VMs, each as C({host_port, vm, vm_port, protocol}). C(vm_port) is C(host_port) and C(protocol) V(tcp) if left out.
      - The VM need not be there yet.
    type: list
    elements: dict
  host_ports:
    description: Ports of the host that VMs may reach, each as C({port, protocol}). Without it only DHCP and DNS.
    type: list
    elements: dict
  interface:
    description: The bridge that is adopted, or the interface beneath O(kind=uplink) and O(kind=macvtap).
    type: str
  vlan:
    description: VLAN on O(interface) to use, for O(kind=uplink) and O(kind=macvtap).
    type: int
  mode:
    description: Mode of macvtap interfaces. V(bridge) if left out.
    type: str
    choices: [bridge, vepa, private, passthru]
  vxlan:
    description:
      - C(id) is the network's number, C(peers) the addresses of all hosts that have it, this one included, C(local) this host's own where it cannot be told.
    type: dict
  force:
    description: Remove the network although VMs use it. They are cut off.
    type: bool
    default: false
  allow_disruption:
    description: V(restart) lets changes be made that cut off the VMs on the network until they start again.
    type: str
    choices: [none, restart]
    default: none
seealso:
  - module: unkey.vmcp.vmcp_network_info
"""

EXAMPLES = r"""
- name: A network with addresses, names, a way out and a policy
  unkey.vmcp.vmcp_network:
    name: apps
    ipv4: 10.80.0.1/24
    nat: true
    dhcp: true
    isolate: true
    egress:
      default: deny
      allow:
        - {cidr: 10.0.0.0/8, ports: [443, 5432], protocol: tcp}
        - {cidr: 9.9.9.9/32, ports: [53], protocol: udp}
    forward:
      - {host_port: 8080, vm: web, vm_port: 80}

- name: VMs on the real LAN, in VLAN 42
  unkey.vmcp.vmcp_network:
    name: lan
    kind: uplink
    interface: eth1
    vlan: 42

- name: One network on all hosts of a group
  unkey.vmcp.vmcp_network:
    name: fabric
    kind: vxlan
    ipv4: 10.90.0.0/16
    dhcp: true
    vxlan:
      id: 90
      peers: "{{ groups['vmhosts'] | map('extract', hostvars, 'ansible_host') }}"
"""

RETURN = r"""
actions:
  description: What was done, or would be, in this order.
  returned: success
  type: list
  elements: str
  sample: [define, forwarding, links, rules, dns]
disruption:
  description: V(restart) when VMs on the network were cut off until they start again.
  returned: success
  type: str
  sample: none
network:
  description: The network as it is, or would be. Keys are the options, C(up), C(bridge), C(device), C(ranges), C(nameservers), C(dns) and C(members).
  returned: success
  type: dict
  sample: {name: apps, kind: bridge, state: present, up: true, bridge: vn-apps, ipv4: 10.80.0.1/24, dns: running, members: []}
would_need:
  description: What the host lacks for this, each with its remedy.
  returned: in check mode
  type: list
  elements: dict
  sample: []
"""

from ansible_collections.unkey.vmcp.plugins.module_utils.argument_specs import HOST, LOCK, NETWORK
from ansible_collections.unkey.vmcp.plugins.module_utils.bootstrap import core, run


def main() -> None:
    run({**HOST, **LOCK, **NETWORK}, core("runner.network", "run_network"))


if __name__ == "__main__":
    main()
