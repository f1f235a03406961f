# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the checkout importable as ansible_collections.unkey.vmcp, the name under which Ansible runs it."""

from __future__ import annotations

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def _link_checkout_as_collection() -> None:
    link = ROOT / "ansible_collections" / "unkey" / "vmcp"
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("../..", target_is_directory=True)
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))


_link_checkout_as_collection()
