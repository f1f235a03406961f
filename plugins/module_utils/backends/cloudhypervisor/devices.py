# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks, network interfaces, vsock and serial port in Cloud Hypervisor's words: the bodies of which C(translate) makes a document. Pure."""

from __future__ import annotations

import typing as t

from ...errors import InvalidArgument, Violation
from .words import DISK, IMAGE_TYPES, IO_ENGINES, NET, put, wire_id

if t.TYPE_CHECKING:
    from ...model.config import VmConfig
    from .wiring import Wiring

Tree = dict[str, t.Any]


def ordered_disks(storage: t.Sequence[Tree]) -> list[tuple[str, Tree]]:
    """Wire id and disk, in the order in which the guest gets them: the root disk first."""
    named = [(wire_id("root" if disk["is_root_device"] else "disk", disk["id"] or str(at)), disk) for at, disk in enumerate(storage)]
    return sorted(named, key=lambda pair: not pair[1]["is_root_device"])


def named_nics(network: t.Sequence[Tree]) -> list[tuple[str, str, Tree]]:
    """Our id, wire id and interface."""
    return [(nic["id"] or str(at), wire_id("net", nic["id"] or str(at)), nic) for at, nic in enumerate(network)]


def disk_body(wire: str, disk: Tree, wiring: Wiring) -> Tree:
    body: Tree = {"id": wire, **put(disk, DISK)}
    if disk["vhost_user_socket"] is not None:
        body.update(vhost_user=True, vhost_socket=wiring.file(wire, disk["vhost_user_socket"]))
    else:
        # Always said: what a guest wrote to its disk must not decide how the disk is read.
        body.update(path=wiring.file(wire, disk["path"]), image_type=IMAGE_TYPES[disk["format"] or "raw"])
        if disk["id"] in wiring.backings:
            # Only for those that we have laid over an image: a qcow2 file of somebody else's must not lead to other files.
            body["backing_files"] = True
    if disk["io_engine"] is not None:
        body["disable_io_uring"], body["disable_aio"] = IO_ENGINES[disk["io_engine"]]
    limiter = _limiter(disk["rate_limit"])
    if limiter:
        body["rate_limiter_config"] = limiter
    return body


def opened_nics(config: VmConfig, wiring: Wiring) -> list[str]:
    """Interfaces that are handed over open, in the words of C(ch-remote add-net). A VM that is created and not booted boots with them."""
    found = []
    for name, wire, nic in named_nics(config.model_dump(mode="json")["network"]):
        if name in wiring.descriptors:
            body = nic_body(name, wire, nic, wiring)
            limiter = body.get("rate_limiter_config", {})
            words = {key: body[key] for key in ("id", "mac", "queue_size") if body.get(key) is not None}
            for kind, prefix in (("bandwidth", "bw"), ("ops", "ops")):
                words.update({f"{prefix}_{word}": value for word, value in limiter.get(kind, {}).items()})
            found.append(",".join([f"fd=[{wiring.descriptors[name]}]", *(f"{key}={value}" for key, value in words.items())]))
    return found


def nic_body(name: str, wire: str, nic: Tree, wiring: Wiring) -> Tree:
    body: Tree = {"id": wire, **put({**nic, "mac_address": nic["mac_address"] or wiring.macs.get(name)}, NET)}
    if nic["vhost_user_socket"] is not None:
        body.update(vhost_user=True, vhost_socket=wiring.file(wire, nic["vhost_user_socket"]))
    else:
        body["tap"] = wiring.taps.get(name, nic["tap_device"])
        if not wiring.sets_tap_mtu:
            body.pop("mtu", None)
    if nic["num_queues"] is not None:
        body["num_queues"] = 2 * nic["num_queues"]
    limiter = _limiter(nic["rate_limit_rx"] if nic["rate_limit_rx"] == nic["rate_limit_tx"] else None, queues=nic["num_queues"] or 1)
    if limiter:
        body["rate_limiter_config"] = limiter
    return body


def _limiter(limit: t.Optional[Tree], queues: int = 1) -> t.Optional[Tree]:
    """Disks share one limiter among their queues; of a NIC each queue pair has its own, so each refills in proportion slower."""
    if limit is None:
        return None
    body = {}
    for name in ("bandwidth", "ops"):
        if limit[name] is not None:
            body[name] = {"size": limit[name]["size"], "refill_time": limit[name]["refill_ms"] * queues}
            if limit[name]["burst"]:
                body[name]["one_time_burst"] = limit[name]["burst"]
    return body or None


def vsock_body(vsock: t.Optional[Tree], wiring: Wiring) -> t.Optional[Tree]:
    if vsock is None:
        return None
    cid, socket = vsock["cid"] or wiring.cid, vsock["path"] or wiring.socket("vsock.sock")
    if cid is None or socket is None:
        lack = "cid" if cid is None else "path"
        raise InvalidArgument.of([Violation(f"config.vsock.{lack}", "is needed for a VMM that somebody else runs: nothing of it is ours to choose.")])
    return {"cid": cid, "socket": socket, "id": "vsock_0"}


def serial_body(console: Tree, wiring: Wiring) -> Tree:
    """C(Tty) is the VMM's stdout: a file that root opened and the VM's uid can neither name nor truncate (mode C(File) truncates at every reboot)."""
    output, path = console["output"], console["path"]
    if not console["enabled"]:
        return {"mode": "Off"}
    if output == "null":
        return {"mode": "Null"}
    if output == "tty":
        return {"mode": "Pty"}
    if output == "socket":
        path = path or wiring.socket("console.sock")
        if path is None:
            raise InvalidArgument.of([Violation("config.console.path", "is needed for a VMM that somebody else runs: nothing of it is ours to choose.")])
        return {"mode": "Socket", "socket": path}
    if path is not None and not wiring.serial_is_stdout:
        return {"mode": "File", "file": path}
    return {"mode": "Tty"}
