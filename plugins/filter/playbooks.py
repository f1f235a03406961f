# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbooks ask of their variables, and how they look at a fleet. The documentation of each filter is in a YAML file of its name."""

from __future__ import annotations

import collections.abc
import typing as t

from ansible.errors import AnsibleFilterError

from ..plugin_utils.moving import as_entry, files_of, made_with, unlike, upgrades
from ..plugin_utils.replacing import replacement
from ..plugin_utils.variables import violations


def vmcp_variable_violations(given: t.Any, playbook: str) -> list[dict[str, str]]:
    """See C(vmcp_variable_violations.yml)."""
    if not isinstance(given, collections.abc.Mapping):
        raise AnsibleFilterError("vmcp_variable_violations: give a dictionary of variables.")
    return [violation.as_dict() for violation in violations(given, playbook)]


def vmcp_fleet_hosts(names: t.Any, hostvars: t.Any, reached: t.Any, foretell: bool = False) -> dict[str, dict[str, t.Any]]:
    """See C(vmcp_fleet_hosts.yml)."""
    within = set(reached)
    found = {}
    for name in names:
        known = hostvars[name]
        if str(known.get("vmcp_fleet_member", True)).lower() in ("false", "no", "off", "0"):
            continue
        body: dict[str, t.Any] = {
            "reachable": False,
            "record": None,
            "labels": known.get("vmcp_host_labels") or {},
            "capacity": known.get("vmcp_host_capacity") or {},
        }
        looked = [known.get(f"vmcp_fleet__{what}") for what in ("host", "vms", "files")]
        if name in within and all(isinstance(seen, collections.abc.Mapping) and not seen.get("failed") for seen in looked):
            host, vms, files = looked
            facts = _prepared(host["host"], known.get("vmcp_backends")) if foretell else host["host"]
            body |= {"reachable": True, "host": facts, "vms": vms["vms"], "drained": files["drained"], "record": files["record"]}
        found[str(name)] = body
    return found


def _prepared(facts: t.Mapping[str, t.Any], backends: t.Any) -> dict[str, t.Any]:
    """The host as it will be when the roles have been there."""
    there = {installed["backend"] for installed in facts["backends"]}
    wanted = [backends] if isinstance(backends, str) else list(backends or ([] if there else ["qemu"]))
    more = [{"backend": backend, "version": "to be installed"} for backend in wanted if backend not in there]
    return {**facts, "backends": [*facts["backends"], *more]}


def vmcp_site_summary(known: t.Any) -> dict[str, t.Any]:
    """See C(vmcp_site_summary.yml)."""
    made = [known.get(name) for name in ("vmcp_site__made", "vmcp_fleet__made")]
    done = [result for result in made if isinstance(result, collections.abc.Mapping) and "vms" in result]
    changed = {name: list(vm.get("actions") or []) for result in done for name, vm in result["vms"].items() if vm.get("changed")}
    return {"changed": changed, "vms": sorted(name for result in done for name in result["vms"]), "removed": [n for r in done for n in r.get("removed") or []]}


def vmcp_unwell(found: t.Any, names: t.Any = None) -> list[str]:
    """See C(vmcp_unwell.yml)."""
    by_name = {vm["name"]: vm for vm in found}
    said = [f"{name} is not there" for name in names or [] if name not in by_name]
    for name, vm in by_name.items():
        if names is not None and name not in names:
            continue
        if vm.get("error") or vm.get("unresponsive"):
            said.append(f"{name}: {vm.get('error') or vm.get('unresponsive')}")
        elif vm["state"] == "crashed":
            said.append(f"{name} has crashed")
        elif vm["state"] == "shutdown" and vm.get("stop_reason") != "request":
            said.append(f"{name} has ended by itself ({vm.get('stop_reason')})")
    return said


def vmcp_published(names: t.Any, hostvars: t.Any) -> dict[str, dict[str, t.Any]]:
    """See C(vmcp_published.yml)."""
    found: dict[str, dict[str, t.Any]] = {}
    for name in names:
        for vm in hostvars[name]["vmcp_publish__found"]["vms"]:
            found[str(vm["name"])] = {
                "host": str(name),
                "backend": vm["backend"],
                "backend_version": vm["backend_version"],
                "labels": vm["labels"],
                "mac_addresses": [nic["mac_address"] for nic in vm.get("nics") or []],
                "addresses": [address for nic in vm.get("nics") or [] for address in nic.get("addresses") or []],
            }
    return found


def vmcp_vm_entry(vm: t.Any) -> dict[str, t.Any]:
    """See C(vmcp_vm_entry.yml)."""
    return as_entry(_vm(vm, "vmcp_vm_entry"))


def vmcp_vm_files(vm: t.Any, shared: t.Any = None) -> dict[str, list[str]]:
    """See C(vmcp_vm_files.yml)."""
    return files_of(_vm(vm, "vmcp_vm_files"), [shared] if isinstance(shared, str) else list(shared or []))


def vmcp_vm_images(vm: t.Any) -> list[str]:
    """See C(vmcp_vm_images.yml)."""
    return sorted({disk["image"] for disk in made_with(_vm(vm, "vmcp_vm_images")).values() if disk.get("image")})


def vmcp_replacement(vm: t.Any, new: t.Any = None) -> dict[str, t.Any]:
    """See C(vmcp_replacement.yml)."""
    return replacement(_vm(vm, "vmcp_replacement"), new or {})


def vmcp_vm_unlike(vm: t.Any, other: t.Any) -> list[str]:
    """See C(vmcp_vm_unlike.yml)."""
    return unlike(_vm(vm, "vmcp_vm_unlike"), _vm(other, "vmcp_vm_unlike"))


def vmcp_upgrades(
    vms: t.Any, backend: t.Optional[str] = None, version: t.Optional[str] = None, kernel: t.Optional[str] = None, initrd: t.Optional[str] = None
) -> dict[str, dict[str, t.Any]]:
    """See C(vmcp_upgrades.yml)."""
    return upgrades([_vm(vm, "vmcp_upgrades") for vm in vms], backend, version, kernel, initrd)


def _vm(vm: t.Any, name: str) -> t.Mapping[str, t.Any]:
    if not isinstance(vm, collections.abc.Mapping) or not isinstance(vm.get("config"), collections.abc.Mapping):
        raise AnsibleFilterError(f"{name}: give a VM as vmcp_vm_info returns it.")
    return vm


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "vmcp_fleet_hosts": vmcp_fleet_hosts,
            "vmcp_published": vmcp_published,
            "vmcp_replacement": vmcp_replacement,
            "vmcp_site_summary": vmcp_site_summary,
            "vmcp_unwell": vmcp_unwell,
            "vmcp_upgrades": vmcp_upgrades,
            "vmcp_variable_violations": vmcp_variable_violations,
            "vmcp_vm_entry": vmcp_vm_entry,
            "vmcp_vm_files": vmcp_vm_files,
            "vmcp_vm_images": vmcp_vm_images,
            "vmcp_vm_unlike": vmcp_vm_unlike,
        }
