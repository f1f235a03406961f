#!/usr/bin/python
# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vmcp_vm
short_description: Define, boot, change, pause, shut down and remove a VM
description:
  - Manages one virtual machine on Cloud Hypervisor, Firecracker or QEMU through one configuration.
  - Every change is classed before it is made. What would disturb a running VM is refused unless O(allow_disruption) allows it, and check mode and diff
    tell the same as the real run.
  - A VM is one process of its VMM, under a systemd unit of its own or, where there is no systemd, under a small shell supervisor. There is no daemon.
version_added: 0.1.0
author:
  - unkey.vmcp contributors (@unkeyed)
extends_documentation_fragment:
  - unkey.vmcp.vmcp
  - unkey.vmcp.vmcp.attributes
  - unkey.vmcp.vmcp.lock
  - unkey.vmcp.vm_config
options:
  name:
    description:
      - Name of the VM on its host, 1 to 63 characters of C(a-z), C(0-9) and C(-), starting with a letter or digit.
    type: str
    required: true
  state:
    description:
      - V(present) defines the VM and brings its definition up to date; it leaves the power as it is.
      - V(running), V(paused) and V(shutdown) do the same and then see to the power. A VM that was never booted satisfies V(shutdown).
      - V(restarted) stops the process and starts it from the current definition with the current version of the VMM. It is a change every time.
      - V(absent) removes the VM with all that was made with it, never a disk that was named by its path.
      - A request for power without configuration leaves definition, disks and networks untouched.
    type: str
    choices: [present, running, paused, shutdown, restarted, absent]
    default: present
  backend:
    description:
      - The VMM. If left out, E(UNKEY_VMCP_BACKEND) of the module's environment, else the default of the host (C(/etc/vmcp/host.json)), else V(auto).
      - V(auto) keeps the backend of an existing VM. For a new one it looks at what the configuration needs and what the host has; RV(backend_reason) says why.
    type: str
    choices: [cloudhypervisor, firecracker, qemu, auto]
  backend_version:
    description:
      - The installed version to use. A VM keeps the version with which it was made until this says otherwise, or it is restarted with O(state=restarted).
      - C(current) moves it to the host's current one.
    type: str
  workload:
    description: What the VM is for. A hint for O(backend=auto), O(autostart) and QEMU's kind of machine.
    type: str
    choices: [serverless, persistent, development, production]
  labels:
    description: Labels, by which VMs are selected. The dictionary is complete; a label left out is removed.
    type: dict
  autostart:
    description: Whether the VM starts with its host. The default for a new VM is V(true), except with O(workload=serverless).
    type: bool
  protected:
    description: A protected VM is not removed.
    type: bool
  restart_policy:
    description:
      - What happens without Ansible when the guest reboots or the VMM crashes.
      - C(on_reboot) is V(restart) (default) or V(stop); C(on_crash) is V(no) (default) or V(restart); C(max_per_hour) (default 5) bounds both.
      - Cloud Hypervisor reboots a guest within its process and cannot stop instead.
    type: dict
  security:
    description:
      - The sandbox, on by default. C(jail) is Firecracker's jailer (as root), and Landlock for Cloud Hypervisor. QEMU has neither; there it is ignored.
      - C(seccomp) is the VMM's own filter of system calls; for QEMU that is C(-sandbox).
      - C(uid) is the uid under which the VMM runs; one is reserved for each VM if left out.
    type: dict
  metadata:
    description:
      - Data for the guest, served by Firecracker's metadata service. Secrets belong here; they are stored for root alone and compared by digest.
    type: dict
  cloud_init:
    description:
      - First-boot data for cloud-init in the guest. Stored for root alone, compared by digest, and never shown, as O(metadata).
      - Other data on a VM that exists are V(replace_data) of O(allow_disruption), and another instance to cloud-init, which does its work again.
    type: dict
    suboptions:
      user_data:
        description: Text, verbatim, or a dictionary that becomes C(#cloud-config).
        type: raw
      meta_data:
        description: Text, verbatim, or a dictionary whose keys go before ours (C(instance-id), C(local-hostname), C(public-keys)).
        type: raw
      network_config:
        description: Network configuration (version 1 or 2), as text or dictionary.
        type: raw
      ssh_keys:
        description: Public keys that may log in as the image's default user.
        type: list
        elements: str
      hostname:
        description: Host name of the guest. The VM's name if left out.
        type: str
      datasource:
        description: V(nocloud) is a seed disk, on every backend. V(mmds) is Firecracker's metadata service, in the form of cloud-init's EC2 source.
        type: str
        choices: [nocloud, mmds]
        default: nocloud
  allow_disruption:
    description:
      - The most that this task may do to a VM that runs.
      - Set it for all tasks of a play with C(module_defaults) of M(unkey.vmcp.vmcp_vm), not of the action group, whose other modules do not have it.
      - V(restart) lets the process be restarted, V(recreate) lets it be made anew (another backend), V(replace_data) lets a root disk be cloned anew.
    type: str
    choices: [none, restart, recreate, replace_data]
    default: none
  apply:
    description:
      - V(next_boot) writes the definition, touches nothing that runs, and reports what waits in RV(pending).
    type: str
    choices: [now, next_boot]
    default: now
  shutdown_timeout:
    description:
      - Seconds the guest gets to shut down in this task before its VMM is ended by force. V(0) ends it at once.
      - The default is 30 seconds, and V(0) with O(state=absent).
    type: int
  wait_for:
    description:
      - Conditions that must hold before the task ends, all under O(wait_timeout).
      - >-
        V(running), C({console: REGEX}) (in the output of this boot), C({tcp: PORT, host: ADDRESS}), C({file: PATH}), C({vsock: PORT}) or V(address).
      - >-
        V(address) is met when the guest itself answers for its address, as a neighbour on the network asks; C({address: ID}) for one interface of several.
        It needs an interface on a network of M(unkey.vmcp.vmcp_network), and root.
      - >-
        An expression that backtracks without end on what the guest printed is given up after 2 seconds of computing. A name as ADDRESS is looked up again each
        second, and all of its addresses are tried.
      - A failure says which one did not hold, shows the console's last lines, and leaves the VM as it is.
    type: list
    elements: raw
  wait_timeout:
    description: Seconds for all conditions of O(wait_for) together.
    type: int
    default: 120
  keep:
    description: What O(state=absent) leaves in place of the things that were made with the VM.
    type: list
    elements: str
    choices: [disks, snapshots]
  supervisor:
    description:
      - Who runs the VMM. V(auto) takes V(systemd) as root with the system's directories where systemd runs, else V(plain), one small shell a VM.
    type: str
    choices: [auto, systemd, plain]
  endpoint:
    description:
      - API socket of a VMM that somebody else runs, as in V(unix:///run/x.sock). Nothing of such a VM is stored.
      - If left out and O(name) is no VM of ours, E(UNKEY_VMCP_CH_ENDPOINT) or E(UNKEY_VMCP_FC_ENDPOINT) where O(backend) matches.
    type: str
"""

EXAMPLES = r"""
- name: A VM with a kernel and a root disk runs
  unkey.vmcp.vmcp_vm:
    name: web
    state: running
    config:
      cpu: {vcpu_count: 2}
      memory: {size_bytes: 1G}
      boot:
        kernel_path: /opt/vmcp/kernels/vmlinux
        kernel_args: console=ttyS0
      storage:
        - {path: /var/lib/images/web.img, is_root_device: true}
    wait_for:
      - console: "login:"
    wait_timeout: 120

- name: The same, short, for the command line
  unkey.vmcp.vmcp_vm:
    name: web
    vcpus: 2
    memory: 1G
    kernel: /opt/vmcp/kernels/vmlinux
    disks: [/var/lib/images/web.img]

- name: More memory, at the price of a restart
  unkey.vmcp.vmcp_vm:
    name: web
    memory: 2G
    allow_disruption: restart

- name: Less to disturb, the new definition waits for the next boot
  unkey.vmcp.vmcp_vm:
    name: web
    vcpus: 4
    apply: next_boot

- name: Shut down with a minute of grace
  unkey.vmcp.vmcp_vm:
    name: web
    state: shutdown
    shutdown_timeout: 60

- name: Gone
  unkey.vmcp.vmcp_vm:
    name: web
    state: absent
"""

RETURN = r"""
vm:
  description: The VM after the task, in the shape of an element of RV(unkey.vmcp.vmcp_vm_info#module:vms). In check mode, as it would be.
  returned: success
  type: dict
  sample: {name: web, state: running, backend: firecracker, backend_version: 1.16.1}
actions:
  description: What was done, or in check mode would be, in order.
  returned: success
  type: list
  elements: str
  sample: [define, start]
disruption:
  description: The most that was done to a VM that ran.
  returned: success
  type: str
  sample: none
pending:
  description: Fields of the definition that the running process does not have yet.
  returned: success
  type: list
  elements: str
  sample: [config.memory.size_bytes]
ignored:
  description: What this backend ignores.
  returned: success
  type: list
  elements: dict
  sample: [{field: config.cpu.max_vcpu_count, message: Firecracker cannot add virtual CPUs}]
would_need:
  description: In check mode, what the host lacks.
  returned: check mode, when there is something
  type: list
  elements: dict
  sample: []
backend_reason:
  description: Why this backend was chosen.
  returned: success
  type: str
  sample: asked for
waited:
  description: The conditions of O(wait_for) that were waited for, with the seconds each took.
  returned: when O(wait_for) is given, outside check mode
  type: list
  elements: dict
  sample: [{condition: "console: login:", seconds: 1.2}]
code:
  description: Kind of the error.
  returned: failure
  type: str
  sample: invalid_argument
violations:
  description: Everything that is wrong, by path of the option.
  returned: failure
  type: list
  elements: dict
  sample: [{field: config.memory.size_bytes, message: "'1Q' is not a size"}]
"""

from ansible_collections.unkey.vmcp.plugins.module_utils.argument_specs import ENDPOINT, HOST, LOCK, TASK, VM
from ansible_collections.unkey.vmcp.plugins.module_utils.bootstrap import core, run


def main() -> None:
    run({"name": {"type": "str", "required": True}, **HOST, **LOCK, **ENDPOINT, **VM, **TASK}, core("runner.vm", "run_vm"))


if __name__ == "__main__":
    main()
