# Copyright (c) 2026 unkey.vmcp contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans for whole requests: merging, disruption, pending, refusals."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.unkey.vmcp.plugins.module_utils.backends.port import Installed
from ansible_collections.unkey.vmcp.plugins.module_utils.errors import FailedPrecondition, InvalidArgument, NotFound
from ansible_collections.unkey.vmcp.plugins.module_utils.host.port import Process
from ansible_collections.unkey.vmcp.plugins.module_utils.model.task import VmRequest, validate_request
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.desired import desire
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.make import plan_removal, plan_vm
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.plan import Plan
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.situation import HostView, Situation
from ansible_collections.unkey.vmcp.plugins.module_utils.planner.storage import ImageFact, Shelf
from ansible_collections.unkey.vmcp.tests.able_host import HOST

KERNEL = {"boot": {"kernel_path": "/boot/vmlinux"}}


def request(**options: t.Any) -> VmRequest:
    found, violations = validate_request({"name": "web", **options})
    assert found is not None, violations
    return found


def plan(situation: Situation, host: HostView = HOST, **options: t.Any) -> Plan:
    asked = request(**options)
    return plan_vm(asked, situation, desire(asked, situation, host, None, "2026-01-01T00:00:00Z"), [])


def defined(**options: t.Any) -> Situation:
    made = plan(Situation("web"), **{"backend": "qemu", "config": KERNEL, **options})
    return Situation("web", made.definition)


def running(**options: t.Any) -> Situation:
    found = defined(**options)
    return dataclasses.replace(found, booted=found.definition, process=Process(1, "b", 0.0), vmm_state="running", ever_booted=True)


def test_a_new_vm_is_defined_with_all_defaults_written_in() -> None:
    made = plan(Situation("web"), state="running", backend="qemu", config=KERNEL)
    assert made.actions == ["define", "start"]
    assert made.definition is not None
    assert made.definition.config["memory"]["size_bytes"] == 512 << 20
    assert made.definition.config["cpu"]["vcpu_count"] == 1
    assert made.definition.binary == "/usr/bin/qemu-system-x86_64"
    assert (made.state_before, made.state_after) == ("absent", "running")


def test_the_same_again_changes_nothing() -> None:
    again = plan(running(), state="running", backend="qemu", config=KERNEL)
    assert (again.changed, again.actions, again.changes) == (False, [], ())
    assert again.diff()["before"] == again.diff()["after"] == {}


def test_a_change_on_a_stopped_vm_is_an_update() -> None:
    made = plan(defined(), memory="1G")
    assert made.actions == ["update"]
    assert made.diff()["before"] == {"config.memory.size_bytes": 512 << 20}
    assert made.diff()["after"] == {"config.memory.size_bytes": 1 << 30}


def test_a_change_on_a_running_vm_names_the_fields_and_the_option_that_allows_it() -> None:
    with pytest.raises(FailedPrecondition, match=r"config\.memory\.size_bytes needs a restart.*allow_disruption: restart.*apply: next_boot") as failure:
        plan(running(), memory="1G")
    assert [v.field for v in failure.value.violations] == ["config.memory.size_bytes"]


def test_allowed_it_restarts() -> None:
    made = plan(running(), memory="1G", allow_disruption="restart")
    assert made.actions == ["update", "shutdown", "start"]
    assert (made.disruption, made.state_after, made.pending) == ("restart", "running", ())


def test_next_boot_writes_the_definition_and_reports_what_waits() -> None:
    made = plan(running(), memory="1G", apply="next_boot")
    assert made.actions == ["update"]
    assert (made.disruption, made.pending) == ("none", ("config.memory.size_bytes",))


def test_what_waits_is_converged_by_the_next_configuring_task_but_not_by_a_power_request() -> None:
    before = running()
    waiting = dataclasses.replace(before, definition=plan(before, memory="1G", apply="next_boot").definition)
    power = plan(waiting, state="running")
    assert (power.actions, power.pending) == ([], ("config.memory.size_bytes",))
    with pytest.raises(FailedPrecondition, match="needs a restart"):
        plan(waiting, memory="1G")
    assert plan(waiting, memory="1G", allow_disruption="restart").actions == ["shutdown", "start"]


def test_restarted_implies_the_permission_and_is_always_a_change() -> None:
    assert plan(running(), state="restarted").actions == ["shutdown", "start"]
    assert plan(running(), state="restarted", memory="1G").actions == ["update", "shutdown", "start"]


def test_another_backend_on_a_running_vm_is_made_anew() -> None:
    with pytest.raises(FailedPrecondition, match=r"backend.* needs making it anew.*allow_disruption: recreate"):
        plan(running(), backend="cloudhypervisor", allow_disruption="restart")
    made = plan(running(), backend="cloudhypervisor", allow_disruption="recreate")
    assert made.actions == ["update", "shutdown", "start"]
    assert made.disruption == "recreate"


