#!/usr/bin/python
# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vmcp_fleet
short_description: Read and write what a host knows of its fleet
description:
  - A host of a fleet keeps a record of which VM was given to which host (the claims), and whether it is drained itself. The playbooks
    C(unkey.vmcp.site), C(unkey.vmcp.placement) and C(unkey.vmcp.drain) use it; most people need not.
  - A record is replaced only by somebody who has read the one that stands there. Of two runs that claim at once, each host believes one.
  - Without O(claims) and O(drained) it only reads.
version_added: 0.1.0
author:
  - unkey.vmcp contributors (@unkeyed)
extends_documentation_fragment:
  - unkey.vmcp.vmcp
  - unkey.vmcp.vmcp.attributes
  - unkey.vmcp.vmcp.lock
options:
  fleet:
    description: Name of the fleet.
    type: str
    default: default
  state:
    description: V(absent) removes the record of the fleet.
    type: str
    choices: [present, absent]
    default: present
  claims:
    description: The record's new content, a host by the name of each VM.
    type: dict
  complete:
    description: Whether O(claims) are those of the whole fleet. If not, they are those of this host.
    type: bool
    default: true
  generation:
    description: Generation of the new record, above all that were read on any host.
    type: int
  run_id:
    description: Who writes it, a text of its own for each run.
    type: str
  expected_generation:
    description: Generation of the record that was read here. 0 where there was none.
    type: int
  expected_run_id:
    description: Who wrote the record that was read here.
    type: str
  drained:
    description: Marks the host as drained, so that it is given nothing new, or takes the mark off.
    type: bool
  drain_reason:
    description: Why it is drained, for people.
    type: str
  moved:
    description: The VMs that left it, with the hosts that they went to. If left out, what is recorded stays.
    type: dict
"""

EXAMPLES = r"""
- name: What does this host know?
  unkey.vmcp.vmcp_fleet:
  register: fleet

- name: Claim a VM for node1
  unkey.vmcp.vmcp_fleet:
    claims: "{{ fleet.record.claims | combine({'web': 'node1'}) }}"
    generation: "{{ fleet.record.generation + 1 }}"
    run_id: "{{ (2 ** 62) | random | string | to_uuid }}"
    expected_generation: "{{ fleet.record.generation }}"
    expected_run_id: "{{ fleet.record.run_id }}"

- name: Nothing new goes here for now
  unkey.vmcp.vmcp_fleet:
    drained: true
    drain_reason: new memory
"""

RETURN = r"""
record:
  description: The record, with C(generation) (0 when there is none), C(run_id), C(complete), C(claims) and C(written_at).
  returned: success, and a failure because of another run
  type: dict
  sample: {generation: 7, run_id: 5e0c, complete: true, claims: {web: node1}, written_at: "2026-01-31T12:00:00Z"}
drained:
  description: Whether the host is drained.
  returned: success
  type: bool
  sample: false
drain:
  description: Since when and why, and which VMs moved where. None when it is not drained.
  returned: success
  type: dict
  sample: {reason: new memory, since: "2026-01-31T12:00:00Z", moved: {web: node2}}
code:
  description: Kind of the error. V(failed_precondition) when another run has written meanwhile.
  returned: failure
  type: str
  sample: failed_precondition
violations:
  description: Everything that is wrong with the options, by path.
  returned: failure
  type: list
  elements: dict
  sample: []
"""

from ansible_collections.unkey.vmcp.plugins.module_utils.argument_specs import FLEET, HOST, LOCK
from ansible_collections.unkey.vmcp.plugins.module_utils.bootstrap import core, run


def main() -> None:
    run({**HOST, **LOCK, **FLEET}, core("runner.fleet", "run_fleet"), large=("claims", "moved"))


if __name__ == "__main__":
    main()
