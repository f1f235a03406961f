# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a QEMU process is started: one complete command line, so that a boot needs no Python. Pure, standard library only."""

from __future__ import annotations

import dataclasses
import json
import typing as t

from .. import kernel_args
from ..port import FileUse, Isolation, LaunchSpec, Paths, TapUse
from ..taps import descriptors_of, tap_use, told_by_kernel
from . import devices, translate
from .words import option

if t.TYPE_CHECKING:
    from ...host.layout import VmLayout
    from ...model.config import VmConfig
    from ...model.definition import Definition

API_SOCKET = "api.sock"
MONITOR_SOCKET = "mon.sock"
# QEMU's own seccomp filter: no old system calls, no new privileges, no children, no changes of its scheduling.
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
# Readable by everybody on every Linux: nothing to hand over to a VM's uid.
_WORLD_READABLE = ("/dev/urandom", "/dev/random")
# QMP for the few moments when neither Python nor our runtime may be needed: a shell cannot speak to a unix socket, Debian's and Ubuntu's essential
# perl can. Arguments: socket, commands. Events come in between; answers begin with "return" or "error". One line: launch files are read by lines.
_QMP_IN_PERL = " ".join(
    (
        "use Socket; alarm 5; my $path = shift;",
        'socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die "socket: $!";',
        'connect($s, sockaddr_un($path)) or die "$path: $!";',
        'defined(<$s>) or die "no greeting";',
        """for my $call ('{"execute":"qmp_capabilities"}', @ARGV) {""",
        'syswrite($s, "$call\\n") or die "$path: $!";',
        'while (1) { my $line = <$s>; defined($line) or die "closed"; last if $line =~ /^."return"/; die $line if $line =~ /^."error"/ } }',
    )
)


def file_uses(config: VmConfig) -> tuple[FileUse, ...]:
    """What is booted, disks (the root disk first), and sockets of vhost-user devices, to which one connects by writing."""
    boot = config.boot
    uses: list[FileUse] = []
    if boot.kernel_path is not None:
        uses.append(FileUse(boot.kernel_path, "kernel"))
        if boot.initrd_path is not None:
            uses.append(FileUse(boot.initrd_path, "initrd"))
    elif boot.firmware_path is not None:
        uses.append(FileUse(boot.firmware_path, "firmware"))
        template = translate.flash(config)
        if template is not None:
            uses.append(FileUse("efivars", "efivars", writable=True, seed=template))
    for _wire, alias, disk in devices.ordered_disks(config):
        if disk.vhost_user_socket is not None:
            uses.append(FileUse(disk.vhost_user_socket, alias, writable=True))
        elif disk.path is not None:
            uses.append(FileUse(disk.path, alias, writable=not disk.read_only))
    uses += [FileUse(nic.vhost_user_socket, alias, writable=True) for _id, alias, nic in devices.named_nics(config) if nic.vhost_user_socket is not None]
    return tuple(uses)


def tap_uses(config: VmConfig, generated: t.Mapping[str, t.Any]) -> tuple[TapUse, ...]:
    """QEMU keeps no limits of interfaces: the host does."""
    return tuple(
        tap_use(our_id, nic, generated, queue_pairs=nic.num_queues or 1, limited=True)
        for our_id, _alias, nic in devices.named_nics(config)
        if nic.vhost_user_socket is None
    )


def launch_spec(definition: Definition, config: VmConfig, paths: Paths, isolation: Isolation, layout: VmLayout) -> LaunchSpec:
    uses = tuple(dataclasses.replace(use, path=f"{layout.data}/{use.path}") if use.seed is not None else use for use in file_uses(config))
    if isolation.uid is None:
        paths = dataclasses.replace(paths, files={**paths.files, **{use.alias: use.path for use in uses if use.seed is not None}})
    wiring = wiring_of(definition, config, paths)
    config = told_by_kernel(config, definition.generated, kernel_args.DEFAULT)
    taps = tap_uses(config, definition.generated)
    return LaunchSpec(
        argv=arguments(definition, config, wiring, isolation),
        files=uses,
        taps=taps,
        stdout_is_console=config.console.enabled and config.console.output == "file",
        after_start=_after_start(config, wiring),
        wait_socket=f"{paths.sockets}/{API_SOCKET}",
        stop=_stop(config, wiring),
        devices=_host_devices(config, taps, wiring.accel),
    )


