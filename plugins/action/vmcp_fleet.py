# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Of the controller's side of the module there is nothing but the way that all modules take to the host."""

from __future__ import annotations

from ansible_collections.unkey.vmcp.plugins.plugin_utils.delivery import ActionModule

__all__ = ["ActionModule"]
