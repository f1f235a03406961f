# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A document of C(vm.create), or C(config) of C(vm.info), in our words: the way back of C(translate). Pure, standard library only."""

from __future__ import annotations

import typing as t

from .. import kernel_args
from .words import (
    BALLOON,
    CPUS,
    DISK,
    IMAGE_TYPES,
    IO_ENGINES,
    MEMORY,
    MEMORY_FLAGS,
    NET,
    PAYLOAD_FILES,
    ZONE,
    is_said,
    our_id,
)

Tree = dict[str, t.Any]

_FORMATS = {theirs: ours for ours, theirs in IMAGE_TYPES.items()}
_ENGINES = {flags: engine for engine, flags in IO_ENGINES.items()}


def unified(body: t.Mapping[str, t.Any]) -> Tree:
    """The tree under C(config), as plain values, with what the document says and nothing else.

    Translating the result again gives the same document. What a document does not hold comes back as it is there: paths as the VMM sees them
    (the VM's own sockets are left out), a tap of ours as the tap and not its bridge, kernel arguments as the shortest text with the
    same outcome. Keys that only Cloud Hypervisor has are left out."""
    disks = body.get("disks") or []
    root = _root_at(body, disks)
    storage = [_disk(disk, at == root) for at, disk in enumerate(disks)]
    tree: Tree = {
        "cpu": _cpu(body.get("cpus") or {}),
        "memory": _memory(body.get("memory") or {}, body.get("balloon")),
        "boot": _boot(body.get("payload") or {}, None if root is None else storage[root]),
        "storage": storage,
        "network": [_nic(nic) for nic in body.get("net") or []],
        "console": _console(body.get("serial") or {"mode": "Null"}),
    }
    if body.get("rng"):
        tree["rng"] = {"source": body["rng"]["src"]}
    if body.get("vsock"):
        tree["vsock"] = {"cid": body["vsock"]["cid"], **_path_of_its_own("path", body["vsock"]["socket"])}
    if body.get("watchdog"):
        tree["watchdog"] = True
    return tree


def _take(source: t.Mapping[str, t.Any], pairs: t.Iterable[tuple[str, str]]) -> Tree:
    return {mine: source[theirs] for mine, theirs in pairs if is_said(source.get(theirs))}


def _root_at(body: t.Mapping[str, t.Any], disks: t.Sequence[Tree]) -> t.Optional[int]:
    for at, disk in enumerate(disks):
        kind, _id = our_id(disk.get("id") or "")
        if kind == "root":
            return at
        if kind:
            return None
    line = (body.get("payload") or {}).get("cmdline") or ""
    return 0 if disks and any(word.startswith(f"root={kernel_args.ROOT_DEVICE}") for word in line.split()) else None


def _cpu(cpus: Tree) -> Tree:
    tree = _take(cpus, CPUS)
    for key in ("nested", "features"):
        if cpus.get(key) is not None:
            tree[key] = cpus[key]
    return tree


def _memory(memory: Tree, balloon: t.Optional[Tree]) -> Tree:
    zones = memory.get("zones") or []
    size = sum(zone["size"] for zone in zones) or memory.get("size")
    tree = {"size_bytes": size, **_take(memory, MEMORY)}
    if memory.get("hotplug_size"):
        tree["max_size_bytes"] = size + memory["hotplug_size"]
    if zones:
        tree["zones"] = [_zone(zone, memory) for zone in zones]
    if balloon is not None:
        tree["balloon"] = {"size_bytes": 0, **_take(balloon, BALLOON)}
    return tree


def _zone(zone: Tree, memory: Tree) -> Tree:
    tree = {"id": our_id(zone["id"])[1], **_take(zone, ZONE)}
    # What the memory as a whole says was written into each zone.
    for flag in MEMORY_FLAGS:
        if memory.get(flag):
            tree.pop(flag, None)
    if tree.get("hugepage_size_bytes") == memory.get("hugepage_size"):
        tree.pop("hugepage_size_bytes", None)
    return tree


def _boot(payload: Tree, root: t.Optional[Tree]) -> Tree:
    tree = _take(payload, PAYLOAD_FILES)
    if payload.get("cmdline") is not None:
        root_read_only = bool(root.get("read_only")) if root is not None and "kernel_path" in tree else None
        tree["kernel_args"] = kernel_args.shortest(payload["cmdline"], root_read_only)
    return tree


def _disk(disk: Tree, is_root: bool) -> Tree:
    tree = {**_take(disk, DISK), "is_root_device": is_root}
    if disk.get("id"):
        tree["id"] = our_id(disk["id"])[1]
    if disk.get("vhost_user"):
        tree["vhost_user_socket"] = disk["vhost_socket"]
    else:
        tree["path"] = disk.get("path")
        # Unknown is their guessing, which has no word of ours.
        if disk.get("image_type") in _FORMATS:
            tree["format"] = _FORMATS[disk["image_type"]]
    engine = _ENGINES.get((bool(disk.get("disable_io_uring")), bool(disk.get("disable_aio"))))
    if engine:
        tree["io_engine"] = engine
    limit = _limit(disk.get("rate_limiter_config"), 1)
    if limit:
        tree["rate_limit"] = limit
    return tree


def _nic(nic: Tree) -> Tree:
    tree = _take(nic, NET)
    if nic.get("id"):
        tree["id"] = our_id(nic["id"])[1]
    if nic.get("vhost_user"):
        tree["vhost_user_socket"] = nic["vhost_socket"]
    elif nic.get("tap"):
        tree["tap_device"] = nic["tap"]
    if nic.get("num_queues"):
        tree["num_queues"] = nic["num_queues"] // 2
    limit = _limit(nic.get("rate_limiter_config"), tree.get("num_queues", 1))
    if limit:
        tree.update(rate_limit_rx=limit, rate_limit_tx=limit)
    return tree


def _limit(limiter: t.Optional[Tree], queues: int) -> t.Optional[Tree]:
    tree = {}
    for name in ("bandwidth", "ops"):
        bucket = (limiter or {}).get(name)
        if bucket:
            tree[name] = {"size": bucket["size"], "refill_ms": bucket["refill_time"] // queues, "burst": bucket.get("one_time_burst") or 0}
    return tree or None


def _console(serial: Tree) -> Tree:
    mode = serial.get("mode")
    if mode == "Off":
        return {"enabled": False}
    if mode == "Pty":
        return {"enabled": True, "output": "tty"}
    if mode == "Socket":
        return {"enabled": True, "output": "socket", **_path_of_its_own("path", serial["socket"])}
    if mode == "File":
        return {"enabled": True, "output": "file", **_path_of_its_own("path", serial["file"])}
    return {"enabled": True, "output": "file" if mode == "Tty" else "null"}


def _path_of_its_own(key: str, path: str) -> Tree:
    """The VM's own sockets are relative to where its VMM was started; a path that a user chose is absolute."""
    return {key: path} if path.startswith("/") else {}
