#!/usr/bin/python
# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vmcp_host_info
short_description: Tell what a host can do for VMs, and what it lacks
description:
  - Reports KVM (and whether it is backed by hardware), devices, huge pages, NUMA, cgroups, the installed VMMs with versions and features, and capacity.
  - Works on a host where nothing is installed. Each lack comes with its remedy.
version_added: 0.1.0
author:
  - unkey.vmcp contributors (@unkeyed)
extends_documentation_fragment:
  - unkey.vmcp.vmcp
  - unkey.vmcp.vmcp.unlocked
  - unkey.vmcp.vmcp.info
options: {}
"""

EXAMPLES = r"""
- name: What can this host do?
  unkey.vmcp.vmcp_host_info:
  register: info

- name: What is missing, and how to get it?
  ansible.builtin.debug:
    msg: "{{ info.host.lacks }}"
"""

RETURN = r"""
host:
  description:
    - C(kvm) tells V(hardware) KVM from one that lacks C(vmx) and C(svm), where a full Linux guest needs QEMU with TCG.
    - C(libraries) and C(tools) say of the Python libraries and programs that tasks use whether they are there.
    - C(backends) lists the installed versions of each VMM, C(lacks) what is missing as C({what, message, remedy, needed_for}).
    - C(hardening) goes through the advice for production, of the host and of its VMs, as C({item, status, why, remedy, good_for, by_role}).
      C(status) is V(ok), V(not_ok), or V(unknown) where the host does not show it. The role vmcp_hardening can enforce those with C(by_role).
  returned: success
  type: dict
  sample: {kvm: {present: true, usable: true, hardware: true}, lacks: []}
"""

from ansible_collections.unkey.vmcp.plugins.module_utils.argument_specs import HOST, LOCK
from ansible_collections.unkey.vmcp.plugins.module_utils.bootstrap import core, run


def main() -> None:
    run({**HOST, **LOCK}, core("runner.host_info", "run_host_info"), reads_only=True)


if __name__ == "__main__":
    main()
