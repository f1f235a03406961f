# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a document for Cloud Hypervisor needs to know beside the configuration. Standard library only."""

from __future__ import annotations

import dataclasses
import typing as t

from ..port import Paths


@dataclasses.dataclass(frozen=True)
class Wiring:
    """What a document needs beside the configuration. The default is a VMM that somebody else runs: nothing of it is ours, paths are the host's.

    C(backings): by disk id, the one file that a qcow2 file of ours stands on.
    C(version): of the binary, C((53, 0)). C(macs), C(taps): by NIC id, what was chosen for those that name none, or a bridge. C(descriptors): of
    interfaces that are handed over open, which no document can (C(opened_nics)).
    C(limits_kept_by_host): limits of an interface that differ by direction are kept by its tap, and not told the VMM.
    C(sets_tap_mtu): whether the VMM may change a tap; with a uid of its own it may not, and takes the MTU from the tap, which the launch file prepares."""

    version: tuple[int, ...] = (53, 0)
    paths: Paths = dataclasses.field(default_factory=lambda: Paths(files={}, sockets=""))
    macs: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    taps: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    descriptors: t.Mapping[str, int] = dataclasses.field(default_factory=dict)
    backings: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    cid: t.Optional[int] = None
    landlock: bool = False
    sets_tap_mtu: bool = True
    limits_kept_by_host: bool = False
    serial_is_stdout: bool = False

    def file(self, alias: str, path: str) -> str:
        return self.paths.files.get(alias, path)

    def socket(self, name: str) -> t.Optional[str]:
        return f"{self.paths.sockets}/{name}" if self.paths.sockets else None