def test_labels_and_policy_touch_nothing_that_runs() -> None:
    made = plan(running(), labels={"a": "b"}, restart_policy={"on_crash": "restart"})
    assert (made.actions, made.disruption, made.pending) == (["update"], "none", ())


def test_shutting_down_needs_no_permission_for_a_change() -> None:
    made = plan(running(), state="shutdown", memory="1G")
    assert made.actions == ["update", "shutdown"]
    assert made.disruption == "none"


def test_a_power_request_leaves_the_definition_alone() -> None:
    assert plan(running(), state="paused").changes == ()


def test_nothing_to_make_it_from_names_the_nearest() -> None:
    with pytest.raises(NotFound, match="Did you mean web1"):
        plan(Situation("web", nearest=("web1",)), state="running")
    with pytest.raises(NotFound, match="no VM web to restart"):
        plan(Situation("web"), state="restarted", config=KERNEL)


def test_violations_stop_a_plan_all_at_once() -> None:
    with pytest.raises(InvalidArgument) as failure:
        plan(Situation("web"), backend="firecracker", config={**KERNEL, "cpu": {"vcpu_count": 33}, "console": {"output": "tty"}})
    assert {v.field for v in failure.value.violations} == {"config.cpu.vcpu_count", "config.console.output"}


def test_what_is_not_installed_is_a_lack_and_no_violation() -> None:
    made = plan(Situation("web"), HostView(root=True), backend="qemu", config=KERNEL)
    assert [lack.field for lack in made.would_need] == ["backend"]
    assert made.actions == ["define"]


def test_a_pinned_version_stays_until_it_is_moved() -> None:
    newer = dataclasses.replace(HOST, installed=(Installed("qemu", "9.2.0", "/opt/qemu9"), dataclasses.replace(HOST.installed[0], current=False)))
    assert plan(defined(), newer, memory="1G").definition.backend_version == "7.2.22"  # type: ignore[union-attr]
    assert plan(defined(), newer, backend_version="current").definition.backend_version == "9.2.0"  # type: ignore[union-attr]
    assert plan(running(), newer, state="restarted").definition.backend_version == "9.2.0"  # type: ignore[union-attr]


def test_the_host_default_kernel_is_recorded() -> None:
    host = dataclasses.replace(HOST, defaults={"boot": {"qemu": {"kernel": "/k", "initrd": "/i"}}})
    made = plan(Situation("web"), host, backend="qemu", memory="256M")
    assert made.definition is not None
    assert made.definition.config["boot"]["kernel_path"] == "/k"
    assert made.definition.config["boot"]["initrd_path"] == "/i"


def test_a_protected_vm_is_not_removed() -> None:
    with pytest.raises(FailedPrecondition, match="protected"):
        plan_removal(request(state="absent"), defined(protected=True))


def test_removal_of_a_running_vm_forces_by_default_and_asks_when_given_a_grace() -> None:
    assert plan_removal(request(state="absent"), running()).actions == ["kill", "remove"]
    assert plan_removal(request(state="absent", shutdown_timeout=5), running()).actions == ["shutdown", "remove"]
    assert plan_removal(request(state="absent"), Situation("web")).actions == []


def test_data_that_a_removal_kept_is_kept_by_the_same_removal_again() -> None:
    kept = Situation("web", leftovers=True, only_data=True)
    assert plan_removal(request(state="absent", keep=["disks"]), kept).changed is False
    assert plan_removal(request(state="absent"), kept).changed is True
    cut_off = plan_removal(request(state="absent", keep=["disks"]), Situation("web", leftovers=True))
    assert [(s.action, s.args) for s in cut_off.steps] == [("forget", {"keep": ["disks"]})]


@pytest.mark.parametrize("boot", [{"kernel_args": "quiet"}, {"initrd_path": "/boot/initrd"}])
def test_what_does_not_go_with_the_hosts_default_is_a_violation_that_names_it(boot: dict[str, str]) -> None:
    host = dataclasses.replace(HOST, defaults={"boot": {"qemu": {"firmware": "/usr/share/OVMF/OVMF_CODE.fd"}}})
    with pytest.raises(InvalidArgument, match=r"goes with a kernel.*host\.json"):
        plan(Situation("web"), host=host, backend="qemu", config={"boot": boot})


def test_a_hosts_initrd_alone_is_nothing_to_boot() -> None:
    host = dataclasses.replace(HOST, defaults={"boot": {"firecracker": {"initrd": "/boot/initrd"}}})
    with pytest.raises(InvalidArgument, match=r"config\.boot\.kernel_path"):
        plan(Situation("web"), host=host, backend="firecracker", config={"cpu": {"vcpu_count": 1}})


