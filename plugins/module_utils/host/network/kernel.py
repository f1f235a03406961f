# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What types of interfaces the running kernel has: tried in a network namespace made for that and thrown away. Standard library only."""

from __future__ import annotations

import os
import re
import typing as t

from ...errors import Violation
from ...planner.network_links import KERNEL_MODULES, wanted_links
from ..files import read_kernel
from . import programs
from .netlink import no_kind

if t.TYPE_CHECKING:
    from ...model.network_definition import NetworkDefinition

# Rules for what leaves an interface (C(host.launch_guard)).
_GUARDS_SINCE = (5, 16)
# A vlan or macvtap needs something beneath it.
_TRIES = {
    "bridge": "ip link add vmcpt type bridge",
    "vxlan": "ip link add vmcpt type vxlan id 1 dstport 4789",
    "vlan": "ip link add vmcpu type veth peer name vmcpv && ip link add link vmcpu name vmcpt type vlan id 1",
    "macvtap": "ip link add vmcpu type veth peer name vmcpv && ip link add link vmcpu name vmcpt type macvtap",
}


def has(kind: str, *, may_load: bool = True) -> bool:
    """C(may_load): trying loads the kernel's module, where it is there and not loaded yet. A look that is to change nothing is content with its being there."""
    if not may_load and _is_there(KERNEL_MODULES[kind]):
        return True
    try:
        programs.run(["unshare", "--net", "--", "/bin/sh", "-c", _TRIES[kind]])
    except programs.RefusedError:
        return False
    return True


def _is_there(module: str) -> bool:
    """Whether a module is loaded, or can be: it is among those of the running kernel."""
    if os.path.exists(f"/sys/module/{module}"):
        return True
    directory = f"/lib/modules/{os.uname().release}"
    name = re.compile(rf"(?:^|/){re.escape(module)}\.ko(?:\.\w+)?(?::|$)", re.MULTILINE)
    return any(name.search(_text(f"{directory}/{listing}")) for listing in ("modules.dep", "modules.builtin"))


def _text(path: str) -> str:
    """Empty where it cannot be read, as in most containers: then it is tried."""
    try:
        return read_kernel(path)
    except OSError:
        return ""


def lacks(definition: NetworkDefinition, *, may_load: bool = True) -> list[Violation]:
    """The types of interfaces that the network needs and the kernel does not have, each with its module. C(may_load): as of C(has)."""
    kinds = {link.kind for link in wanted_links(definition) if link.kind} | ({"macvtap"} if definition.kind == "macvtap" else set())
    fields = {"vlan": "vlan", "vxlan": "vxlan"}
    missing = [Violation(fields.get(kind, "kind"), no_kind(kind)) for kind in sorted(kinds) if not has(kind, may_load=may_load)]
    return [*missing, *_cannot_guard(definition, os.uname().release)]


def _cannot_guard(definition: NetworkDefinition, release: str) -> t.Iterator[Violation]:
    """C(release): as uname tells it, C(6.1.0-13-amd64)."""
    version = tuple(int(part) for part in re.findall(r"\d+", release)[:2])
    if definition.kind == "macvtap" and definition.settings.get("anti_spoofing") is not False and version < _GUARDS_SINCE:
        text = f"on macvtap needs Linux 5.16, and this is {release}. Say anti_spoofing: false, or use kind: uplink with a bridge."
        yield Violation("anti_spoofing", text)
