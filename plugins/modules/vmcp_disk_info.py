#!/usr/bin/python
# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vmcp_disk_info
short_description: Tell what disks exist and who uses them
description:
  - Lists the disks that M(unkey.vmcp.vmcp_disk) has made, with size, the space they take, format, backing chain, file system and users.
version_added: 0.1.0
author:
  - unkey.vmcp contributors (@unkeyed)
extends_documentation_fragment:
  - unkey.vmcp.vmcp
  - unkey.vmcp.vmcp.unlocked
  - unkey.vmcp.vmcp.info
options:
  names:
    description: The disks to report. All of them if left out. Those that do not exist are listed in RV(missing).
    type: list
    elements: str
    aliases: [name]
seealso:
  - module: unkey.vmcp.vmcp_disk
"""

EXAMPLES = r"""
- name: All disks of the host
  unkey.vmcp.vmcp_disk_info:
  register: all

- name: Who uses this one?
  unkey.vmcp.vmcp_disk_info:
    name: web-data
"""

RETURN = r"""
disks:
  description:
    - The disks, by name. Keys as in the result of M(unkey.vmcp.vmcp_disk), and C(partition_table).
    - C(size_bytes) and C(filesystem) are what the file itself says now. C(error) says why a disk cannot be read.
  returned: success
  type: list
  elements: dict
  sample: [{name: web-data, size_bytes: 21474836480, actual_bytes: 71303168, users: [{vm: web, id: web-data, read_only: false, running: true}]}]
missing:
  description: Names asked for that do not exist.
  returned: success
  type: list
  elements: str
  sample: []
disks_dir:
  description: The directory that was searched.
  returned: success
  type: str
  sample: /var/lib/vmcp/disks
"""

from ansible_collections.unkey.vmcp.plugins.module_utils.argument_specs import DISK_INFO, HOST, LOCK
from ansible_collections.unkey.vmcp.plugins.module_utils.bootstrap import core, run


def main() -> None:
    run({**HOST, **LOCK, **DISK_INFO}, core("runner.disk_info", "run_disk_info"), reads_only=True)


if __name__ == "__main__":
    main()
