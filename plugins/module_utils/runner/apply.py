# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries out a plan, step by step. It decides nothing: what to do is in the steps, how each backend does it is in the driver.

A run can be cut off between any two writes. Each step can therefore be repeated: a definition is written last, after what follows from
it; a start writes the launch file anew; a stop leaves its mark until the process has ended.
"""

from __future__ import annotations

import dataclasses
import time
import typing as t

from ..backends.registry import driver
from ..errors import DeadlineExceeded, FailedPrecondition, Internal, Unavailable, VmcpError
from ..host import allocations, events, files, host_json, processes
from ..host.layout import VmLayout
from ..host.port import Supervisor
from ..host.store import Store
from ..host.supervisors.registry import supervisors
from ..model.definition import Definition
from ..planner.plan import Plan, Step
from .launching import allocation_request, with_allocation, write_launch_files
from .live import ask_state, end_of, observe_socket, peer_uid, process_or_history, situation, start_with_host, supervisor_of

# A VMM takes milliseconds to start; QEMU under TCG with much to emulate a few seconds. Past this it hangs.
START_S = 60.0
CALL_S = 10.0
POLL_S = 0.005
# What a VMM gets to go away after SIGKILL: the kernel has to free the guest's memory.
KILL_S = 30.0
# For a VMM that closed its socket on us while it ends.
GONE_S = 1.0


class Applier:
    """Acts on one VM, under its lock. C(definition) is what is stored while the steps go on."""

    def __init__(self, store: Store, plan: Plan, *, host: host_json.HostDefaults, root: bool, lock_timeout_s: float) -> None:
        self.store = store
        self.plan = plan
        self.host = host
        self.root = root
        self.lock_timeout_s = lock_timeout_s
        self.vm: VmLayout = store.layout.vm(plan.name)
        self.definition = plan.definition
        self.done: list[str] = []
        self._launch_is_written = False

    def run(self) -> None:
        """All steps in order. C(done) names those that were begun, for the report of a run that fails."""
        for index, step in enumerate(self.plan.steps):
            following = self.plan.steps[index + 1 :]
            self.done.append(step.action)
            getattr(self, f"_{step.action}")(step, following)

    # --- the definition ---------------------------------------------------------------------------------
    def _define(self, step: Step, following: t.Sequence[Step]) -> None:
        self._write_definition()

    def _update(self, step: Step, following: t.Sequence[Step]) -> None:
        self._write_definition()

    def _write_definition(self) -> None:
        definition = self._allocate(self._wanted())
        if self.plan.metadata is not None:
            definition = dataclasses.replace(definition, metadata_digest=self.store.save_secrets(definition.name, self.plan.metadata))
        self.store.ensure_dirs(self.vm, definition.generated.get("uid"))
        write_launch_files(self.store, definition)
        self._launch_is_written = True
        former = situation(self.store, definition.name, observe=False).definition
        self.store.save(definition)
        self.definition = definition
        start_with_host(self.store.layout, self.vm, definition, former)

    def _wanted(self) -> Definition:
        if self.definition is None:
            raise Internal(f"The plan for VM {self.plan.name} has steps on a definition and no definition.")
        return self.definition

    def _allocate(self, definition: Definition) -> Definition:
        """Writes into C(generated) what is chosen once: uid, context id, MAC addresses, and taps for interfaces on bridges."""
        request = allocation_request(definition, self.host, self.root)
        given = allocations.allocate(
            self.store.layout,
            definition.name,
            request.nic_ids,
            uid_range=request.uid_range,
            lock_timeout_s=self.lock_timeout_s,
            taken_macs=request.taken_macs,
        )
        return with_allocation(definition, given, self.root)

    # --- power ------------------------------------------------------------------------------------------
    def _start(self, step: Step, following: t.Sequence[Step]) -> None:
        definition = self._wanted()
        began = time.monotonic()
        if not self._launch_is_written:
            # An earlier run may have been cut off between the launch file and the definition.
            write_launch_files(self.store, definition)
        supervisor = self._supervisor(definition)
        supervisor.ensure_installed()
        failed = supervisor.start([self.vm], began + START_S).get(definition.name)
        if failed:
            raise self._start_error(definition, failed)
        self._until_booted(definition, began + START_S)
        files.remove(self.vm.restarting)

    def _start_error(self, definition: Definition, failed: str) -> VmcpError:
        end = end_of(definition, self.vm)
        return FailedPrecondition(f"VM {definition.name} did not start: {failed.rstrip('.')}. {end.msg}", details=end.details)

    def _until_booted(self, definition: Definition, deadline: float) -> None:
        """The supervisor says that the process runs; only the VMM can say that the VM does."""
        last: t.Optional[VmcpError] = None
        while time.monotonic() < deadline:
            try:
                if ask_state(definition, self.vm, max(0.05, min(CALL_S, deadline - time.monotonic()))) in ("running", "paused"):
                    return
            except VmcpError as exc:
                last = exc
            process, history = process_or_history(self.vm)
            if process is None:
                # It may have run and ended already, as a guest does whose work is a line of output.
                last_exit = events.last_exit(history)
                if last_exit is not None and last_exit.reason == "guest":
                    return
                raise self._start_error(definition, "its VMM ended at once")
            time.sleep(POLL_S)
        raise DeadlineExceeded(
            f"The VMM of {definition.name} runs, but reported no running VM within {START_S:.0f} s{f' ({last.msg})' if last else ''}. See {self.vm.vmm_log}.",
            details=end_of(definition, self.vm).details,
        )

    def _pause(self, step: Step, following: t.Sequence[Step]) -> None:
        definition = self._running_as()
        driver(definition.backend).pause(self.vm.api_socket, time.monotonic() + CALL_S, peer_uid(definition))
        self._until_state(definition, "paused")

    def _resume(self, step: Step, following: t.Sequence[Step]) -> None:
        definition = self._running_as()
        driver(definition.backend).resume(self.vm.api_socket, time.monotonic() + CALL_S, peer_uid(definition))
        self._until_state(definition, "running")

    def _until_state(self, definition: Definition, wanted: str) -> None:
        """A reply is not yet the truth: the VMM is asked until it says so itself."""
        deadline = time.monotonic() + CALL_S
        while (now := ask_state(definition, self.vm)) != wanted:
            if time.monotonic() > deadline:
                raise DeadlineExceeded(
                    f"The VMM of {definition.name} took the request, and says after {CALL_S:.0f} s that its VM is {now}, not {wanted}. See {self.vm.vmm_log}."
                )
            time.sleep(POLL_S)

    def _shutdown(self, step: Step, following: t.Sequence[Step]) -> None:
        definition = self._running_as()
        self._mark(following)
        deadline = time.monotonic() + float(step.args["grace_s"])
        supervisor = self._supervisor(definition)
        if self._asked(definition) and supervisor.wait_ended(self.vm, deadline):
            return
        supervisor.kill(self.vm, time.monotonic() + KILL_S)

    def _mark(self, following: t.Sequence[Step]) -> None:
        restarts = any(s.action == "start" for s in following)
        if restarts:
            files.write_atomic(self.vm.restarting, "", sync=False)
        processes.mark_stopping(self.vm, "restart" if restarts else "request")

    def _asked(self, definition: Definition) -> bool:
        """Whether the guest was asked to shut down. A paused guest hears nothing: it is resumed first."""
        backend = driver(definition.backend)
        deadline = time.monotonic() + CALL_S
        try:
            if backend.observe(observe_socket(definition, self.vm), deadline, peer_uid(definition)).state == "paused":
                backend.resume(self.vm.api_socket, deadline, peer_uid(definition))
            return backend.request_shutdown(self.vm.api_socket, deadline, peer_uid(definition))
        except Unavailable:
            # Firecracker may be gone before it has answered: then there is nothing left to ask, and nothing to force.
            return self._supervisor(definition).wait_ended(self.vm, time.monotonic() + GONE_S)
        except VmcpError:
            # It does not answer, or refuses: force is what remains.
            return False

    def _kill(self, step: Step, following: t.Sequence[Step]) -> None:
        self._mark(following)
        self._supervisor(self._running_as()).kill(self.vm, time.monotonic() + KILL_S)

    # --- the end ----------------------------------------------------------------------------------------
    def _remove(self, step: Step, following: t.Sequence[Step]) -> None:
        stored = self.definition or situation(self.store, self.plan.name, observe=False).definition
        keep = step.args.get("keep") or []
        for supervisor in [self._supervisor(stored)] if stored else supervisors(self.store.layout):
            left = supervisor.remove([self.vm], time.monotonic() + KILL_S)
            if left:
                raise DeadlineExceeded(left[self.plan.name])
        layout, name = self.store.layout, self.plan.name
        self.store.remove(name, keep_data=bool(keep), give_back=lambda: allocations.release(layout, name, lock_timeout_s=self.lock_timeout_s))

    def _forget(self, step: Step, following: t.Sequence[Step]) -> None:
        """What a run left that was cut off before there was a definition, or after it was removed."""
        self._remove(step, following)

    def _running_as(self) -> Definition:
        """With what the live process was started: its backend may differ from the definition's."""
        running = self.store.booted(self.plan.name) or self.definition or self.store.load(self.plan.name)
        if running is None:
            raise FailedPrecondition(f"Nothing is known of the process of VM {self.plan.name}. Remove it with state: absent.")
        return running

    def _supervisor(self, definition: Definition) -> Supervisor:
        return supervisor_of(definition, self.store.layout)
