#!/usr/bin/python
# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vmcp_image_info
short_description: Tell which images a host has, and who uses them
description:
  - Reports the images that M(unkey.vmcp.vmcp_image) has made, what they take on the host, and which VMs and disks need them.
version_added: 0.1.0
author:
  - unkey.vmcp contributors (@unkeyed)
extends_documentation_fragment:
  - unkey.vmcp.vmcp
  - unkey.vmcp.vmcp.unlocked
  - unkey.vmcp.vmcp.info
options:
  names:
    description: Only these. All if left out. A name that does not exist is an error.
    type: list
    elements: str
    aliases: [name]
  kinds:
    description: Only images of these kinds.
    type: list
    elements: str
    choices: [disk, rootfs, kernel, initrd, firmware]
  verify:
    description: Whether the content is read, and its digest compared. Takes about a second for each GiB.
    type: bool
    default: false
seealso:
  - module: unkey.vmcp.vmcp_image
"""

EXAMPLES = r"""
- name: What is stored here?
  unkey.vmcp.vmcp_image_info:
  register: stored

- name: Is the image still as it was made?
  unkey.vmcp.vmcp_image_info:
    name: debian-12
    verify: true
"""

RETURN = r"""
images:
  description: As RV(unkey.vmcp.vmcp_image#module:image), and C(intact) where O(verify) is set.
  returned: success
  type: list
  elements: dict
  sample: [{name: debian-12, kind: disk, format: raw, size_bytes: 2147483648, stored_bytes: 903217152, users: ["vm:web"]}]
stored_bytes:
  description: What all listed images take on the host; content with several names counts once.
  returned: success
  type: int
  sample: 903217152
"""

from ansible_collections.unkey.vmcp.plugins.module_utils.argument_specs import HOST, IMAGE_INFO, LOCK
from ansible_collections.unkey.vmcp.plugins.module_utils.bootstrap import core, run


def main() -> None:
    run({**HOST, **LOCK, **IMAGE_INFO}, core("runner.image_info", "run_image_info"), reads_only=True)


if __name__ == "__main__":
    main()
