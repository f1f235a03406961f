# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to a network and in which order: desired and found to a plan. Pure."""

from __future__ import annotations

import dataclasses
import typing as t

from ..errors import FailedPrecondition, Internal, InvalidArgument, Violation
from ..model.network_definition import NetworkDefinition
from .network_desired import desired_network
from .network_links import differences, needed_sysctls, wanted_links
from .network_rules import chains_of, own_chains

if t.TYPE_CHECKING:
    from ..model.network import NetworkRequest
    from .network_situation import NetworkSituation

# The only words for steps, in results too, in the order in which they are done. What each does is in runner/network_apply.py.
ACTIONS = ("define", "update", "forwarding", "links", "rules", "accept", "dns", "enable", "remove")
# What guests notice until they start or ask for their address again; everything else is done beneath what runs.
INTERRUPTS = ("ipv4", "ipv6", "interface", "vlan", "vxlan.id", "vxlan.local", "mode")


@dataclasses.dataclass(frozen=True)
class NetworkChange:
    field: str
    before: t.Any
    after: t.Any
    interrupts: bool = False


@dataclasses.dataclass(frozen=True)
class NetworkPlan:
    """C(definition): what is to be stored afterwards, None after a removal. C(disruption): C(restart) when guests on it lose their connection."""

    name: str
    existed: bool
    actions: tuple[str, ...] = ()
    changes: tuple[NetworkChange, ...] = ()
    before: t.Optional[NetworkDefinition] = None
    definition: t.Optional[NetworkDefinition] = None
    disruption: str = "none"
    would_need: tuple[Violation, ...] = ()
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if any(action not in ACTIONS for action in self.actions):
            raise Internal(f"{self.actions!r} has an action that the runner does not know.")

    @property
    def changed(self) -> bool:
        return bool(self.actions)

    def diff(self) -> dict[str, t.Any]:
        """C({before, after}): the settings that change, the rules line by line, what is put right, and whether the network is there."""
        before: dict[str, t.Any] = {change.field: change.before for change in self.changes}
        after: dict[str, t.Any] = {change.field: change.after for change in self.changes}
        states = ("present" if self.existed else "absent", "present" if self.definition else "absent")
        if states[0] != states[1]:
            before["state"], after["state"] = states
        rules = [own_chains("vmcp", network).splitlines() if network and chains_of(network) else [] for network in (self.before, self.definition)]
        if rules[0] != rules[1]:
            before["rules"], after["rules"] = rules
        if "rules" in self.actions and self.existed and rules[0] == rules[1]:
            before["rules"], after["rules"] = "not as they should be", "as they should be"
        title = f"network {self.name}"
        return {"before": before, "after": after, "before_header": title, "after_header": title}


def plan_network(request: NetworkRequest, situation: NetworkSituation) -> NetworkPlan:
    """InvalidArgument with all violations; FailedPrecondition for what the present state does not allow."""
    if request.state == "absent":
        return _removal(request, situation)
    if situation.broken:
        raise FailedPrecondition(situation.broken)
    desired = desired_network(request, situation)
    if desired.violations:
        raise InvalidArgument.of(desired.violations)
    definition = desired.definition
    changes = _changes(situation.definition, definition)
    interrupting = [change for change in changes if change.interrupts] if situation.members else []
    if interrupting and request.allow_disruption == "none":
        fields = ", ".join(change.field for change in interrupting)
        vms = sorted({member.vm for member in situation.members})
        raise FailedPrecondition(
            f"Changing {fields} of network {request.name} cuts off the VMs on it ({', '.join(vms[:10])}) until they start again. "
            "Set allow_disruption: restart to let that happen.",
            violations=[Violation(change.field, "needs allow_disruption: restart while VMs are on the network") for change in interrupting],
            details={"disruption": "restart"},
        )
    return NetworkPlan(
        name=request.name,
        existed=situation.definition is not None,
        actions=tuple(_actions(situation, definition, bool(changes))),
        changes=tuple(changes),
        before=situation.definition,
        definition=definition,
        disruption="restart" if interrupting else "none",
        would_need=desired.lacks,
        notices=tuple(_notices(situation, definition)),
    )


