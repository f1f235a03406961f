#!/usr/bin/python
# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vmcp_console
short_description: Read a VM's console, or wait for a text on it
description:
  - Returns the output of the first serial port of a VM with O(unkey.vmcp.vmcp_vm#module:config.console.output=file), which is the default.
  - The console is bounded. RV(dropped_bytes) says how much of what was asked for is not kept any more.
version_added: 0.1.0
author:
  - unkey.vmcp contributors (@unkeyed)
extends_documentation_fragment:
  - unkey.vmcp.vmcp
  - unkey.vmcp.vmcp.unlocked
  - unkey.vmcp.vmcp.info
options:
  name:
    description: Name of the VM.
    type: str
    required: true
  lines:
    description: Only the last so many lines. All that O(max_bytes) allows if left out.
    type: int
  since:
    description:
      - RV(position) of an earlier result. Only what came after it is returned.
      - A position of an earlier boot stands for the start of this one.
    type: dict
  previous:
    description: Read the console of the boot before this one.
    type: bool
    default: false
  wait_for:
    description: Regular expression to wait for in the output of this boot, before the console is returned. Not waited for in check mode.
    type: str
  wait_timeout:
    description: Seconds to wait for O(wait_for).
    type: int
    default: 120
  max_bytes:
    description: The most to return, counted from the end.
    type: int
    default: 262144
"""

EXAMPLES = r"""
- name: The last 20 lines
  unkey.vmcp.vmcp_console:
    name: web
    lines: 20
  register: console

- name: What came since
  unkey.vmcp.vmcp_console:
    name: web
    since: "{{ console.position }}"

- name: Wait until the guest asks for a login
  unkey.vmcp.vmcp_console:
    name: web
    wait_for: "login: *$"
    wait_timeout: 60
"""

RETURN = r"""
lines:
  description: The output, by lines.
  returned: success
  type: list
  elements: str
  sample: ["Welcome to web", "login:"]
text:
  description: The same in one piece.
  returned: success
  type: str
  sample: "Welcome to web"
position:
  description: Where the output ends, to be given as O(since).
  returned: success
  type: dict
  sample: {boot_id: 4f9c53b2-5f1c-4a0e-9d1e-0f2b8a4f7c11, offset: 5012}
boot_id:
  description: The boot of which this is the output.
  returned: success
  type: str
  sample: 4f9c53b2-5f1c-4a0e-9d1e-0f2b8a4f7c11
offset:
  description: Bytes of output in this boot, trimmed ones included.
  returned: success
  type: int
  sample: 5012
dropped_bytes:
  description: Bytes asked for that are not returned, because they were trimmed or are beyond O(max_bytes).
  returned: success
  type: int
  sample: 0
waited:
  description: The condition, and the seconds it took.
  returned: when O(wait_for) is given, outside check mode
  type: list
  elements: dict
  sample: [{condition: "console: login:", seconds: 1.2}]
path:
  description: The file on the host.
  returned: success
  type: str
  sample: /var/lib/vmcp/vms/web/console.log
"""

from ansible_collections.unkey.vmcp.plugins.module_utils.argument_specs import CONSOLE, HOST, LOCK
from ansible_collections.unkey.vmcp.plugins.module_utils.bootstrap import core, run


def main() -> None:
    run({**HOST, **LOCK, **CONSOLE}, core("runner.console", "run_console"), reads_only=True)


if __name__ == "__main__":
    main()
