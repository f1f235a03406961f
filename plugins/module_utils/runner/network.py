# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""C(vmcp_network): one network from options to result. Look, plan, and, unless it is a check, act and look again."""

from __future__ import annotations

import dataclasses
import typing as t

from ..call import Call, Outcome
from ..errors import FailedPrecondition, InvalidArgument, Unavailable, VmcpError
from ..host.layout import Layout
from ..host.locks import held
from ..host.network.store import NetworkStore
from .network_describe import describe_network

if t.TYPE_CHECKING:
    from ..model.network import NetworkRequest
    from ..planner.network_plan import NetworkPlan
    from ..planner.network_situation import NetworkSituation


def run_network(call: Call) -> Outcome:
    call.require_libraries()
    layout = Layout.resolve(call.options.get("state_dir"), call.options.get("run_dir"), call.environ, call.uid)
    return _Task(call, NetworkStore(layout)).run()


class _Task:
    def __init__(self, call: Call, store: NetworkStore) -> None:
        self.call = call
        self.store = store
        self.request = self._read()
        self.name = self.request.name

    def _read(self) -> NetworkRequest:
        from ..model.network import validate_network

        options = {key: value for key, value in self.call.options.items() if value is not None}
        request, violations = validate_network(options, _stored_settings(self.store, str(options.get("name", ""))))
        if request is None:
            raise InvalidArgument.of(violations)
        return request

    def run(self) -> Outcome:
        if not self.call.act:
            found, plan = self._plan()
            self._tell(plan)
            return self._report(plan, found, None)
        if self.call.uid != 0:
            raise FailedPrecondition("Networks are the kernel's, and only root may change them. Run the task with become: true.")
        what = f"vmcp_network {self.name} state={self.request.state}"
        with held(self.store.layout.host_lock, what, self.request.lock_timeout_s, self._say_wait):
            # What another task has stored meanwhile counts.
            self.request = self._read()
            found, plan = self._plan()
            self._tell(plan)
            if plan.would_need:
                first = plan.would_need[0]
                more = f" ({len(plan.would_need) - 1} more in 'violations')" if len(plan.would_need) > 1 else ""
                raise FailedPrecondition(f"{first.field}: {first.message}{more}", violations=plan.would_need)
            if plan.actions:
                from .network_apply import carry_out

                carry_out(self.store, plan, found)
            return self._report(plan, found, self._settled(plan) if plan.actions else found)

    # --- looking and planning -----------------------------------------------------------------------------
    def _plan(self) -> tuple[NetworkSituation, NetworkPlan]:
        from ..host.network import kernel, observe
        from ..planner.network_desired import desired_network
        from ..planner.network_plan import plan_network

        found = observe.situation(self.store, self.name, self.call.uid)
        if self.request.state == "present" and not found.broken:
            desired = desired_network(self.request, found)
            if not desired.violations:
                found = observe.compared(self.store, found, desired.definition)
        plan = plan_network(self.request, found)
        if plan.actions and plan.definition is not None:
            # Only now: it is tried, which is not worth it for a network that is as it should be.
            plan = dataclasses.replace(plan, would_need=(*plan.would_need, *kernel.lacks(plan.definition, may_load=self.call.act)))
        return found, plan

    def _settled(self, plan: NetworkPlan) -> NetworkSituation:
        """The network after the steps. Unavailable when it is not what they should have made of it: somebody else is at it, or dnsmasq ended at once."""
        found, again = self._plan()
        if again.actions:
            raise Unavailable(
                f"Network {self.name} is not as it was made a moment ago ({', '.join(again.actions)}). Another program changes what is ours, or dnsmasq ended: "
                "see the host's log and run the task again.",
                details={"changed": True, "actions": list(plan.actions)},
            )
        return found

    # --- telling ------------------------------------------------------------------------------------------
    def _say_wait(self, holder: object) -> None:
        self.call.warn(f"Waiting for the lock of the host's networks, held by {holder or 'another process'}.")

    def _tell(self, plan: NetworkPlan) -> None:
        for text in plan.notices:
            self.call.warn(text)
        if not self.call.act:
            for lack in plan.would_need:
                self.call.warn(f"The host lacks what this needs: {lack.field}: {lack.message}")

    def _report(self, plan: NetworkPlan, found: NetworkSituation, after: t.Optional[NetworkSituation]) -> Outcome:
        result: dict[str, t.Any] = {"changed": plan.changed, "actions": list(plan.actions), "disruption": plan.disruption}
        if after is None:
            result["would_need"] = [lack.as_dict() for lack in plan.would_need]
        if plan.definition is None:
            result["network"] = {"name": plan.name, "state": "absent"}
        else:
            seen = after or found
            definition = seen.definition if after is not None and seen.definition else plan.definition
            result["network"] = describe_network(definition, seen.members, up=_is_up(seen, definition), dns=seen.dns)
        return Outcome(result, plan.diff())


def _is_up(found: NetworkSituation, definition: t.Any) -> bool:
    from ..planner.network_links import differences, wanted_links

    return not differences(wanted_links(definition), found.host) and not found.rules_differ


def _stored_settings(store: NetworkStore, name: str) -> t.Optional[dict[str, t.Any]]:
    """None for a network that is not there, or not to be read: that is told later, with what can be done about it."""
    import re

    from ..model.words import NAME_PATTERN

    if not re.fullmatch(NAME_PATTERN, name):
        return None
    try:
        definition = store.load(name)
    except VmcpError:
        return None
    return None if definition is None else {**definition.settings, "kind": definition.kind}
