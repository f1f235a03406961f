# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out the plan of a network, step by step. Each step does the same when it is done again: whoever was killed between two is followed by somebody
who goes on."""

from __future__ import annotations

import dataclasses
import datetime
import os
import typing as t

from ..errors import Internal, VmcpError
from ..host.files import os_errors, remove, write_atomic
from ..host.network import dns, foreign, netlink, rules, sysctls, units
from ..host.network.observe import written
from ..host.trees import ensure_dir, remove_tree
from ..host.writing import FileText, Writing, commit
from ..model.network_definition import NetworkDefinition, members_to_json
from ..planner.network_links import WantedLink, bridge_mac, interface_name, needed_sysctls, own_sysctls, wanted_links
from ..planner.network_rules import chains_of

if t.TYPE_CHECKING:
    from ..host.network.store import NetworkStore
    from ..planner.network_plan import NetworkPlan
    from ..planner.network_situation import NetworkSituation


def carry_out(store: NetworkStore, plan: NetworkPlan, found: NetworkSituation) -> None:
    """All steps, in order. An error says what was done before it."""
    done: list[str] = []
    work = _Work(store, plan, found)
    for action in plan.actions:
        try:
            work.do(action)
        except VmcpError as exc:
            exc.details.update(changed=bool(done), actions=list(done))
            raise
        done.append(action)


@dataclasses.dataclass
class _Work:
    store: NetworkStore
    plan: NetworkPlan
    found: NetworkSituation

    @property
    def definition(self) -> NetworkDefinition:
        if self.plan.definition is None:
            raise Internal(f"The plan for network {self.plan.name} has steps on a definition and no definition.")
        return self.plan.definition

    @property
    def under_systemd(self) -> bool:
        return self.found.supervisor == "systemd"

    def do(self, action: str) -> None:
        steps: dict[str, t.Callable[[], None]] = {
            "define": self._write,
            "update": self._write,
            "forwarding": lambda: sysctls.ensure(self.store, needed_sysctls(self.definition)),
            "links": self._links,
            "rules": self._rules,
            "accept": lambda: foreign.apply(self.store, self.definition),
            "enable": lambda: units.enable(self.store, self.plan.name, self.definition.dhcp),
            "dns": self._dns,
            "remove": self._remove,
        }
        steps[action]()

    def _write(self) -> None:
        """The record last: where it is, so is what follows from it."""
        files = self.store.files(self.plan.name)
        definition = self.definition
        if not definition.created_at:
            definition = dataclasses.replace(definition, created_at=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"))
        ensure_dir(self.store.layout.state_dir, 0o711)
        ensure_dir(self.store.dir, 0o711)
        ensure_dir(files.dir, 0o711)
        # dnsmasq reads below it when it is no longer root.
        ensure_dir(files.dns, 0o755)
        writing = Writing()
        try:
            foreigners = foreign.look(self.store, self.plan.name, definition) if chains_of(definition) else None
            for file in written(self.store, definition, self.found.members, foreigners):
                writing.add_if_different(file)
            if not os.path.lexists(files.members):
                writing.add(FileText(files.members, members_to_json(self.found.members)))
            if self._has_other_names and not os.path.lexists(files.unapplied):
                write_atomic(files.unapplied, members_to_json(()), sync=False)
            writing.add(FileText(files.definition, definition.to_json()), rank=1)
        except BaseException:
            writing.abandon()
            raise
        commit([writing], self.store.dir)
        if self._has_other_names:
            dns.reload(files)
            if not self.found.cut_off:
                remove(files.unapplied)
        if not definition.dhcp:
            for path in (files.dns_config, files.dhcp_hosts, files.dns_hosts, files.leases):
                remove(path)

    @property
    def _has_other_names(self) -> bool:
        """Of which a dnsmasq that runs must be told; should nobody get to that, the next task finds that it is still to be done."""
        before = self.plan.before.settings if self.plan.before else {}
        return self.definition.dhcp and (before.get("dns_names") or {}) != (self.definition.settings.get("dns_names") or {})

    def _links(self) -> None:
        wanted = wanted_links(self.definition)
        former = wanted_links(self.plan.before) if self.plan.before else ()
        netlink.remove([link for link in former if link.name not in {one.name for one in wanted}])
        netlink.ensure(wanted)
        sysctls.set_own(own_sysctls(self.definition))

    def _rules(self) -> None:
        files = self.store.files(self.plan.name)
        rules.apply(self.store, self.definition, self.store.members(self.plan.name))
        if self.definition.dhcp:
            dns.reload(files)
        remove(files.unapplied)

    def _dns(self) -> None:
        files = self.store.files(self.plan.name)
        if self.under_systemd:
            if not self.definition.dhcp:
                units.stop_dns(self.plan.name)
                dns.stop(files)
            elif self.found.dns == "running" or "enable" not in self.plan.actions:
                units.restart_dns(self.plan.name)
            return
        dns.stop(files)
        if self.definition.dhcp:
            dns.start(files)

    def _remove(self) -> None:
        """What the definition says was made goes before the definition."""
        store, name, files = self.store, self.plan.name, self.store.files(self.plan.name)
        if self.under_systemd:
            units.disable(name)
        dns.stop(files)
        if "nft" not in self.found.missing_programs:
            foreign.remove(store, name)
            rules.remove(store, name)
        netlink.remove(wanted_links(self.plan.before) if self.plan.before else _by_name(name, self.found.host.machine))
        needed = {key for other in self.found.others for key in needed_sysctls(other)}
        sysctls.restore(store, needed)
        remove_tree(files.run, sync=False)
        with os_errors(f"remove {files.definition}"):
            remove(files.definition)
        remove_tree(files.dir)


def _by_name(name: str, machine: str) -> tuple[WantedLink, ...]:
    """What may be there of a network whose definition cannot be read."""
    bridge = WantedLink(interface_name("vn", name), "bridge", info={"mac": bridge_mac(name, machine)})
    return (bridge, WantedLink(interface_name("vx", name), "vxlan"), WantedLink(interface_name("vl", name), "vlan"))
