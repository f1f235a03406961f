#!/usr/bin/python
# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vmcp_vm_info
short_description: Tell what VMs exist and how they are
description:
  - Lists the VMs of a host with state, configuration, backend and version, process, sockets, console, and what waits for the next boot.
  - A VM whose definition cannot be read, or whose VMM does not answer, is reported as such; the others are reported all the same.
version_added: 0.1.0
author:
  - unkey.vmcp contributors (@unkeyed)
extends_documentation_fragment:
  - unkey.vmcp.vmcp
  - unkey.vmcp.vmcp.unlocked
  - unkey.vmcp.vmcp.info
options:
  names:
    description: The VMs to report. All of them if left out. Those that do not exist are listed in RV(missing).
    type: list
    elements: str
    aliases: [name]
  labels:
    description: Only VMs that have all of these labels.
    type: dict
  states:
    description: Only VMs in one of these states.
    type: list
    elements: str
    choices: [created, running, paused, shutdown, crashed]
  gather:
    description:
      - What to ask for beyond the definition and the state, each at a price.
      - V(memory) is what the VMM's process holds and what of it is overhead; V(counters) and V(drift) ask the VMM for its counters and for the configuration it
        has now; V(events) is the history of boots and ends.
    type: list
    elements: str
    choices: [memory, counters, drift, events]
    default: []
  endpoint:
    description: API socket of a VMM that somebody else runs, as in V(unix:///run/x.sock). Reports its VM instead of ours.
    type: str
  backend:
    description: The VMM behind O(endpoint). Found out if left out.
    type: str
    choices: [cloudhypervisor, firecracker, qemu, auto]
"""

EXAMPLES = r"""
- name: All VMs of the host
  unkey.vmcp.vmcp_vm_info:
  register: all

- name: What runs of the web fleet, with its memory
  unkey.vmcp.vmcp_vm_info:
    labels: {fleet: web}
    states: [running]
    gather: [memory]

- name: Has anybody changed this VM behind our back?
  unkey.vmcp.vmcp_vm_info:
    names: [web]
    gather: [drift]
"""

RETURN = r"""
vms:
  description:
    - The VMs, by name.
    - Keys are C(name), C(state), C(stop_reason), C(backend), C(backend_version), C(binary), C(workload), C(labels), C(autostart), C(protected),
      C(restart_policy), C(security), C(config), C(uid), C(nics), C(sockets), C(console), C(pending), C(last_exit), C(pid), C(boot_id), C(uptime_s),
      C(boot_ms) and C(created_at), and what O(gather) asks for.
    - C(nics) are C({id, mac_address, tap}), and of interfaces on networks also C(network), C(addresses), C(gateways), C(name) (in DNS) and C(address_method).
    - C(unresponsive) says why a VMM does not answer, C(error) why a definition, or that with which the VM was started, cannot be read.
  returned: success
  type: list
  elements: dict
  sample: [{name: web, state: running, backend: qemu, pid: 4711, uptime_s: 12.5}]
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
  sample: /var/lib/vmcp/vms
hint:
  description: What would show more.
  returned: when nothing was found without privileges
  type: str
  sample: Searched the state directory of this user. VMs made as root are seen with become only.
"""

from ansible_collections.unkey.vmcp.plugins.module_utils.argument_specs import ENDPOINT, HOST, INFO, LOCK
from ansible_collections.unkey.vmcp.plugins.module_utils.bootstrap import core, run


def main() -> None:
    run({**HOST, **LOCK, **ENDPOINT, **INFO}, core("runner.info", "run_info"), reads_only=True)


if __name__ == "__main__":
    main()
