# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VM as another host needs it: what defines it, and which files belong to it. From what C(vmcp_vm_info) says. Pure."""

from __future__ import annotations

import copy
import posixpath
import typing as t

Tree = dict[str, t.Any]

_KEPT = ("backend", "workload", "labels", "autostart", "protected", "restart_policy")
_STATES = {"running": "running", "paused": "paused"}
# Of the VM's own host alone.
_NOT_TAKEN = ("uid",)


def as_entry(vm: t.Mapping[str, t.Any]) -> Tree:
    """The options for C(vmcp_vms), with C(state) as the VM is now. Its addresses go with it: a guest knows its network card by them."""
    entry: Tree = {key: copy.deepcopy(vm[key]) for key in _KEPT if vm.get(key) is not None}
    config = copy.deepcopy(dict(vm["config"]))
    macs = {nic["id"]: nic.get("mac_address") for nic in vm.get("nics") or []}
    for nic in config.get("network") or []:
        if nic.get("mac_address") is None and macs.get(nic.get("id")):
            nic["mac_address"] = macs[nic["id"]]
    security = {key: value for key, value in (vm.get("security") or {}).items() if key not in _NOT_TAKEN and value is not None}
    return {**entry, "config": config, **({"security": security} if security else {}), "state": _STATES.get(vm["state"], "present")}


def files_of(vm: t.Mapping[str, t.Any], shared: t.Sequence[str]) -> dict[str, list[str]]:
    """C(disks): what the VM writes to, and so is its own; C(read_only): what others may read too. What is below one of C(shared) is on every host already.
    A disk with a name is its whole directory, its record with it; those are C(directories) too. Disks that were made with the VM are in its data."""
    config = vm["config"]
    boot = config.get("boot") or {}
    named = {disk["id"]: _whole(disk) for disk in vm.get("disks") or [] if disk.get("disk")}
    storage = [(disk.get("path") or named.get(disk.get("id")), bool(disk.get("read_only"))) for disk in config.get("storage") or []]
    disks = [path for path, read_only in storage if path and not read_only]
    read_only = [path for path, read_only in storage if path and read_only]
    read_only += [boot[key] for key in ("kernel_path", "initrd_path", "firmware_path", "igvm_path") if boot.get(key)]
    own = [path for path in dict.fromkeys(disks) if not _is_shared(path, shared)]
    others = [path for path in dict.fromkeys(read_only) if path not in disks and not _is_shared(path, shared)]
    return {"disks": own, "read_only": others, "directories": [path for path in (*own, *others) if path in named.values() and not path.startswith("/dev/")]}


def _whole(disk: t.Mapping[str, t.Any]) -> str:
    """What of the host the disk with a name is: its directory, or a volume of LVM."""
    path = str(disk["path"])
    return path if path.startswith("/dev/") else posixpath.dirname(path)


def made_with(vm: t.Mapping[str, t.Any]) -> dict[str, t.Mapping[str, t.Any]]:
    """By id, the disks that were made with the VM: they lie in its data."""
    return {str(disk["id"]): disk for disk in vm.get("disks") or [] if not disk.get("disk")}


def unlike(vm: t.Mapping[str, t.Any], other: t.Mapping[str, t.Any]) -> list[str]:
    """Why the disks that were made with the VM would not be found by the C(other) one, which was made from its entry on another host. As sentences."""
    there = made_with(other)
    said = []
    for name, disk in made_with(vm).items():
        found = there.get(name, {})
        if found.get("format") != disk.get("format"):
            said.append(
                f"Its disk {name} is {disk.get('format')}, and would be {found.get('format')} on the new host, whose file system is another. "
                "Move it where the state directory has the same kind of file system."
            )
        elif found.get("digest") != disk.get("digest"):
            said.append(
                f"Its disk {name} was cloned from {disk.get('digest')}, and the image {disk.get('image')} is {found.get('digest')} on the new host. "
                "Bring the same image there."
            )
    return said


def _is_shared(path: str, shared: t.Sequence[str]) -> bool:
    return any(path == top or path.startswith(f"{top.rstrip('/')}/") for top in shared)


def upgrades(
    vms: t.Iterable[t.Mapping[str, t.Any]],
    backend: t.Optional[str],
    version: t.Optional[str],
    kernel: t.Optional[str],
    initrd: t.Optional[str],
) -> dict[str, dict[str, Tree]]:
    """What has to be said to which VM to upgrade it. C(running): those that are restarted for it; C(down): those that do not run; C(back): to have either
    as it is now. VMs that have it already are left out."""
    found: dict[str, dict[str, Tree]] = {"running": {}, "down": {}, "back": {}}
    for vm in vms:
        if backend is not None and vm["backend"] != backend:
            continue
        boot = vm["config"].get("boot") or {}
        new: Tree = {}
        old: Tree = {}
        if version is not None and not f"{vm['backend_version']}.".startswith(f"{version.removeprefix('v')}."):
            new["backend_version"] = version
        for option, key, value in (("kernel", "kernel_path", kernel), ("initrd", "initrd_path", initrd)):
            if value is not None and boot.get(key) != value and boot.get("kernel_path") is not None:
                new[option], old[option] = value, boot.get(key)
        if not new:
            continue
        # A restart that names no version would take the host's current one.
        new.setdefault("backend_version", vm["backend_version"])
        old["backend_version"] = vm["backend_version"]
        runs = vm["state"] in ("running", "paused")
        # A null among the options of an entry is an option left out: what was not there before is taken back by the tree.
        if "initrd" in old and old["initrd"] is None:
            old = {**{key: value for key, value in old.items() if key != "initrd"}, "config": {"boot": {"initrd_path": None}}}
        found["running" if runs else "down"][vm["name"]] = {**new, "state": "restarted"} if runs else new
        found["back"][vm["name"]] = {**old, "state": "restarted"} if runs else old
    return found
