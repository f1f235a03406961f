# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The networks of this host as files. Reads take no lock; writers hold the host's. Standard library only.

networks/NAME/network.json   what the network should be                     root, 0600
networks/NAME/members.json   who is on it                                   root, 0600
networks/NAME/up             brings it up, in plain sh                      root, 0600
networks/NAME/links          for C(ip -batch)                               root, 0600
networks/NAME/rules.nft, members.nft, accept.nft   for C(nft -f)            root, 0600
networks/NAME/dns/           dnsmasq's: its configuration, static leases and names, which it reads after it has dropped its privileges (0644)
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import typing as t

from ...errors import Internal, NotFound
from ...model.network_definition import Member, NetworkDefinition, members_from_json
from ...model.words import NAME_PATTERN
from ..files import os_errors, read_text

if t.TYPE_CHECKING:
    from ..layout import Layout

_NAME = re.compile(NAME_PATTERN)


@dataclasses.dataclass(frozen=True)
class NetworkFiles:
    """Every path of one network. C(dir) survives a reboot, C(run) does not."""

    name: str
    dir: str
    run: str

    @property
    def definition(self) -> str:
        return f"{self.dir}/network.json"

    @property
    def members(self) -> str:
        return f"{self.dir}/members.json"

    @property
    def up(self) -> str:
        return f"{self.dir}/up"

    @property
    def links(self) -> str:
        return f"{self.dir}/links"

    @property
    def rules(self) -> str:
        return f"{self.dir}/rules.nft"

    @property
    def member_rules(self) -> str:
        return f"{self.dir}/members.nft"

    @property
    def accept(self) -> str:
        """What lets the network's traffic pass the chains of others."""
        return f"{self.dir}/accept.nft"

    @property
    def unapplied(self) -> str:
        """There while kernel and dnsmasq may know other than C(members.json) says: who made it was killed, or failed, before it took it away. Holds members
        as they were."""
        return f"{self.dir}/unapplied"

    @property
    def dns(self) -> str:
        return f"{self.dir}/dns"

    @property
    def dns_config(self) -> str:
        return f"{self.dns}/dnsmasq.conf"

    @property
    def dhcp_hosts(self) -> str:
        return f"{self.dns}/dhcp-hosts"

    @property
    def dns_hosts(self) -> str:
        return f"{self.dns}/hosts"

    @property
    def leases(self) -> str:
        return f"{self.dns}/leases"

    @property
    def dns_pid(self) -> str:
        return f"{self.run}/dnsmasq.pid"

    @property
    def applied(self) -> str:
        """What the kernel made of our rules: by it somebody else's change is seen."""
        return f"{self.run}/applied.json"


class NetworkStore:
    """The networks below one state directory."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.dir = f"{layout.state_dir}/networks"

    @property
    def table(self) -> str:
        """The name of our tables in nftables, of the families inet and bridge. Each state directory has its own, so that neither takes away the other's."""
        return "vmcp" if self.layout.is_system else f"vmcp-{hashlib.sha256(self.layout.state_dir.encode()).hexdigest()[:8]}"

    @property
    def sysctls(self) -> str:
        """What the kernel's settings were before networks of ours changed them."""
        return f"{self.dir}/.sysctls.json"

    def files(self, name: str) -> NetworkFiles:
        return NetworkFiles(name, f"{self.dir}/{name}", f"{self.layout.run_dir}.networks/{name}")

    def names(self) -> list[str]:
        """Every network that has a definition, readable or not, sorted."""
        with os_errors(f"list {self.dir}"):
            try:
                entries = os.listdir(self.dir)
            except FileNotFoundError:
                return []
        return sorted(name for name in entries if _NAME.fullmatch(name) and os.path.lexists(self.files(name).definition))

    def load(self, name: str) -> NetworkDefinition | None:
        """None when there is no such network. As C(NetworkDefinition.from_json) for a torn or newer file."""
        path = self.files(name).definition
        try:
            text = read_text(path, trusted=True)
        except FileNotFoundError:
            return None
        definition = NetworkDefinition.from_json(text, path)
        if definition.name != name:
            raise Internal(f"{path} is the definition of a network {definition.name!r:.80}. Restore it from a backup.")
        return definition

    def get(self, name: str) -> NetworkDefinition:
        """NotFound, naming the nearest there is, when there is no such network."""
        definition = self.load(name)
        if definition is None:
            import difflib

            near = difflib.get_close_matches(name, self.names(), n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise NotFound(f"There is no network {name} on this host.{hint} Make it with unkey.vmcp.vmcp_network.")
        return definition

    def members(self, name: str) -> tuple[Member, ...]:
        """Who is on the network, in order of VM and interface; () when it has none."""
        path = self.files(name).members
        try:
            return members_from_json(read_text(path, trusted=True), path)
        except FileNotFoundError:
            return ()

    def taken(self, name: str) -> dict[str, tuple[str, str]]:
        """The addresses that are given on the network, each with its VM and interface."""
        return taken_by(self.members(name))


def taken_by(members: t.Iterable[Member]) -> dict[str, tuple[str, str]]:
    return {address: member.key for member in members for address in member.addresses}