@pytest.mark.parametrize(
    ("change", "field"), [({"restart_policy": {"on_reboot": "stop"}}, "restart_policy"), ({"workload": "serverless", "autostart": True}, "workload")]
)
def test_what_a_process_is_told_at_its_start_alone_is_a_restart(change: dict[str, t.Any], field: str) -> None:
    """QEMU reboots its guest itself, by its command line, and its machine depends on the workload; Firecracker's end is ours to act upon."""
    with pytest.raises(FailedPrecondition, match="allow_disruption: restart") as refused:
        plan(running(), **change)
    assert [v.field for v in refused.value.violations] == [field]
    assert plan(running(), apply="next_boot", **change).pending == (field,)
    assert plan(running(), allow_disruption="restart", **change).actions == ["update", "shutdown", "start"]
    assert plan(running(backend="firecracker"), **change).actions == ["update"]
    assert plan(running(), workload="development", restart_policy={"on_crash": "restart"}).actions == ["update"]


def test_a_link_for_autostart_that_somebody_removed_is_made_again() -> None:
    by_systemd = dataclasses.replace(HOST, systemd=True)
    found = plan(Situation("web"), host=by_systemd, backend="qemu", config=KERNEL).definition
    assert found is not None and found.supervisor == "systemd"
    made = plan(Situation("web", found, autostart=False), host=by_systemd)
    assert made.actions == ["update"]
    assert made.diff()["before"] == {"autostart": False}
    assert plan(Situation("web", found, autostart=True), host=by_systemd).changed is False
    assert plan(Situation("web", found, autostart=False), host=by_systemd, autostart=False).changed is True
    assert plan(dataclasses.replace(defined(), autostart=False)).changed is False


def test_a_condition_of_which_nothing_can_be_seen_is_a_violation() -> None:
    config = {**KERNEL, "console": {"output": "tty"}}
    with pytest.raises(InvalidArgument) as caught:
        plan(Situation("web"), backend="qemu", config=config, wait_for=[{"console": "x"}, {"vsock": 1}, "running"])
    assert [v.field for v in caught.value.violations] == ["wait_for[0].console", "wait_for[1].vsock"]
    assert plan(Situation("web"), backend="qemu", config={**KERNEL, "vsock": {}}, wait_for=[{"console": "x"}, {"vsock": 1}]).changed


def test_an_explicit_null_asks_for_the_default_again() -> None:
    found = defined(security={"uid": 12345, "seccomp": False}, restart_policy={"on_crash": "restart", "max_per_hour": 9})
    made = plan(found, security={"uid": None, "seccomp": None}, restart_policy={"on_crash": None})
    assert made.definition is not None
    assert made.definition.security == {"seccomp": True}
    assert made.definition.restart_policy == {"on_reboot": "restart", "on_crash": "no", "max_per_hour": 9}
    assert plan(found, security={}).changed is False
    assert plan(Situation("web"), backend="cloudhypervisor", config=KERNEL, restart_policy={"on_reboot": None}).changed


def test_a_jail_that_qemu_does_not_have_is_neither_kept_nor_a_change() -> None:
    """An older definition says one; to drop it restarts nothing."""
    found = running()
    assert found.definition is not None and "jail" not in found.definition.security
    for jail in (True, False):
        asked = plan(found, security={"jail": jail})
        assert (asked.changed, asked.pending) == (False, ())
        assert [i.field for i in asked.ignored] == (["security.jail"] if jail else [])
    old = dataclasses.replace(found.definition, security={"jail": True, "seccomp": True})
    assert plan(dataclasses.replace(found, definition=old, booted=old), security={"jail": False}).changed is False
    assert plan(running(backend="firecracker"), security={"jail": False}, apply="next_boot").pending == ("security",)
    moved = plan(running(backend="firecracker"), backend="qemu", allow_disruption="recreate").definition
    assert moved is not None and moved.security == {"seccomp": True}


def test_a_vm_whose_definition_is_of_a_newer_version_is_still_protected() -> None:
    unreadable = Situation("web", broken="vm.json has schema 99.", protected_unread=True)
    with pytest.raises(FailedPrecondition, match=r"is protected.*schema 99"):
        plan_removal(request(state="absent"), unreadable)
    assert plan_removal(request(state="absent"), dataclasses.replace(unreadable, protected_unread=False)).actions == ["remove"]


@pytest.mark.parametrize("allowed", ["none", "restart", "recreate"])
def test_data_of_a_vm_that_is_shut_down_are_data_too(allowed: str) -> None:
    images = {name: ImageFact(f"sha256:{digit * 64}", "raw", 1 << 30, f"/images/{name}") for name, digit in (("one", "1"), ("other", "2"))}

    def of(found: Situation, image: str, **options: t.Any) -> Plan:
        asked = request(backend="qemu", config={**KERNEL, "storage": [{"id": "root", "image": image}]}, **options)
        return plan_vm(asked, found, desire(asked, found, HOST, None, "2026-01-01T00:00:00Z", Shelf(images=images, data="/data", can_overlay=True)), [])

    had = Situation("web", of(Situation("web"), "one").definition)
    assert not of(had, "one").changed
    with pytest.raises(FailedPrecondition, match="replaces data that it has") as refused:
        of(had, "other", allow_disruption=allowed)
    assert [found.field for found in refused.value.violations] == ["config.storage[root].image"]
    assert of(had, "other", allow_disruption="replace_data").changed