def _removal(request: NetworkRequest, situation: NetworkSituation) -> NetworkPlan:
    vms = sorted({member.vm for member in situation.members} | set(situation.using_vms))
    if vms and not request.force and situation.definition is not None:
        raise FailedPrecondition(
            f"Network {request.name} is used by {len(vms)} VMs: {', '.join(vms[:20])}. Remove them or take them off it first, "
            "or set force: true to cut them off.",
            details={"vms": vms},
        )
    if situation.broken and not request.force:
        raise FailedPrecondition(f"{situation.broken} Whether VMs use network {request.name} cannot be told. Set force: true to remove it all the same.")
    there = situation.definition is not None or bool(situation.broken) or situation.remains
    return NetworkPlan(request.name, there, ("remove",) if there else (), before=situation.definition, disruption="restart" if vms and there else "none")


def _changes(before: t.Optional[NetworkDefinition], after: NetworkDefinition) -> list[NetworkChange]:
    old, new = ({} if n is None else _flat(n) for n in (before, after))
    return [
        NetworkChange(field, old.get(field), new.get(field), field in INTERRUPTS)
        for field in (*new, *(field for field in old if field not in new))
        if old.get(field) != new.get(field) and (before is not None or new.get(field) not in (None, "", [], False))
    ]


def _flat(network: NetworkDefinition) -> dict[str, t.Any]:
    """Settings by the names of options, and what was made of them where that moves VMs."""
    found: dict[str, t.Any] = {"kind": network.kind}
    for key, value in network.settings.items():
        if isinstance(value, dict):
            found.update({f"{key}.{inner}": item for inner, item in value.items()})
        else:
            found[key] = value
    # As they are on this host: of hosts that share a vxlan each has another address, which moves when there are other peers.
    found.update({family: own for family, own in (("ipv4", network.ipv4), ("ipv6", network.ipv6)) if own})
    found["ranges"] = network.ranges
    found["mtu"] = network.mtu
    return found


def _actions(situation: NetworkSituation, definition: NetworkDefinition, changed: bool) -> t.Iterator[str]:
    stored = situation.definition
    if stored is None:
        yield "define"
    elif changed or situation.files_differ or stored.generated != definition.generated:
        yield "update"
    needed = needed_sysctls(definition)
    if any(situation.forwarding.get(name, value) != value for name, value in needed.items()):
        yield "forwarding"
    wanted = wanted_links(definition)
    former = [link for link in wanted_links(stored) if link.name not in {one.name for one in wanted}] if stored else []
    if differences(wanted, situation.host) or any(link.name in situation.host.links for link in former):
        yield "links"
    if chains_of(definition) and (situation.rules_differ or situation.cut_off):
        yield "rules"
    if any(blocker.place not in situation.accepted for blocker in situation.blockers):
        yield "accept"
    if situation.dns_differs or situation.dns == "ended" or (definition.dhcp and situation.dns == "off") or (not definition.dhcp and situation.dns != "off"):
        yield "dns"
    if situation.persisted is False:
        yield "enable"


def _notices(situation: NetworkSituation, definition: NetworkDefinition) -> t.Iterator[str]:
    if situation.dns == "ended" and definition.dhcp:
        yield f"dnsmasq of network {situation.name} had ended, so guests could get no address and resolve no name. It is started again."
    if situation.legacy:
        yield (
            f"This host has rules made with iptables-legacy, which are not changed and may drop what VMs on network {situation.name} send. "
            f"Run: {'; '.join(situation.legacy)}. Save them as you save your own, so that they are there after a reboot. "
            "The host stays protected by the network's own rules."
        )
    if situation.firewalld:
        yield (
            f"firewalld runs on this host and rejects traffic of network {situation.name}. Run: "
            f"{' && '.join([*situation.firewalld, 'firewall-cmd --reload'])}. The host stays protected by the network's own rules."
        )