def _after_start(config: VmConfig, wiring: translate.Wiring) -> tuple[tuple[str, ...], ...]:
    """What the command line has no words for: a balloon that is inflated from the start. QMP counts the memory that is left to the guest."""
    balloon = config.memory.balloon
    if balloon is None or not balloon.size_bytes:
        return ()
    left = config.memory.size_bytes - balloon.size_bytes
    return (_qmp(f"{wiring.sockets}/{API_SOCKET}", {"execute": "balloon", "arguments": {"value": left}}),)


def _stop(config: VmConfig, wiring: translate.Wiring) -> tuple[str, ...]:
    """The power button. Nobody would feel it without ACPI: then SIGTERM at once, upon which QEMU ends in good order and the guest does not."""
    if not translate.has_power_button(config, wiring.pci):
        return ()
    return _qmp(f"{wiring.sockets}/{MONITOR_SOCKET}", {"execute": "cont"}, {"execute": "system_powerdown"})


def _qmp(socket_path: str, *calls: dict[str, t.Any]) -> tuple[str, ...]:
    return ("perl", "-e", _QMP_IN_PERL, socket_path, *(json.dumps(call, separators=(",", ":")) for call in calls))


def wiring_of(definition: Definition, config: VmConfig, paths: Paths) -> translate.Wiring:
    generated = definition.generated
    accel = translate.accelerator(config, generated.get("qemu_accel"))
    return translate.Wiring(
        machine=translate.machine_type(definition.workload, config, accel, generated.get("qemu_machine")),
        accel=accel,
        files=paths.files,
        sockets=paths.sockets,
        macs=generated.get("macs", {}),
        taps=generated.get("taps", {}),
        descriptors=descriptors_of(generated),
        cid=generated.get("cid"),
    )


def arguments(definition: Definition, config: VmConfig, wiring: translate.Wiring, isolation: Isolation) -> tuple[str, ...]:
    extra = config.backend_options.qemu.args if config.backend_options.qemu is not None else []
    return (
        definition.binary,
        *("-nodefaults", "-no-user-config"),
        *("-display", "none"),
        *("-name", option(f"guest={definition.name}", debug_threads=True)),
        *translate.machine(config, wiring),
        *translate.processors(config.cpu, wiring.accel),
        *translate.memory(config.memory, config.cpu.max_vcpu_count or config.cpu.vcpu_count),
        *translate.boot(config, wiring.files),
        *devices.arguments(config, wiring),
        *devices.console(config, wiring.sockets),
        *_qmp_server("api", f"{wiring.sockets}/{API_SOCKET}"),
        # A QMP server talks to one client at a time: readers must not wait for whoever has the first.
        *_qmp_server("monitor", f"{wiring.sockets}/{MONITOR_SOCKET}"),
        *("-action", option(f"reboot={_on_reboot(definition)}", watchdog="reset" if config.watchdog else None)),
        *(("-sandbox", SANDBOX) if isolation.seccomp else ()),
        *extra,
    )


def _qmp_server(name: str, path: str) -> list[str]:
    return ["-chardev", option("socket", id=name, path=path, server=True, wait=False), "-mon", option(f"chardev={name}", mode="control")]


def _on_reboot(definition: Definition) -> str:
    return "shutdown" if definition.restart_policy.get("on_reboot") == "stop" else "reset"


def _host_devices(config: VmConfig, taps: t.Sequence[TapUse], accel: str) -> tuple[str, ...]:
    nodes = []
    if accel.startswith("kvm"):
        nodes.append("/dev/kvm")
    if any(tap.direct is None for tap in taps):
        nodes.append("/dev/net/tun")
    if config.vsock is not None:
        nodes.append("/dev/vhost-vsock")
    if config.rng is not None and config.rng.source.startswith("/dev/") and config.rng.source not in _WORLD_READABLE:
        nodes.append(config.rng.source)
    return tuple(nodes)
