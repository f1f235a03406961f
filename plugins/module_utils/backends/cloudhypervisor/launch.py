# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a Cloud Hypervisor process is started and given its VM. Pure, standard library only.

The process starts empty; C(ch-remote), which needs no Python, hands it C(ch.json) and boots it. The file is the one truth: the command line's
own form of a configuration would have to quote commas.
"""

from __future__ import annotations

import typing as t

from ...errors import FailedPrecondition
from ...model.jsontext import key_a_line
from .. import kernel_args
from ..port import FileUse, Isolation, LaunchSpec, Paths, TapUse
from ..taps import descriptors_of, tap_use, told_by_kernel
from .devices import named_nics, opened_nics, ordered_disks
from .translate import document
from .wiring import Wiring
from .words import BOOT_ALIASES, RNG_SOURCE, parse_version, wire_id

if t.TYPE_CHECKING:
    from ...host.layout import VmLayout
    from ...model.config import VmConfig
    from ...model.definition import Definition

DOCUMENT = "ch.json"
SOCKET = "api.sock"
# The socket has its name a moment before it is served, and ch-remote does not try twice. $0: ch-remote, $1: socket. Some seconds at most; the last
# try says why.
_UNTIL_SERVED = 'n=0; until "$0" --api-socket "$1" ping >/dev/null 2>&1; do n=$((n + 1)); [ $n -lt 25 ] || exec "$0" --api-socket "$1" ping; sleep 0.1; done'
# glibc, when a thread ends and gives memory back, reads /proc/sys/vm/overcommit_memory, for which the seccomp filter of a Cloud Hypervisor built with
# glibc kills the process: a clean end would look like a crash. Memory that is never given back is not trimmed. The static (musl) build ignores it.
_ENVIRONMENT = {"MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
# Readable by everybody on every Linux: nothing to hand over to a VM's uid.
_WORLD_READABLE = (RNG_SOURCE, "/dev/random")


def file_uses(config: VmConfig) -> tuple[FileUse, ...]:
    """Kernel and its like, disks (the root disk first), and sockets of vhost-user devices, to which one connects by writing."""
    uses = [FileUse(path, alias) for field, alias in BOOT_ALIASES.items() if (path := getattr(config.boot, field)) is not None]
    ours = config.model_dump(mode="json")
    for wire, disk in ordered_disks(ours["storage"]):
        socket = disk["vhost_user_socket"]
        uses.append(FileUse(socket, wire, writable=True) if socket else FileUse(disk["path"], wire, writable=not disk["read_only"]))
    uses.extend(FileUse(nic["vhost_user_socket"], wire, writable=True) for _id, wire, nic in named_nics(ours["network"]) if nic["vhost_user_socket"])
    return tuple(uses)


def tap_uses(config: VmConfig, generated: t.Mapping[str, t.Any]) -> tuple[TapUse, ...]:
    """Limits that differ by direction are the host's to keep: Cloud Hypervisor has one for both."""
    return tuple(
        tap_use(nic.id or str(at), nic, generated, queue_pairs=nic.num_queues or 1, limited=nic.rate_limit_rx != nic.rate_limit_tx)
        for at, nic in enumerate(config.network)
        if nic.vhost_user_socket is None
    )


def launch_spec(definition: Definition, config: VmConfig, paths: Paths, isolation: Isolation, layout: VmLayout) -> LaunchSpec:
    """The whole start. FailedPrecondition when the definition names no C(ch-remote)."""
    remote = definition.helpers.get("ch-remote")
    if not remote:
        raise FailedPrecondition(
            f"VM {definition.name!r} has no ch-remote beside {definition.binary}, without which Cloud Hypervisor cannot be given its VM. "
            "Install ch-remote of the same version in the same directory, or apply the role unkey.vmcp.vmcp_host."
        )
    socket = f"{paths.sockets}/{SOCKET}"
    config = told_by_kernel(config, definition.generated, kernel_args.DEFAULT)
    taps = tap_uses(config, definition.generated)
    wiring = wiring_of(definition, paths, isolation)
    body = document(config, wiring)
    return LaunchSpec(
        argv=(definition.binary, "--api-socket", f"path={socket}", "--seccomp", "true" if isolation.seccomp else "false"),
        files=file_uses(config),
        taps=taps,
        documents={DOCUMENT: key_a_line(body, sort_keys=False)},
        environment=_ENVIRONMENT,
        stdout_is_console=True,
        before_start=_mtu_commands(taps, isolation),
        after_start=(
            ("/bin/sh", "-c", _UNTIL_SERVED, remote, socket),
            (remote, "--api-socket", socket, "create", layout.document(DOCUMENT)),
            *((remote, "--api-socket", socket, "add-net", text) for text in opened_nics(config, wiring)),
            (remote, "--api-socket", socket, "boot"),
        ),
        wait_socket=socket,
        stop=(remote, "--api-socket", socket, "power-button"),
        devices=_devices(config, taps),
    )


def wiring_of(definition: Definition, paths: Paths, isolation: Isolation) -> Wiring:
    generated = definition.generated
    return Wiring(
        version=parse_version(definition.backend_version),
        paths=paths,
        macs=generated.get("macs", {}),
        taps=generated.get("taps", {}),
        descriptors=descriptors_of(generated),
        backings={entry: chosen["backing"] for entry, chosen in (generated.get("disks") or {}).items() if chosen.get("backing")},
        cid=generated.get("cid"),
        landlock=isolation.jail,
        sets_tap_mtu=isolation.uid is None,
        limits_kept_by_host=True,
        serial_is_stdout=True,
    )


def _mtu_commands(taps: t.Sequence[TapUse], isolation: Isolation) -> tuple[tuple[str, ...], ...]:
    """The VMM takes the MTU that it tells the guest from the tap. It would set it itself, but not with a uid of its own; taps of ours have it already."""
    if isolation.uid is None:
        return ()
    return tuple(("ip", "link", "set", "dev", tap.name, "mtu", str(tap.mtu)) for tap in taps if tap.mtu is not None and not tap.ours)


def _devices(config: VmConfig, taps: t.Sequence[TapUse]) -> tuple[str, ...]:
    devices = ["/dev/kvm"]
    if any(tap.direct is None for tap in taps):
        devices.append("/dev/net/tun")
    if config.rng is not None and config.rng.source.startswith("/dev/") and config.rng.source not in _WORLD_READABLE:
        devices.append(config.rng.source)
    return tuple(devices)


__all__ = ["DOCUMENT", "SOCKET", "file_uses", "launch_spec", "tap_uses", "wire_id", "wiring_of"]
