# Copyright (c) 2026 unkey.vmcp contributors
# GNU General Public License v3.0-or-later (see LICENSES/GPL-3.0-or-later.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""dnsmasq, which serves the addresses and names of a network: one for each, as the distribution packages it. Standard library only.

Under systemd a unit of its own keeps it; without, it is a daemon that a task starts, and that the next task finds dead or alive.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import typing as t

from ...errors import DeadlineExceeded, FailedPrecondition
from ..files import last_lines, read_kernel, read_text, remove
from ..trees import ensure_dir
from . import programs
from .store import NetworkFiles

if t.TYPE_CHECKING:
    from ...model.network_definition import Member, NetworkDefinition

STOP_TIMEOUT_S = 5.0


def running(files: NetworkFiles) -> t.Optional[int]:
    """The pid of the network's dnsmasq; None when none runs. A pid alone says nothing: it is ours only when its command line has our file."""
    try:
        pid = int(read_text(files.dns_pid, max_bytes=64))
        words = read_kernel(f"/proc/{pid}/cmdline").split("\0")
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return pid if f"--conf-file={files.dns_config}" in words else None


def state(files: NetworkFiles) -> str:
    """C(running); C(ended): it was started, and not stopped by us; C(off)."""
    if running(files) is not None:
        return "running"
    return "ended" if os.path.lexists(files.dns_pid) else "off"


def reload(files: NetworkFiles) -> bool:
    """Has it read leases and names again. False when none runs: it reads them when it starts."""
    pid = running(files)
    if pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGHUP)
        return True
    return False


def start(files: NetworkFiles) -> None:
    """As a daemon. FailedPrecondition with what it says when it does not start."""
    ensure_dir(files.run, 0o755, sync=False)
    log = f"{files.run}/dnsmasq.log"
    try:
        programs.run(["dnsmasq", f"--conf-file={files.dns_config}", f"--log-facility={log}"])
    except programs.RefusedError as exc:
        said = " ".join([str(exc), *last_lines(log, 3)])
        raise FailedPrecondition(f"dnsmasq of network {files.name} does not start: {said}. Another server may have the port; see {files.dns_config}.") from exc


def stop(files: NetworkFiles) -> None:
    """Ends it and forgets that it was started. DeadlineExceeded when it does not end."""
    pid = running(files)
    if pid is not None and not _end(pid):
        raise DeadlineExceeded(f"dnsmasq of network {files.name} (process {pid}) does not end. Look at it and run the task again.")
    remove(files.dns_pid)


def _end(pid: int) -> bool:
    """By a descriptor, which says when the process is gone with its sockets: its command line is gone before them."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, number)
            if poll.poll(STOP_TIMEOUT_S * 1000):
                return True
    finally:
        os.close(descriptor)
    return False


def release(network: NetworkDefinition, gone: t.Sequence[Member]) -> None:
    """Tells dnsmasq that these have given their addresses back, as they would themselves (DHCPRELEASE): while it believes that a guest has an address, it
    gives it to no other."""
    if network.ipv4 is None or network.bridge is None:
        return
    server = network.ipv4.partition("/")[0]
    leaving = [(member.mac, address) for member in gone for address in member.addresses if ":" not in address]
    if not leaving:
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, network.bridge.encode())
            for mac, address in leaving:
                sock.sendto(release_packet(mac, address, server), (server, 67))
        except OSError:
            # The network is down, and with it whoever believed anything: dnsmasq forgets when the lease ends.
            return


def release_packet(mac: str, address: str, server: str) -> bytes:
    """A DHCPRELEASE (RFC 2131) from the client with this MAC address."""
    hardware = bytes.fromhex(mac.replace(":", ""))
    head = struct.pack("!BBBBIHH4s4s4s4s16s64s128s", 1, 1, 6, 0, 0x76636D70, 0, 0, socket.inet_aton(address), bytes(4), bytes(4), bytes(4), hardware, b"", b"")
    return head + bytes([99, 130, 83, 99, 53, 1, 7, 54, 4]) + socket.inet_aton(server) + b"\xff"


def leases(files: NetworkFiles) -> dict[str, int]:
    """Addresses that guests have asked for and got, each with the end of its lease in seconds since 1970 (0: it never ends)."""
    try:
        lines = read_text(files.leases).splitlines()
    except FileNotFoundError:
        return {}
    found = {}
    for line in lines:
        # End, MAC address (IPv6: an id), address, name, client id; between them a line that tells the server's DUID.
        words = line.split()
        if len(words) >= 4 and words[0].isdecimal():
            found[words[2]] = int(words[0])
    return found
