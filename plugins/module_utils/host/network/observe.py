# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A network and its host as found, and what of it is not as a definition says. Touches nothing."""

from __future__ import annotations

import dataclasses
import os
import pwd
import typing as t

from ...errors import VmcpError
from ...planner import network_dns
from ...planner.network_links import batch, boot_script, needed_sysctls, wanted_links
from ...planner.network_rules import chains_of, rules_file
from ...planner.network_situation import HostNetwork, NetworkSituation
from ..allocation_table import machine_id
from ..files import is_as
from ..supervisors import registry
from ..writing import FileText
from . import dns, foreign, netlink, programs, rules, sysctls, units
from .membership import member_files

if t.TYPE_CHECKING:
    from ...model.network_definition import Member, NetworkDefinition
    from .store import NetworkStore

PROGRAMS = ("nft", "ip", "dnsmasq")


def situation(store: NetworkStore, name: str, uid: int) -> NetworkSituation:
    """What there is of a network, its host, and its neighbours."""
    definition, broken, others = None, "", []
    members: tuple[Member, ...] = ()
    try:
        definition = store.load(name)
        members = store.members(name)
    except VmcpError as exc:
        broken = exc.msg
    for other in store.names():
        if other != name and (found := store.load(other)) is not None:
            others.append(found)
    files = store.files(name)
    return NetworkSituation(
        name=name,
        host=_host(),
        definition=definition,
        broken=broken,
        remains=os.path.lexists(files.dir) or os.path.lexists(files.run),
        members=members,
        others=tuple(others),
        dns=dns.state(files),
        supervisor=registry.choose("auto", store.layout, uid),
        cut_off=os.path.lexists(files.unapplied),
        missing_programs=tuple(program for program in PROGRAMS if not programs.is_there(program)),
    )


def _host() -> HostNetwork:
    host = netlink.observe()
    names = {f"ipv6/conf/{route.device}/accept_ra": route.device for route in host.routes if route.to == "::/0" and route.device}
    advertised = tuple(sorted(names[name] for name, value in sysctls.current(names).items() if value == "1"))
    return dataclasses.replace(host, machine=machine_id(), advertised=advertised)


def compared(store: NetworkStore, found: NetworkSituation, definition: NetworkDefinition) -> NetworkSituation:
    """What is not as C(definition) says."""
    files = store.files(found.name)
    without_nft = "nft" in found.missing_programs
    foreigners = foreign.Found() if without_nft else foreign.look(store, found.name, definition)
    differing = bool(chains_of(definition)) and not without_nft and not rules.agree(store, definition, found.members, rules.listed(store))
    texts = written(store, definition, found.members, foreigners)
    stale = [file.path for file in texts if not is_as(file.path, file.text, file.mode, file.gid)]
    state = _dns_state(found, files.dns_pid, definition)
    return dataclasses.replace(
        found,
        rules_differ=differing,
        files_differ=bool(stale) and found.definition is not None,
        dns=state,
        dns_differs=definition.dhcp and state == "running" and files.dns_config in stale,
        forwarding=sysctls.current(needed_sysctls(definition)),
        blockers=foreigners.blockers,
        accepted=foreigners.accepted,
        firewalld=foreigners.firewalld,
        legacy=foreigners.legacy,
        persisted=units.is_persistent(found.name, definition.dhcp) if found.supervisor == "systemd" else None,
    )


def _dns_state(found: NetworkSituation, _pid_file: str, definition: NetworkDefinition) -> str:
    """After the host's reboot its pid file is gone with the rest of the run-time directory: it ought to run all the same."""
    if found.dns == "off" and found.definition is not None and found.definition.dhcp and definition.dhcp:
        return "ended" if found.definition.bridge in found.host.links else "off"
    return found.dns


def written(store: NetworkStore, definition: NetworkDefinition, members: t.Sequence[Member], foreigners: t.Optional[foreign.Found] = None) -> list[FileText]:
    """Every file that follows from a definition and its members, the record of either apart."""
    files = store.files(definition.name)
    own = chains_of(definition)
    texts = [
        FileText(files.up, boot_script(definition, files.dir, needed_sysctls(definition), bool(own), foreign.mark(store, definition.name))),
        FileText(files.links, batch(wanted_links(definition))),
    ]
    if own:
        texts.append(FileText(files.rules, rules_file(store.table, definition)))
        texts.append(FileText(files.accept, foreign.accept_file(store, definition, foreigners.blockers if foreigners else ())))
    if definition.dhcp:
        paths = {"dhcp_hosts": files.dhcp_hosts, "dns_hosts": files.dns_hosts, "leases": files.leases, "pid": files.dns_pid}
        texts.append(FileText(files.dns_config, network_dns.config(definition, paths, _dns_user()), mode=0o644))
    return texts + [file for file in member_files(store, definition, members) if file.path != files.members]


def _dns_user() -> str:
    """Whom dnsmasq becomes: its package's own user, where that makes one."""
    try:
        return pwd.getpwnam("dnsmasq").pw_name
    except KeyError:
        return "nobody"
