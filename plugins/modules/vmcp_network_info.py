#!/usr/bin/python
# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vmcp_network_info
short_description: Tell what networks exist and who has which address
description:
  - Lists the networks that M(unkey.vmcp.vmcp_network) has made, whether they are up, and the VMs on them with their addresses and names.
version_added: 0.1.0
author:
  - unkey.vmcp contributors (@unkeyed)
extends_documentation_fragment:
  - unkey.vmcp.vmcp
  - unkey.vmcp.vmcp.unlocked
  - unkey.vmcp.vmcp.info
options:
  names:
    description: The networks to report. All of them if left out. Those that do not exist are listed in RV(missing).
    type: list
    elements: str
    aliases: [name]
seealso:
  - module: unkey.vmcp.vmcp_network
"""

EXAMPLES = r"""
- name: All networks of the host
  unkey.vmcp.vmcp_network_info:
  register: all

- name: Who has which address?
  ansible.builtin.debug:
    msg: "{{ all.networks | map(attribute='members') | flatten | map(attribute='addresses') }}"
"""

RETURN = r"""
networks:
  description:
    - The networks, by name. Keys as in the result of M(unkey.vmcp.vmcp_network).
    - C(members) are the interfaces of VMs, each with C(vm), C(nic_id), C(mac), C(addresses), C(name) and, where dnsmasq serves the network, C(leases) -
      when the lease of each address ends that the guest has asked for, in seconds since 1970.
    - C(dns) is V(running), V(ended) (it should run) or V(off). C(error) says why a network cannot be read.
  returned: success
  type: list
  elements: dict
  sample:
    - {name: apps, up: true, dns: running, members: [{vm: web, nic_id: eth0, mac: "02:9a:00:00:00:01", addresses: [10.80.0.17], name: web.apps.internal}]}
missing:
  description: Names asked for that do not exist.
  returned: success
  type: list
  elements: str
  sample: []
state_dir:
  description: The directory that was searched.
  returned: success
  type: str
  sample: /var/lib/vmcp/networks
"""

from ansible_collections.unkey.vmcp.plugins.module_utils.argument_specs import HOST, LOCK, NETWORK_INFO
from ansible_collections.unkey.vmcp.plugins.module_utils.bootstrap import core, run


def main() -> None:
    run({**HOST, **LOCK, **NETWORK_INFO}, core("runner.network_info", "run_network_info"))


if __name__ == "__main__":
    main()
