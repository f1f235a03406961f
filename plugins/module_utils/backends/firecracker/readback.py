# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back of C(translate): what C(GET /vm/config) says, in the unified configuration's words. Pure, standard library only.

Firecracker does not say: a custom CPU template, the logger, the serial port. Neither does the result: a VMM's silence is no value.
"""

from __future__ import annotations

import typing as t

from .translate import DEFAULT_KERNEL_ARGS, IO_ENGINES, MIB, Tree, our_id

_OUR_ENGINES = {theirs: ours for ours, theirs in IO_ENGINES.items()}


def config_of(wire: Tree, files: t.Mapping[str, str] | None = None) -> Tree:
    """The tree under C(config), plain values. C(files): host path by path as the VMM sees it (a jail's); other paths are taken as the host's."""
    on_host = dict(files or {})
    machine = wire.get("machine-config") or {}
    config: Tree = {
        "cpu": _cpu(machine),
        "memory": _memory(machine, wire),
        "boot": _boot(wire.get("boot-source") or {}, on_host),
        "storage": [_disk(drive, on_host) for drive in _root_first(wire.get("drives") or [])],
        "network": [_nic(nic) for nic in sorted(wire.get("network-interfaces") or [], key=lambda nic: t.cast(str, nic["iface_id"]))],
    }
    if wire.get("entropy") is not None:
        config["rng"] = {"source": "/dev/urandom"}
    if wire.get("vsock"):
        path = wire["vsock"]["uds_path"]
        # The VM's own is relative to its working directory.
        config["vsock"] = {"cid": wire["vsock"]["guest_cid"], **({"path": path} if path.startswith("/") else {})}
    return config


def _cpu(machine: Tree) -> Tree:
    count = machine.get("vcpu_count", 1)
    cpu: Tree = {"vcpu_count": count}
    if machine.get("smt"):
        cpu["topology"] = {"threads_per_core": 2, "cores_per_die": max(1, count // 2), "dies_per_package": 1, "packages": 1}
    if machine.get("cpu_template") not in (None, "None"):
        cpu["template"] = machine["cpu_template"]
    return cpu


def _memory(machine: Tree, wire: Tree) -> Tree:
    size = machine.get("mem_size_mib", 128) * MIB
    memory: Tree = {"size_bytes": size}
    if machine.get("huge_pages") not in (None, "None"):
        memory["hugepages"] = True
    if wire.get("memory-hotplug"):
        memory["max_size_bytes"] = size + wire["memory-hotplug"]["total_size_mib"] * MIB
    if wire.get("balloon"):
        balloon = wire["balloon"]
        memory["balloon"] = {
            "size_bytes": balloon["amount_mib"] * MIB,
            "deflate_on_oom": balloon["deflate_on_oom"],
            "free_page_reporting": balloon.get("free_page_reporting", False),
        }
    return memory


def _boot(source: Tree, on_host: t.Mapping[str, str]) -> Tree:
    boot: Tree = {}
    for ours, theirs in (("kernel_path", "kernel_image_path"), ("initrd_path", "initrd_path")):
        if source.get(theirs):
            boot[ours] = on_host.get(source[theirs], source[theirs])
    # Whether a user wrote our default or left it out cannot be told; left out is the one that follows it.
    if source.get("boot_args") not in (None, DEFAULT_KERNEL_ARGS):
        boot["kernel_args"] = source["boot_args"]
    return boot


def _root_first(drives: list[Tree]) -> list[Tree]:
    """In an order of its own: Firecracker's is not stable once it runs."""
    return sorted(drives, key=lambda drive: (not _is_root(drive), drive["drive_id"]))


def _is_root(drive: Tree) -> bool:
    # With the user's own root= the root disk is not passed as one; the kind in its id says what it is.
    return bool(drive.get("is_root_device")) or our_id(drive["drive_id"])[0] == "root"


def _disk(drive: Tree, on_host: t.Mapping[str, str]) -> Tree:
    disk: Tree = {"id": our_id(drive["drive_id"])[1], "is_root_device": _is_root(drive)}
    if drive.get("socket"):
        return {**disk, "vhost_user_socket": on_host.get(drive["socket"], drive["socket"])}
    disk.update(path=on_host.get(drive["path_on_host"], drive["path_on_host"]), read_only=bool(drive.get("is_read_only")))
    if drive.get("io_engine"):
        disk["io_engine"] = _OUR_ENGINES[drive["io_engine"]]
    return _with_limits(disk, rate_limit=drive.get("rate_limiter"))


def _nic(nic: Tree) -> Tree:
    ours: Tree = {"id": our_id(nic["iface_id"])[1], "tap_device": nic["host_dev_name"]}
    if nic.get("guest_mac"):
        ours["mac_address"] = nic["guest_mac"].lower()
    if nic.get("mtu"):
        ours["mtu"] = nic["mtu"]
    return _with_limits(ours, rate_limit_rx=nic.get("rx_rate_limiter"), rate_limit_tx=nic.get("tx_rate_limiter"))


def _with_limits(node: Tree, **limits: t.Optional[Tree]) -> Tree:
    for name, limiter in limits.items():
        buckets = {kind: _bucket(bucket) for kind, bucket in (limiter or {}).items() if bucket}
        if buckets:
            node[name] = buckets
    return node


def _bucket(bucket: Tree) -> Tree:
    return {"size": bucket["size"], "refill_ms": bucket["refill_time"], "burst": bucket.get("one_time_burst") or 0}
