#!/usr/bin/python
# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vmcp_vms
short_description: Define, boot, change and remove many VMs in one task
description:
  - Manages the virtual machines of a host together. Every entry takes what M(unkey.vmcp.vmcp_vm) takes, over common O(defaults).
  - All VMs are looked at and planned before anything is done to any of them. What is wrong with any entry is told for all entries at once, and then nothing
    is done.
  - VMs that are started are started in one request to systemd, and waited for together under one deadline.
  - How far a long task is can be followed in the file that RV(progress) names.
version_added: 0.1.0
author:
  - unkey.vmcp contributors (@unkeyed)
extends_documentation_fragment:
  - unkey.vmcp.vmcp
  - unkey.vmcp.vmcp.attributes
  - unkey.vmcp.vmcp.lock
options:
  vms:
    description:
      - The VMs, a list of entries or a dictionary of name to entry. An entry in a list has a C(name); an entry that is only a text is a name.
      - >-
        An entry takes the options of M(unkey.vmcp.vmcp_vm) except C(endpoint), C(metadata) and C(cloud_init) (see O(secrets)), and those of the whole task
        (C(state_dir), C(run_dir), C(lock_timeout)).
      - >-
        With C(count), an entry stands for that many identical VMs, and its name has C({index}) in it, as in C(fn-{index:04d}). Indexes count from 0.
        The VMs are recorded as a group: a larger C(count) adds members, a smaller one removes those with the highest indexes, of this group only.
      - C(priority) (default 0) says in which order this task starts VMs, the highest first. It is not stored, so it is no order for a host that boots.
      - C(wait_timeout) of an entry bounds the waiting for that VM.
    type: raw
    required: true
  defaults:
    description:
      - Options for every entry that does not say otherwise. Dictionaries merge, lists replace, and a null in an entry removes a default.
      - A short option of an entry goes over the same place in O(defaults)'s C(config), and the other way round.
    type: dict
  secrets:
    description:
      - What may be secret, by name of the VM, or by the name pattern of a group.
      - Each is a dictionary with C(metadata), as O(unkey.vmcp.vmcp_vm#module:metadata), and C(cloud_init), as
        O(unkey.vmcp.vmcp_vm#module:cloud_init).
    type: dict
  prune:
    description:
      - Removes VMs that are not declared in O(vms). If left out, none is removed that is not named.
      - C(labels) says which - those that have all of these labels. An empty O(vms) and empty C(labels) are errors unless C(allow_empty) is V(true).
      - C(max) is the most that may be removed, a number or a share of the VMs with these labels, as in V(10%), rounded down. If it would be more, the task
        fails and does nothing.
      - A VM with C(protected) stays. An entry counts as declared whatever its state.
    type: dict
  on_error:
    description:
      - What happens when a VM fails after everything was planned. The task fails in any case.
      - V(continue) finishes the others, V(stop) begins nothing more.
    type: str
    choices: [continue, stop]
    default: continue
  parallel:
    description:
      - For how many VMs at a time that is done which may take long for one VM, such as asking a guest to shut down. A number, or V(auto).
    type: str
    default: auto
  start_batch:
    description:
      - How many VMs are started in one request. The next are started when these run. If left out, all at once.
      - VMs that are restarted are stopped in their batch.
    type: int
  overcommit:
    description:
      - Whether more may be started than the host has memory, huge pages, processes, files or uids for. A warning says so.
    type: bool
    default: false
  wait_timeout:
    description: Seconds for the conditions (C(wait_for)) of all VMs together, from the moment the last was started.
    type: int
    default: 120
  claim:
    description:
      - Does something only while this host's record of claims (M(unkey.vmcp.vmcp_fleet)) is the one that the caller knows. No other can be written between the
        look at it and the start of the VMs. The playbooks use it, so that no VM is started that was given to another host meanwhile.
      - A task that finds nothing to do does not look.
    type: dict
    suboptions:
      fleet:
        description: Name of the fleet.
        type: str
        default: default
      run_id:
        description: Who has written the record, as RV(unkey.vmcp.vmcp_fleet#module:record) says. Empty where none was ever written.
        type: str
        required: true
  return:
    description: What RV(vms) has for each VM. V(full) adds the whole C(vm), as M(unkey.vmcp.vmcp_vm) returns it.
    type: str
    choices: [compact, full]
    default: compact
"""

EXAMPLES = r"""
- name: Two functions that differ in their memory, and no others
  unkey.vmcp.vmcp_vms:
    defaults:
      state: running
      labels: {fleet: fn}
      config:
        cpu: {vcpu_count: 1}
        memory: {size_bytes: 128M}
        boot: {kernel_path: /opt/vmcp/kernels/vmlinux}
    vms:
      - {name: fn-a}
      - {name: fn-b, config: {memory: {size_bytes: 256M}}}
    prune: {labels: {fleet: fn}, max: 10%}

- name: Five hundred of a kind, a hundred at a time, and their consoles waited for together
  unkey.vmcp.vmcp_vms:
    defaults:
      workload: serverless
      state: running
      memory: 128M
      kernel: /opt/vmcp/kernels/vmlinux
      wait_for: [{console: "login:"}]
    vms:
      - {name: "job-{index:04d}", count: 500}
    start_batch: 100
    overcommit: true

- name: By name, each with a secret of its own
  unkey.vmcp.vmcp_vms:
    defaults: {backend: firecracker, state: running, kernel: /opt/vmcp/kernels/vmlinux, networks: [br0]}
    vms:
      api: {memory: 512M, priority: 10}
      worker: {memory: 1G}
    secrets:
      api: {metadata: {token: "{{ lookup('ansible.builtin.password', '/dev/null') }}"}}
      worker: {metadata: {token: "{{ lookup('ansible.builtin.password', '/dev/null') }}"}}

- name: One after the other gets more memory
  unkey.vmcp.vmcp_vms:
    defaults: {state: running, memory: 256M, allow_disruption: restart, shutdown_timeout: 5}
    vms: [fn-a, fn-b]
    start_batch: 1
"""

RETURN = r"""
vms:
  description:
    - By name, C(changed), and for a VM that changed C(actions) and C(changed_fields), C(pending) and C(disruption) where there are any, and C(waited).
    - One that failed has C(error) with C(code) and C(msg); one whose turn did not come has C(not_done).
  returned: success, and failure after something was done
  type: dict
  sample: {fn-a: {changed: false}, fn-b: {changed: true, actions: [update, shutdown, start], changed_fields: [config.memory.size_bytes], disruption: restart}}
summary:
  description: Numbers of VMs.
  returned: success, and failure after something was done
  type: dict
  sample: {total: 2, changed: 1, unchanged: 1, failed: 0, created: 0, updated: 1, started: 1, stopped: 1, paused: 0, resumed: 0, removed: 0}
failed_vms:
  description: Names of the VMs that failed.
  returned: success, and failure after something was done
  type: list
  elements: str
  sample: []
removed:
  description: Names of the VMs that were removed, or in check mode would be, without being named - by O(prune), or because their group has shrunk.
  returned: success, and failure after something was done
  type: list
  elements: str
  sample: [fn-old]
kept:
  description: Names of those that would have been, and stay because they are protected.
  returned: success, and failure after something was done
  type: list
  elements: str
  sample: []
progress:
  description: File on the host in which the progress of this task could be followed, one JSON object a line.
  returned: success, outside check mode
  type: str
  sample: /run/vmcp/.progress.jsonl
would_need:
  description: In check mode, what the host lacks.
  returned: check mode
  type: list
  elements: dict
  sample: []
code:
  description: Kind of the error.
  returned: failure
  type: str
  sample: invalid_argument
violations:
  description: Everything that is wrong with any entry, by path of the option.
  returned: failure
  type: list
  elements: dict
  sample: [{field: "vms[3].config.memory.size_bytes", message: "'1Q' is not a size"}]
"""

from ansible_collections.unkey.vmcp.plugins.module_utils.argument_specs import HOST, LARGE, LOCK, VMS
from ansible_collections.unkey.vmcp.plugins.module_utils.bootstrap import core, run


def main() -> None:
    run({**HOST, **LOCK, **VMS}, core("runner.vms", "run_vms"), large=LARGE)


if __name__ == "__main__":
    main()
