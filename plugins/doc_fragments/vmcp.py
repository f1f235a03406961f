# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations


class ModuleDocFragment:
    # Options every module shares that reads or writes VMs of a host.
    DOCUMENTATION = r"""
options:
  state_dir:
    description:
      - Directory of the VMs' definitions.
      - If left out, E(UNKEY_VMCP_STATE_DIR), else C(/var/lib/vmcp) for root and C(~/.local/state/vmcp) for other users.
    type: path
  run_dir:
    description:
      - Directory of what belongs to running VMs (sockets, pids).
      - If left out, E(UNKEY_VMCP_RUN_DIR), else C(/run/vmcp) beside the system's O(state_dir), and C(run) inside any other one.
    type: path
"""

    LOCK = r"""
options:
  lock_timeout:
    description: Seconds to wait for another task that works on the same VM. The error names whom it waited for.
    type: int
    default: 60
"""

    # Accepted everywhere, so that a group's module_defaults can carry it.
    UNLOCKED = r"""
options:
  lock_timeout:
    description: Has no effect here, because reading takes no lock. Accepted so that C(module_defaults) of the action group can set it.
    type: int
    default: 60
"""

    ATTRIBUTES = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: full
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: linux
  action_group:
    description: Use C(group/unkey.vmcp.vmcp) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - unkey.vmcp.vmcp
"""

    # The same for modules that only look.
    INFO = r"""
options: {}
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
    details: This module only reads.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: N/A
    details: This module only reads.
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
    details: This module only reads.
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: linux
  action_group:
    description: Use C(group/unkey.vmcp.vmcp) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - unkey.vmcp.vmcp
"""
